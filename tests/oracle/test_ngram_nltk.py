"""NLTK's models, where both define the same thing."""

from functools import partial

import numpy as np
import pytest
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone, Vocabulary
from nltk.util import everygrams

from nextword.config import NgramParams
from nextword.ngram import count_ngrams, estimate
from nextword.ngram.build import Request
from nextword.ngram.kneser_ney import discounted

TEXT = str.split(
    "the cat sat on the mat . the dog sat on the cat . a cat and a dog met on the mat . "
    "the mat met the cat and the dog sat . a dog and the cat sat on a mat and the dog met a cat ."
)
WORDS = sorted(set(TEXT))
INDEX = {"</s>": 0} | {word: i for i, word in enumerate(WORDS, start=1)}
LINE = [*TEXT, "</s>"]
IDS = np.array([INDEX[word] for word in LINE])


def fit(model, order):
    """NLTK counts one line with one <s> before it, as here."""
    model.fit([list(everygrams(["<s>", *LINE], max_len=order))], vocabulary_text=LINE)
    return model


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("smoothing", ["mle", "add_k"])
def test_mle_and_lidstone(smoothing: str, order: int) -> None:
    # NLTK's unigrams would count <s> as an event; its vocabulary has an <UNK>, here an id that never occurs.
    nltk_class = MLE if smoothing == "mle" else partial(Lidstone, 0.3)
    vocabulary = Vocabulary(LINE)
    vocab_size = len(INDEX) + 1
    theirs = nltk_class(order, vocabulary=vocabulary)
    theirs.fit([[ngram for ngram in everygrams(["<s>", *LINE], max_len=order) if ngram != ("<s>",)]])
    assert len(vocabulary) == vocab_size
    ours = estimate(count_ngrams(IDS, 0, order, vocab_size), smoothing, order, NgramParams(add_k=0.3))
    nats = ours.score_ids(IDS)
    for i, word in enumerate(LINE):
        context = ["<s>", *LINE[:i]][-(order - 1) :] if order > 1 else []
        assert np.exp(-nats[i]) == pytest.approx(theirs.score(word, context), rel=1e-12)
        for other in WORDS[:5]:
            prob_V = ours.next_distribution(IDS[:i])
            assert prob_V[INDEX[other]] == pytest.approx(theirs.score(other, context), rel=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_kneser_ney(order: int) -> None:
    """One discount for all orders above 1, none at order 1, as NLTK has it; seen contexts without <s>."""
    discount = 0.4
    theirs = fit(KneserNeyInterpolated(order, discount), order)
    counts = count_ngrams(IDS, 0, order, len(INDEX))
    request = Request(counts, order, NgramParams(), None, np.dtype(np.float64))
    ours = discounted(request, "kneser_ney", continuation=True, modified=False, fixed=[0.0] + [discount] * (order - 1))
    compared = 0
    for i in range(order, len(LINE)):
        context = LINE[i - order + 1 : i]
        prob_V = ours.next_distribution(IDS[:i])
        for word, id in INDEX.items():
            assert prob_V[id] == pytest.approx(theirs.score(word, context), rel=1e-12)
            compared += 1
    assert compared > 400
