"""Intervals over documents: how much a figure would move on other text of the same kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextword.evaluation.statistics import Estimate
from nextword.perplexity import perplexity

Numbers = NDArray[Any]


def ratio_interval(sums: Numbers, sizes: Numbers, confidence: float = 0.95) -> Estimate:
    """Mean of a quantity per token, with a t-interval over documents.

    Tokens of one document are alike, so the documents, not the tokens, are the sample: with r = sum(x) / sum(n) and
    e = x - r n, the variance of r is ``D / (D - 1) sum(e^2) / sum(n)^2`` (Cochran, "Sampling Techniques", 1977, ch. 6).

    Args:
        sums: (D,) total of the quantity in each document; may be infinite.
        sizes: (D,) tokens of each document; at least one is not zero.
        confidence: of the two-sided interval.

    Returns:
        r, its interval and D; no interval where there are fewer than two documents or r is infinite.

    >>> ratio_interval(np.array([2.0, 4.0]), np.array([1, 2])).mean
    2.0
    """
    from scipy.special import stdtrit  # imported only where it is used: it is slow to load

    filled = sizes > 0
    sums, sizes = np.asarray(sums[filled], dtype=np.float64), np.asarray(sizes[filled], dtype=np.float64)
    documents, total = len(sums), float(sizes.sum())
    ratio = float(sums.sum() / total)
    if documents < 2 or not math.isfinite(ratio):
        return Estimate(ratio, None, None, documents)
    squares = float(np.square(sums - ratio * sizes).sum())
    error = math.sqrt(documents / (documents - 1) * squares) / total
    half = float(stdtrit(documents - 1, (1 + confidence) / 2)) * error
    return Estimate(ratio, ratio - half, ratio + half, documents)


def perplexity_interval(nats: Estimate) -> dict[str, float | None]:
    """``mean``, ``low``, ``high`` of the perplexity, from those of nats a token; None is infinite, or no interval."""
    limits = {key: getattr(nats, key) for key in ("mean", "low", "high")}
    return {key: None if value is None else perplexity(value, 1) for key, value in limits.items()}


def by_document(values: Numbers, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Total of ``values`` (num_tokens,) in each document; ``starts`` (D + 1,) as in a split."""
    totals = np.zeros(len(starts) - 1)
    filled = starts[1:] > starts[:-1]
    totals[filled] = np.add.reduceat(values.astype(np.float64), starts[:-1][filled])
    return totals
