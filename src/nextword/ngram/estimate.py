"""From counts to a model: the smoothings by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nextword.ngram.build import Request, Smoothing
from nextword.ngram.counts import AnyIntArray, NgramCounts
from nextword.ngram.jelinek_mercer import jelinek_mercer
from nextword.ngram.katz import katz
from nextword.ngram.kneser_ney import absolute_discounting, kneser_ney, modified_kneser_ney
from nextword.ngram.model import NgramModel
from nextword.ngram.single_order import add_k, mle

if TYPE_CHECKING:
    from nextword.config import NgramParams

SMOOTHINGS: dict[str, Smoothing] = {
    "mle": mle,
    "add_k": add_k,
    "jelinek_mercer": jelinek_mercer,
    "katz": katz,
    "absolute_discounting": absolute_discounting,
    "kneser_ney": kneser_ney,
    "modified_kneser_ney": modified_kneser_ney,
}


def estimate(
    counts: NgramCounts,
    smoothing: str,
    order: int,
    params: NgramParams | None = None,
    held_out: AnyIntArray | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> NgramModel:
    """Estimate an n-gram model from counts of its order or a higher one.

    Args:
        counts: of the training text; one count serves all orders and smoothings.
        smoothing: a name in ``SMOOTHINGS``.
        order: words in the longest n-gram.
        params: the ``ngram`` section of params.yaml (``add_k``, ``katz_cutoff``); None takes its defaults.
        held_out: (num_tokens,) ids of valid; only ``jelinek_mercer`` needs them.
        dtype: in which probabilities are kept: float64, or float32 for large corpora.

    Raises:
        ValueError: an unknown smoothing, an order that was not counted, held-out text missing or of another vocabulary.

    Example:
        >>> from nextword.ngram import count_ngrams
        >>> counts = count_ngrams(np.array([1, 2, 0, 1, 0]), eos_id=0, max_order=2, vocab_size=3)
        >>> estimate(counts, "mle", 2).next_distribution([1]).tolist()
        [0.5, 0.0, 0.5]
    """
    if smoothing not in SMOOTHINGS:
        raise ValueError(f"unknown smoothing {smoothing!r}; allowed: {', '.join(SMOOTHINGS)}")
    if not 1 <= order <= counts.max_order:
        raise ValueError(f"order {order} was not counted; give 1 to {counts.max_order}, or count a higher max_order")
    if params is None:
        from nextword.config import NgramParams

        params = NgramParams()
    storage: np.dtype[Any] = np.dtype(dtype)
    if storage not in (np.float32, np.float64):
        raise ValueError(f"dtype is {storage}; probabilities are kept as float64 or float32")
    return SMOOTHINGS[smoothing](Request(counts, order, params, held_out, storage))
