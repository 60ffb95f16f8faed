"""Means, intervals and differences over seeds.

A seed is one draw of everything random in a training (weights, dropout, order of the data). The intervals here say
how much a figure would move under other seeds; they say nothing about other test text
(:mod:`nextword.evaluation.bootstrap` does).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, variance  # exact: equal values have variance 0
from typing import Literal, TypeVar

ROUNDING = 1e-9
"""Of a limit, as a share of a step."""
Method = Literal["paired t", "Welch t", "crossed bootstrap", "crossed bootstrap, simultaneous", "MOVER", "none"]


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    ``low`` and ``high`` are None where there is no interval: fewer than two values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """Mean of one side less the mean of the other, and how the interval was got.

    ``seeds`` are the pairs of a paired difference; empty where nothing is paired.
    """

    mean: float
    low: float | None
    high: float | None
    method: Method
    seeds: tuple[int, ...] = ()


AnyDifference = TypeVar("AnyDifference", bound=Difference)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean and two-sided t-interval: ``mean +- t(n - 1) s / sqrt(n)``.

    Args:
        values: finite numbers, at least one.
        confidence: of the interval, between 0 and 1.

    Raises:
        ValueError: no value, a value that is not finite, or a confidence outside (0, 1).

    >>> mean_interval([1.0, 2.0, 3.0]).mean
    2.0
    >>> mean_interval([5.0])
    Estimate(mean=5.0, low=None, high=None, count=1)
    """
    _check(values, confidence)
    center = mean(values)
    if len(values) < 2:
        return Estimate(center, None, None, len(values))
    half = t_quantile(confidence, len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Estimate(center, center - half, center + half, len(values))


def difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95, *, pair: bool) -> Difference:
    """Mean of ``a`` less mean of ``b`` with a t-interval.

    Paired over the common seeds where ``pair`` is set and there are at least two of them: then only those seeds
    enter. Else Welch's interval (unequal variances, Welch-Satterthwaite degrees of freedom) if both sides have two
    values or more; else the difference alone.

    Args:
        a: value by seed.
        b: value by seed.
        confidence: of the interval, between 0 and 1.
        pair: whether one seed means the same conditions on both sides.

    Raises:
        ValueError: as :func:`mean_interval`.

    >>> difference({0: 3.0, 1: 5.0}, {0: 1.0, 1: 3.0}, pair=True).seeds
    (0, 1)
    """
    _check(list(a.values()), confidence)
    _check(list(b.values()), confidence)
    common = tuple(sorted(a.keys() & b.keys()))
    if pair and len(common) >= 2:
        estimate = mean_interval([a[seed] - b[seed] for seed in common], confidence)
        return Difference(estimate.mean, estimate.low, estimate.high, "paired t", common)
    center = mean(a.values()) - mean(b.values())
    if len(a) < 2 or len(b) < 2:
        return Difference(center, None, None, "none")
    of_a, of_b = variance(a.values()) / len(a), variance(b.values()) / len(b)
    if of_a + of_b == 0.0:
        return Difference(center, center, center, "Welch t")
    freedom = (of_a + of_b) ** 2 / (of_a**2 / (len(a) - 1) + of_b**2 / (len(b) - 1))
    half = t_quantile(confidence, freedom) * math.sqrt(of_a + of_b)
    return Difference(center, center - half, center + half, "Welch t")


def at_least(gap: AnyDifference, half: float) -> AnyDifference:
    """The same difference with an interval that reaches ``half`` to either side at the least.

    For counts of steps (epochs, lags of a ladder): where all seeds have the same count, the t-interval has no width,
    but a seed more could be a step off. With ``half`` one step of the scale, counts that are equal over seeds are told
    apart only where they are more than a step apart: a limit that is zero but for rounding is zero.

    Returns:
        The same where there is no interval.

    >>> at_least(Difference(2.0, 2.0, 2.0, "paired t"), 1.0)
    Difference(mean=2.0, low=1.0, high=3.0, method='paired t', seeds=())
    """
    if gap.low is None or gap.high is None:
        return gap
    low, high = (0.0 if abs(limit) <= ROUNDING * half else limit for limit in (gap.mean - half, gap.mean + half))
    return replace(gap, low=min(gap.low, low), high=max(gap.high, high))


def _check(values: Sequence[float], confidence: float) -> None:
    if not values:
        raise ValueError("a mean needs at least one value; got none")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"values must be finite; got {list(values)}: leave diverged seeds out and count them")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, e.g. 0.95; got {confidence}")


def t_quantile(confidence: float, freedom: float) -> float:
    """Half width of the two-sided interval of Student's t, in standard errors; ``freedom`` need not be whole."""
    from scipy.special import stdtrit  # imported only where it is used: it is slow to load

    return float(stdtrit(freedom, (1.0 + confidence) / 2.0))
