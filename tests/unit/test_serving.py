"""Scores and continuations of raw text, on a bigram model whose numbers are known by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn

from nextword.serving import Sampling, TextModel

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

    def next_log_prob(self, state: Tensor) -> Tensor:
        return self.log_prob_VV[state]


@pytest.fixture(scope="module")
def model():
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextModel(Bigram(), tokenizer, eos_id=0, unk_id=1)


def test_encode_and_decode(model):
    assert model.encode("A b\nzebra\n") == [2, 3, 0, 1, 0]
    assert model.encode("") == [0]
    assert model.decode([2, 3, 0, 0, 3]) == "a b\n\nb"


def test_score_by_hand(model):
    score = model.score(["a b\nb"])[0]
    assert score.num_tokens == 5
    expected = math.log(0.6) + math.log(0.7) + math.log(0.6) + math.log(0.2) + math.log(0.6)
    assert score.log_prob_nats == pytest.approx(expected, abs=1e-12)
    assert score.perplexity == pytest.approx(math.exp(-expected / 5))


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


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"temperature": -1.0}, {"temperature": math.nan}, {"top_k": -1}])
def test_sampling_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*; give"):
        Sampling(**wrong)
