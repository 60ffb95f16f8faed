"""Context use: models whose reach is known, targets and treatments by hand, the effective length."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from probe_fixtures import encode

from nextword.config import ModelParams
from nextword.config.probes import ContextParams
from nextword.evaluation.neural import score_split
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.probes import context
from nextword.probes.context import context_use, document_nats, draw_targets, effective_length, sequence_nats
from nextword.text import EncodedCorpus

LENGTHS = (1, 2, 3, 4, 8, 16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    rng = random.Random(0)
    words = [f"w{i}" for i in range(30)]

    def document(length: int) -> str:
        return "\n".join(" ".join(rng.choices(words, range(1, 31), k=7)) for _ in range(length // 8))

    # lengths of test: 10 lines, one line, 6 lines, 20 lines; a line of 7 words is 8 tokens
    splits = {"train": [800], "valid": [80], "test": [80, 8, 48, 160]}
    documents = {split: [document(n) for n in lengths] for split, lengths in splits.items()}
    return encode(tmp_path_factory.mktemp("context"), **documents)


def build(corpus: EncodedCorpus, **params: Any) -> LanguageModel:
    torch.manual_seed(0)
    size = {"embedding_size": 12, "hidden_size": 12, "init_scale": 1.0}
    return build_model(ModelParams.model_validate(size | params), corpus.vocab_size, corpus.eos_id).double().eval()


@pytest.mark.parametrize("window", [1, 3])
def test_a_fixed_window_is_found_exactly(corpus: EncodedCorpus, window: int) -> None:
    model = build(corpus, kind="nnlm", window=window)
    report = context_use(model, corpus, corpus["test"], ContextParams(lengths=LENGTHS, targets=60), seed=1)
    for row in report["truncated"]:
        exact = row["length"] >= window
        assert (row["increase"]["mean"] == row["increase"]["low"] == row["increase"]["high"] == 0.0) == exact
        assert (row["nats"]["mean"] == report["document"]["nats"]["mean"]) == exact
    for treatment in context.TREATMENTS:
        changed = [row["length"] for row in report[treatment] if row["increase"]["mean"] != 0.0]
        assert changed == [length for length in LENGTHS if length < window]
    assert report["effective_length"]["tokens"] <= window


def test_a_recurrent_model_uses_all_that_it_is_given(corpus: EncodedCorpus) -> None:
    model = build(corpus, kind="lstm")
    done: list[tuple[int, int]] = []
    params = ContextParams(lengths=LENGTHS, targets=60, tolerance=1e-9)
    report = context_use(model, corpus, corpus["test"], params, 1, lambda *count: done.append(count))
    assert report["num_targets"] == 60 and report["lengths"] == list(LENGTHS) and report["lengths_left_out"] == []
    assert all(row["increase"]["mean"] != 0.0 for row in report["truncated"])
    for treatment in ("shuffled", "dropped_frequent", "dropped_rare"):
        assert [row["length"] for row in report[treatment]] == list(LENGTHS[:-1])
        for row in report[treatment]:
            assert row["increase"]["mean"] != 0.0
            assert row["nats"]["low"] < row["nats"]["mean"] < row["nats"]["high"]
            base = report["truncated"][-1]["nats"]["mean"]
            assert row["increase"]["mean"] == pytest.approx(row["nats"]["mean"] - base, abs=1e-12)
    assert done == [(i, 22) for i in range(1, 23)]
    assert report == context_use(model, corpus, corpus["test"], params, 1)
    assert report != context_use(model, corpus, corpus["test"], params, 2)


@pytest.mark.parametrize("kind", ["lstm", "gru", "nnlm"])
def test_nats_are_those_of_the_evaluation(corpus: EncodedCorpus, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SIDE_BY_SIDE", 3)
    model, test = build(corpus, kind=kind, **({"window": 4} if kind == "nnlm" else {})), corpus["test"]
    places = draw_targets(test, 5, 40, np.random.default_rng(0))
    evaluated, _ = score_split(model, test, "stateful", 2)
    np.testing.assert_allclose(document_nats(model, test, places), evaluated[places], rtol=1e-6)
    # a context that begins where the document begins is the whole of it
    start = int(test.document_starts[3])
    words = test.ids[start : start + 9].astype(np.int64)
    np.testing.assert_allclose(sequence_nats(model, words[None, :8], words[8:]), evaluated[start + 8], rtol=1e-6)


def test_targets_have_their_context_in_their_document(corpus: EncodedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    test = corpus["test"]
    places = draw_targets(test, 40, 10_000, np.random.default_rng(0))
    expected = [*range(40, 80), *range(80 + 8 + 40, 80 + 8 + 48), *range(136 + 40, 136 + 160)]
    assert places.tolist() == expected
    some = draw_targets(test, 40, 20, np.random.default_rng(0))
    assert len(set(some.tolist())) == 20 and set(some) <= set(expected) and sorted(some) == some.tolist()
    monkeypatch.setattr(context, "WITHIN", 10)
    near = draw_targets(test, 40, 10_000, np.random.default_rng(0))
    assert near.tolist() == [*range(40, 50), *range(128, 136), *range(176, 186)]


def test_treatments_by_hand() -> None:
    far, near = [5, 1, 5, 2, 1, 3], [9, 8]
    counts = np.array([0, 40, 30, 20, 0, 10, 0, 0, 0, 99])
    rows = np.array([far + near] * 50)
    found = {(name, n): x for name, n, x in context._conditions(rows, [2, 8], counts, np.random.default_rng(0))}
    assert found["truncated", 2].tolist() == [near] * 50 and found["truncated", 8].tolist() == rows.tolist()
    assert found["dropped_frequent", 2].tolist() == [[5, 5, 3, *near]] * 50
    assert found["dropped_rare", 2].tolist() == [[1, 2, 1, *near]] * 50
    shuffled = found["shuffled", 2]
    assert (np.sort(shuffled[:, :6], axis=1) == sorted(far)).all() and (shuffled[:, 6:] == near).all()
    assert len(np.unique(shuffled, axis=0)) > 25  # each target has an order of its own
    assert set(found) == {(name, 2) for name in ("truncated", *context.TREATMENTS)} | {("truncated", 8)}


def test_effective_length_by_hand() -> None:
    lengths = [1, 4, 16]
    curves = np.array([[3.0, 2.0, 2.0], [3.0, 2.4, 2.0], [2.0, 2.0, 2.0], [5.0, 4.0, 3.0], [math.inf, 2.0, 2.0]])
    found = effective_length(lengths, curves, np.full(5, 2.0), tolerance=0.1)
    # 3 -> 2 crosses 2.2 at 0.8 of the way from log 1 to log 4; 2.4 -> 2 half-way from log 4 to log 16
    np.testing.assert_allclose(found, [4**0.8, 8.0, 1.0, math.inf, 4.0])


def test_too_short_documents(corpus: EncodedCorpus) -> None:
    model = build(corpus, kind="gru")
    report = context_use(model, corpus, corpus["test"], ContextParams(lengths=(4, 200, 159), targets=5), seed=0)
    assert report["lengths"] == [4, 159] and report["lengths_left_out"] == [200]
    assert report["num_targets"] == 1
    with pytest.raises(ValueError, match=r"no document of test has more than 160 tokens before a target"):
        context_use(model, corpus, corpus["test"], ContextParams(lengths=(160,)), seed=0)
    with pytest.raises(ValueError, match="bidirectional"):
        context_use(build(corpus, kind="gru", bidirectional=True), corpus, corpus["test"], ContextParams(), seed=0)


def test_a_model_that_overflowed(corpus: EncodedCorpus) -> None:
    model = build(corpus, kind="rnn")
    with torch.no_grad():
        model.output.bias.fill_(math.nan)
    report = context_use(model, corpus, corpus["test"], ContextParams(lengths=(1, 2), targets=8), seed=0)
    assert report["document"]["nats"]["mean"] == math.inf
    assert math.isinf(report["effective_length"]["tokens"])
