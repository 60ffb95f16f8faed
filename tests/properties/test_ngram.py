"""What holds for every smoothing, order and text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextword.config import NgramParams
from nextword.ngram import SMOOTHINGS, count_ngrams, estimate

VOCAB_SIZE = 7
texts = st.lists(st.integers(0, VOCAB_SIZE - 2), max_size=60).map(lambda ids: np.array([*ids, 0]))
contexts = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=5)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@settings(deadline=None, max_examples=60)
@given(train=texts, held_out=texts, context=contexts, order=st.integers(1, 5), cutoff=st.integers(1, 6))
def test_probabilities_sum_to_one(
    smoothing: str, train: np.ndarray, held_out: np.ndarray, context: list[int], order: int, cutoff: int
) -> None:
    counts = count_ngrams(train, eos_id=0, max_order=order, vocab_size=VOCAB_SIZE)
    model = estimate(counts, smoothing, order, NgramParams(katz_cutoff=cutoff), held_out)
    seen = 0
    for start in range(0, len(train), 7):  # seen contexts of all lengths, then a drawn one, mostly unseen
        line_start = max([0, *(np.flatnonzero(train[:start] == 0) + 1)])
        prob_V = model.next_distribution(train[line_start:start])
        assert prob_V.min() >= 0 and prob_V.sum() == pytest.approx(1, abs=1e-9)
        seen += 1
    assert seen
    prob_V = model.next_distribution(context)
    if smoothing == "mle":
        assert prob_V.sum() == pytest.approx(1, abs=1e-9) or prob_V.sum() == 0
    else:
        assert prob_V.min() > 0 and prob_V.sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@settings(deadline=None, max_examples=25)
@given(train=texts, test=texts, order=st.integers(1, 4))
def test_scores_are_the_distribution_and_causal(
    smoothing: str, train: np.ndarray, test: np.ndarray, order: int
) -> None:
    counts = count_ngrams(train, eos_id=0, max_order=order, vocab_size=VOCAB_SIZE)
    model = estimate(counts, smoothing, order, held_out=train)
    nats = model.score_ids(test)
    for i in range(len(test)):
        with np.errstate(divide="ignore"):
            assert -np.log(model.next_distribution(test[:i])[test[i]]) == pytest.approx(nats[i], abs=1e-9)
    changed = test.copy()
    changed[len(test) // 2 :] = 0  # the future has no influence
    assert (model.score_ids(changed)[: len(test) // 2] == nats[: len(test) // 2]).all()


@settings(deadline=None, max_examples=25)
@given(train=texts, more=st.integers(1, 3))
def test_a_higher_count_gives_the_same_model(train: np.ndarray, more: int) -> None:
    for smoothing in SMOOTHINGS:
        alone = estimate(count_ngrams(train, 0, 2, VOCAB_SIZE), smoothing, 2, held_out=train)
        shared = estimate(count_ngrams(train, 0, 2 + more, VOCAB_SIZE), smoothing, 2, held_out=train)
        assert (alone.score_ids(train) == shared.score_ids(train)).all()
