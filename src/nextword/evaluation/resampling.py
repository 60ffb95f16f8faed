"""The blocks of a split drawn again and again: variance and effect size of figures that are sums over blocks.

Shapes: B resamples, D blocks (documents, or parts of them).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_GROWTH = 1.5
"""Power of its size with which the variance of a block's sum is taken to grow."""


@lru_cache(maxsize=64)
def resample(sizes: tuple[float, ...], resamples: int, seed: int) -> tuple[Floats, float]:
    """Bootstrap the blocks once for all pairs of models.

    A resample turns sums x_D of blocks into ``sum_d p_d x_d``, p_d being how often block d was drawn by the targets
    drawn. So the variance of any such figure over the resamples is ``x K x``, K the covariance of p.

    K is scaled so that the variance is unbiased, and its degrees of freedom are taken (Bell & McCaffrey 2002; Imbens &
    Kolesar, Review of Economics and Statistics 98, 2016), where the variance of a sum goes with n_d^1.5: between
    targets that are independent (n_d) and documents that differ as wholes (n_d^2). With equal blocks the factor is
    D / (D - 1) and the degrees of freedom are D - 1, but for the chance in the resamples.

    Returns:
        (D, D) K, and the degrees of freedom.
    """
    size_D = np.array(sizes)
    drawn = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1.0 / len(sizes)), resamples)
    share_BD = drawn / np.einsum("bd,d->b", drawn, size_D)[:, None]
    share_BD -= share_BD.mean(0)
    spread_DD = np.einsum("bd,be->de", share_BD, share_BD) / (resamples - 1)  # not @: same bits with any BLAS
    expected_D = size_D**_GROWTH
    scaled_DD = spread_DD * expected_D
    factor = float(expected_D.sum()) / float(size_D.sum()) ** 2 / float(np.trace(scaled_DD))
    freedom = float(np.trace(scaled_DD)) ** 2 / float((scaled_DD * scaled_DD.T).sum())
    return spread_DD * factor, freedom


def quadratic(values_D: Floats, spread_DD: Floats) -> float:
    """Variance ``x K x`` over the resamples of a figure with sums x_D of blocks."""
    return max(float(np.einsum("d,de,e->", values_D, spread_DD, values_D)), 0.0)


def effect_size(gap_D: Floats, sizes: Floats) -> float | None:
    """Mean over standard deviation of the blocks' differences a target, blocks weighted by size; Hedges (1981).

    None below three blocks, where Hedges' correction is zero, and where all blocks differ alike.
    """
    freedom = len(sizes) - 1
    weights = sizes / sizes.sum()
    gaps = gap_D / sizes
    mean = float((weights * gaps).sum())
    variance = float((weights * (gaps - mean) ** 2).sum()) / (1.0 - float((weights**2).sum())) if freedom else 0.0
    if freedom < 2 or math.sqrt(variance) <= 1e-9 * abs(mean):  # below: rounding
        return None
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return correction * mean / math.sqrt(variance)
