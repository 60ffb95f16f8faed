"""Sparsity of n-grams counted by hand and by plain Python."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from probe_fixtures import encode

from nextword.config import NgramParams
from nextword.config.probes import SparsityParams
from nextword.ngram import count_ngrams, estimate
from nextword.probes.sparsity import ngram_sparsity
from nextword.text import EncodedCorpus, load_ids

SMOOTHINGS = ("mle", "modified_kneser_ney")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(25)]

    def document(lines: int) -> str:
        return "\n".join(" ".join(rng.choices(words, range(1, 26), k=rng.randint(1, 9))) for _ in range(lines))

    documents = {split: [document(rng.randint(8, 20)) for _ in range(n)] for split, n in (("train", 12), ("valid", 4))}
    return encode(tmp_path_factory.mktemp("sparsity"), **documents, test=["w1"])


def ngrams(ids: np.ndarray, eos: int, order: int) -> Counter[tuple[int, ...]]:
    """Of all lines, each with one <s> (-1) before it; <s> itself is no event."""
    found: Counter[tuple[int, ...]] = Counter()
    line = [-1]
    for word in ids.tolist():
        line.append(word)
        if word == eos:
            found.update(
                tuple(line[i : i + order]) for i in range(len(line) - order + 1) if line[i : i + order] != [-1]
            )
            line = [-1]
    return found


def test_all_of_train_by_plain_counting(corpus: EncodedCorpus) -> None:
    done: list[tuple[int, int]] = []
    params = SparsityParams(fractions=(1.0,), smoothings=SMOOTHINGS)
    ngram = NgramParams(max_order=3)
    report = ngram_sparsity(corpus.folder, params, ngram, lambda *count: done.append(count))
    assert done == [(1, 1)]
    (part,) = report["parts"]
    train, valid = corpus["train"], corpus["valid"]
    assert part["tokens"] == train.num_tokens and part["share"] == 1.0
    assert report["num_targets"] == valid.num_tokens and report["num_documents"] == 4
    counts = count_ngrams(train.ids, corpus.eos_id, 3, corpus.vocab_size)
    for row in part["orders"]:
        order = row["order"]
        seen = ngrams(np.asarray(train.ids), corpus.eos_id, order)
        asked = ngrams(np.asarray(valid.ids), corpus.eos_id, order)
        assert row["types"] == len(seen) and row["tokens"] == seen.total()
        assert row["singletons"] == sum(count == 1 for count in seen.values())
        unseen = sum(count for ngram, count in asked.items() if ngram not in seen)
        assert row["unseen_share"] == pytest.approx(unseen / asked.total())
        assert row["possible"] == corpus.vocab_size**order
        mle, kneser_ney = row["models"]
        assert (mle["smoothing"], kneser_ney["smoothing"]) == SMOOTHINGS
        assert mle["infinite_share"] == pytest.approx(row["zero_probability"]["mean"])
        assert (mle["perplexity"]["mean"] is None) == (mle["infinite_share"] > 0)
        assert kneser_ney["infinite_share"] == 0.0
        nats = estimate(counts, "modified_kneser_ney", order).score_ids(valid.ids)
        assert kneser_ney["perplexity"]["mean"] == pytest.approx(math.exp(nats.mean()))
        assert kneser_ney["perplexity"]["low"] < kneser_ney["perplexity"]["mean"] < kneser_ney["perplexity"]["high"]
        assert kneser_ney["perplexity_of_finite"] == pytest.approx(kneser_ney["perplexity"]["mean"])
    assert [row["zero_probability"]["mean"] > 0 for row in part["orders"]][1:] == [True, True]
    json.dumps(report, allow_nan=False)


def test_parts_grow_and_hold_one_another(corpus: EncodedCorpus) -> None:
    params = SparsityParams(fractions=(1.0, 0.2, 0.5), smoothings=("modified_kneser_ney",))
    report = ngram_sparsity(corpus.folder, params, NgramParams(max_order=3))
    parts = report["parts"]
    longest_line = int(np.diff(corpus["train"].line_starts).max())
    for part, fraction in zip(parts, (0.2, 0.5, 1.0), strict=True):
        assert 0 <= part["tokens"] - fraction * corpus["train"].num_tokens < longest_line
        assert part["share"] == part["tokens"] / corpus["train"].num_tokens
        assert [row["order"] for row in part["orders"]] == [1, 2, 3]
        assert part["types_seen"] == part["orders"][0]["types"]
    for order in range(3):
        rows = [part["orders"][order] for part in parts]
        assert [row["types"] for row in rows] == sorted(row["types"] for row in rows)
        shares = [row["unseen_share"] for row in rows]
        assert shares == sorted(shares, reverse=True)  # what was seen stays seen
    other = ngram_sparsity(corpus.folder, params.model_copy(update={"seed": 1}), NgramParams(max_order=3))
    assert other["parts"][2] == parts[2] and other["parts"][0] != parts[0]


def test_a_corpus_of_one_document_is_cut_at_lines(tmp_path: Path) -> None:
    lines = "\n".join(["a b c", "b c d", "c d e", "d e f"])
    folder = encode(tmp_path, train=[lines], valid=["a b\nc d"], test=["a"]).folder
    params = SparsityParams(fractions=(0.5, 0.6), smoothings=("mle",))
    report = ngram_sparsity(folder, params, NgramParams(max_order=2))
    assert [part["tokens"] for part in report["parts"]] == [8, 12]
    half = report["parts"][0]["orders"]
    assert load_ids(folder).vocab_size == 8  # a to f, <eos>, <unk>
    # order 2: <s> a, a b, b c, c <eos>, <s> b, b c, c d, d <eos>; valid: <s> a, a b, b <eos>, <s> c, c d, d <eos>
    assert (half[1]["types"], half[1]["tokens"], half[1]["singletons"]) == (7, 8, 6)
    assert half[1]["unseen_share"] == pytest.approx(2 / 6)
    assert half[1]["zero_probability"] == {"mean": pytest.approx(2 / 6), "low": None, "high": None, "count": 1}
    assert half[1]["models"][0]["perplexity"] == {"mean": None, "low": None, "high": None}
    assert half[1]["models"][0]["infinite_share"] == pytest.approx(2 / 6)
    # p(a | <s>) = 1/2, p(b | a) = 1, p(d | c) = 1/2, p(<eos> | d) = 1
    assert half[1]["models"][0]["perplexity_of_finite"] == pytest.approx(4 ** (1 / 4))


def test_unknown_smoothing(corpus: EncodedCorpus) -> None:
    with pytest.raises(ValueError, match="unknown smoothing 'good_turing'"):
        ngram_sparsity(corpus.folder, SparsityParams(smoothings=("good_turing",)), NgramParams())
