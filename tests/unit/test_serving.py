"""Scores and continuations of raw text, on a bigram model whose numbers are known by hand."""

from __future__ import annotations

import json
import math
import shutil
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from nextword.evaluation import bootstrap
from nextword.ngram import count_ngrams, estimate
from nextword.serving import Sampling, TextModel, Vocabulary
from nextword.serving.backends import Network, Ngrams
from nextword.serving.measuring import compare, describe_comparison
from nextword.serving.reading import in_batches, read_split

VOCABULARY = {"<eos>": 0, "<unk>": 1, "a": 2, "b": 3}
#            next: <eos> <unk>  a    b
BIGRAM = [[0.1, 0.1, 0.6, 0.2], [0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.1, 0.7], [0.6, 0.2, 0.1, 0.1]]


class Bigram(nn.Module):
    """P(w | v) from a table; the state is the last word, ``<eos>`` at the start."""

    left_to_right = True

    def __init__(self) -> None:
        super().__init__()
        self.log_prob_VV = nn.Parameter(torch.tensor(BIGRAM, dtype=torch.float64).log())

    def initial_state(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.long)

    def score(self, tokens_TB: Tensor, state: Tensor) -> tuple[Tensor, Any]:
        before_TB = torch.cat([state[None], tokens_TB[:-1]])
        return self.log_prob_VV[before_TB, tokens_TB], tokens_TB[-1]

    def hidden(self, tokens_TB: Tensor, state: Tensor) -> tuple[None, Tensor]:
        return None, tokens_TB[-1]

    def next_log_prob(self, state: Tensor) -> Tensor:
        return self.log_prob_VV[state]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ids")
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    meta = {"kind": "word", "vocab_size": 4, "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "abc"}
    (folder / "meta.json").write_text(json.dumps(meta))
    return Vocabulary.load(folder)


@pytest.fixture(scope="module")
def model(vocabulary):
    return TextModel("bigram", Network(Bigram()), vocabulary)


@pytest.fixture(scope="module")
def bigram_counts(vocabulary):
    """Maximum likelihood of ``a b``, ``a a``, ``a b``: p(a | <s>) = 1, p(b | a) = 2/4, p(<eos> | b) = 1."""
    ids = np.array([2, 3, 0, 2, 2, 0, 2, 3, 0], dtype=np.uint8)
    return TextModel("mle", Ngrams(estimate(count_ngrams(ids, 0, 3, 4), "mle", 2)), vocabulary)


def test_encode_and_decode(vocabulary, model):
    assert vocabulary.encode_lines(["A b", "zebra", ""]).tolist() == [2, 3, 0, 1, 0, 0]
    assert vocabulary.encode_lines([]).tolist() == []
    assert vocabulary.decode_open([2, 3, 0, 0, 3]) == "a b\n\nb"
    assert [model.prompt_ids(prompt) for prompt in ("", "a b", "a\n", "a\n\n")] == [[], [2, 3], [2, 0], [2, 0, 0]]


def test_score_by_hand(model):
    score = model.score(["a b\nb"])[0]
    assert score.num_tokens == 5
    expected = math.log(0.6) + math.log(0.7) + math.log(0.6) + math.log(0.2) + math.log(0.6)
    assert score.log_prob_nats == pytest.approx(expected, abs=1e-12)
    assert score.perplexity == pytest.approx(math.exp(-expected / 5))


def test_line_ends_may_be_those_of_any_system(vocabulary, tmp_path):
    """A model of characters would predict each CR, of which training text has none."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    shutil.copy(vocabulary.folder / "meta.json", tmp_path)
    model = TextModel("characters", Network(Bigram()), Vocabulary.load(tmp_path))
    for text in ("ab\r\nb\r\n", "ab\rb\r"):
        assert model.score([text]) == model.score(["ab\nb\n"])
        assert model.prompt_ids(text) == model.prompt_ids("ab\nb\n") == [2, 3, 0, 3, 0]


def test_score_does_not_depend_on_what_stands_beside(model):
    texts = [" ".join("ab"[(i * j) % 2] for j in range(i * 7 % 150)) for i in range(70)]
    together = [score.log_prob_nats for score in model.score(texts)]
    alone = [model.score([text])[0].log_prob_nats for text in texts]
    assert together == pytest.approx(alone, abs=1e-9)
    assert model.score([]) == []


def test_greedy_continuation(model):
    greedy = Sampling(max_tokens=4, temperature=0)
    assert model.continuations(["a", "b b", "a\n", ""], greedy) == ["b\na b", "\na b\n", "a b\na", "a b\na"]


def test_sampling_follows_the_model_without_the_unknown_word(model):
    drawn = model.continuations(["a"] * 2000, Sampling(max_tokens=1, seed=1))
    assert "<unk>" not in drawn
    assert drawn.count("b") / 2000 == pytest.approx(0.7 / 0.9, abs=0.03)
    assert drawn == model.continuations(["a"] * 2000, Sampling(max_tokens=1, seed=1))
    assert drawn != model.continuations(["a"] * 2000, Sampling(max_tokens=1, seed=2))
    assert set(model.continuations(["a"] * 50, Sampling(max_tokens=1, top_k=1))) == {"b"}


def test_a_continuation_does_not_depend_on_what_stands_beside(model):
    """Prompts of other lengths are drawn in other groups; the place in the list and the seed decide."""
    together = model.continuations(["a", "b b", "a", "", "a"], Sampling(max_tokens=20, seed=3))
    assert together[0] == model.continuations(["a"], Sampling(max_tokens=20, seed=3))[0]
    assert together[4] == model.continuations(["b"] * 4 + ["a"], Sampling(max_tokens=20, seed=3))[4]
    assert len(set(together)) == 5


def test_n_gram_scores_and_continuations_by_hand(bigram_counts):
    scores = bigram_counts.score(["a b\na a", "a b", "b"])
    assert [score.num_tokens for score in scores] == [6, 3, 2]
    assert scores[0].log_prob_nats == pytest.approx(math.log(2 / 4) + math.log(1 / 4) + math.log(1 / 4), abs=1e-12)
    assert scores[1].log_prob_nats == pytest.approx(math.log(2 / 4), abs=1e-12)
    assert scores[2].perplexity == math.inf
    greedy = Sampling(max_tokens=4, temperature=0)
    assert bigram_counts.continuations(["", "a", "a b\n"], greedy) == ["a b\na", "b\na b", "a b\na"]
    drawn = bigram_counts.continuations(["a"] * 2000, Sampling(max_tokens=1))
    assert drawn.count("b") / 2000 == pytest.approx(2 / 4, abs=0.04)
    assert set(drawn) == {"a", "b", "\n"}
    with pytest.raises(ValueError, match="gives no word a probability here"):
        bigram_counts.continuations(["zebra"], greedy)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_n_gram_distributions_agree_with_scores_at_every_prefix(order):
    rng = np.random.default_rng(order)
    ids = np.where(rng.random(400) < 0.15, 0, rng.integers(1, 6, 400)).astype(np.uint8)
    ids[-1] = 0
    backend = Ngrams(estimate(count_ngrams(ids, 0, 3, 6), "modified_kneser_ney", order))
    text = ids[:40].astype(np.int64)
    nats = backend.nats(text, np.array([0, 40]))
    state = backend.initial_state(1)
    for step, token in enumerate(text):
        log_prob_V = backend.next_log_prob(state)[0]
        assert np.exp(log_prob_V).sum() == pytest.approx(1)
        assert -log_prob_V[token] == pytest.approx(nats[step])
        state = backend.read(text[step : step + 1, None], state)


def test_a_state_that_overflowed_predicts_nothing(vocabulary):
    network = Bigram()
    network.log_prob_VV.data[2] = math.nan
    broken = TextModel("broken", Network(network), vocabulary)
    assert broken.score(["b", "a b"])[0].perplexity < math.inf
    assert broken.score(["b", "a b"])[1].perplexity == math.inf
    with pytest.raises(ValueError, match="gives no word a probability"):
        broken.continuations(["a"], Sampling())


def test_batches_are_bounded_in_lines_and_in_characters():
    assert [len(batch) for batch in in_batches(iter(["a"] * 10_000))] == [4096, 4096, 1808]
    long = ["a" * 100_000] * 25
    batches = list(in_batches(iter(long)))
    assert [len(batch) for batch in batches] == [11, 11, 3] and list(chain.from_iterable(batches)) == long
    assert list(in_batches(iter([]))) == []


def test_a_comparison_says_that_documents_are_merged(model, monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "MAX_BLOCKS", 10)
    (tmp_path / "text.txt").write_text("a b\n\n" * 30)
    split = read_split(tmp_path / "text.txt", model.vocabulary)
    report = compare(model, model, split)
    assert (report["blocks"], report["num_blocks"]) == ("neighbours", 10)
    assert "90 targets, 10 blocks of neighbouring documents" in describe_comparison(report)
    monkeypatch.setattr(bootstrap, "MAX_BLOCKS", 30)
    assert "90 targets, 30 documents" in describe_comparison(compare(model, model, split))


P = [0.1, 0.4, 0.2, 0.3]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), P),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(top_p=0.01), [0, 1, 0, 0]),
        (Sampling(top_k=3, top_p=0.7), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (Sampling(temperature=0), [0, 1, 0, 0]),
        (Sampling(top_k=9), P),
    ],
)
def test_what_is_drawn_has_the_distribution_asked_for(sampling, expected):
    """Inversion at evenly spaced points gives each type its share to the width of a point."""
    points = (np.arange(9000) + 0.5) / 9000
    drawn = sampling.pick(np.tile(np.log(P), (len(points), 1)), points)
    assert np.bincount(drawn, minlength=4) / len(points) == pytest.approx(expected, abs=2e-4)


def test_the_ends_of_the_unit_interval_draw_types_of_some_probability():
    rng = np.random.default_rng(0)
    log_prob_BV = np.log(rng.random((200, 7)))
    log_prob_BV[:, [0, 6]] = -np.inf
    for sampling in (Sampling(), Sampling(top_p=0.999), Sampling(top_k=7)):
        for end in (0.0, np.nextafter(1, 0)):
            assert np.isfinite(log_prob_BV[np.arange(200), sampling.pick(log_prob_BV, np.full(200, end))]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
    ],
)
def test_sampling_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; give"):
        Sampling(**wrong)
