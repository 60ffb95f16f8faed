"""How a norm changes with the lag: its spread over positions, and its half-life.

Shapes: L lags, P positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
RESAMPLES = 1000
PERCENTILES = (0.025, 0.975)
LARGEST_LOG = 700.0
"""Logarithms are cut at this on both sides, so that a norm that is 0 or infinite has one."""


def summarize(norms_LP: NDArray[np.float64], lags: Sequence[int]) -> dict[str, Any]:
    """Mean, standard deviation and quantiles of a norm over positions by lag, and its half-life.

    The interval of the median is a percentile interval (95%) over resampled positions.

    Args:
        norms_LP: not negative; may be infinite.
        lags: in tokens, ascending, the first one 0, at least two.

    Returns:
        ``lags``, ``positions`` (how many), ``mean``, ``sd`` (None for one position), ``quantiles`` by name, ``low`` and
        ``high`` of the median, each a list by lag; ``half_life`` as :func:`half_life`; ``growth`` as :func:`growth`.
    """
    count = norms_LP.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        resampled = np.exp(_resampled(_logs(norms_LP)))
        return {
            "lags": list(lags),
            "positions": count,
            "mean": norms_LP.mean(1).tolist(),
            "sd": norms_LP.std(1, ddof=1).tolist() if count > 1 else None,
            "quantiles": {str(q): np.quantile(norms_LP, q, axis=1).tolist() for q in QUANTILES},
            "low": np.quantile(resampled, PERCENTILES[0], axis=1).tolist(),
            "high": np.quantile(resampled, PERCENTILES[1], axis=1).tolist(),
            "half_life": half_life(norms_LP, lags),
            "growth": growth(norms_LP, lags),
        }


def half_life(norms_LP: NDArray[np.float64], lags: Sequence[int]) -> dict[str, Any]:
    """In how many tokens a norm falls to half of what it is at lag 0.

    The first lag, interpolated, at which the median of the log-norm over positions has fallen by log 2. The median, as
    a ReLU network has positions whose norm is 0, any one of which would be the whole of a mean.

    Args:
        norms_LP: not negative; may be infinite.
        lags: in tokens, ascending, the first one 0.

    Returns:
        ``status``: ``falls``; ``grows``: it doubles and never falls to half; ``lasts``: neither within the longest lag.
        ``tokens``: the half-life, None unless it falls. ``low``, ``high``: its percentile interval (95%) over resampled
        positions; None is beyond the longest lag. ``doubling_tokens``: the first lag at which it has doubled, or None.
        ``halving_tokens``, ``halving_low``, ``halving_high``: tokens in which the median halves, on average from the
        first lag above 0 to the longest; None where it does not fall there. It compares cells whose first step differs
        (from c_{t-1} to h_t the output gate and a tanh lie), and matrices that shrink at one rate only in the long run.

    >>> half_life(np.array([[1.0], [0.25]]), [0, 4])["tokens"]
    2.0
    """
    logs = _logs(norms_LP)
    median = np.median(logs, axis=1, keepdims=True)
    falls, grows = (float(_crossing(sign * median, lags)[0]) for sign in (-1.0, 1.0))
    resampled = _resampled(logs)
    low, high = np.quantile(_crossing(-resampled, lags), PERCENTILES, method="nearest").tolist()
    halving = _halving(median, lags)[0]
    halving_low, halving_high = np.quantile(_halving(resampled, lags), PERCENTILES, method="nearest").tolist()
    return {
        "status": "falls" if math.isfinite(falls) else "grows" if math.isfinite(grows) else "lasts",
        "tokens": _or_none(falls),
        "low": _or_none(low),
        "high": _or_none(high),
        "doubling_tokens": _or_none(grows),
        "halving_tokens": _or_none(float(halving)),
        "halving_low": _or_none(halving_low),
        "halving_high": _or_none(halving_high),
    }


def growth(norms_LP: NDArray[np.float64], lags: Sequence[int]) -> float | None:
    """Factor of a norm from one token to the next, by least squares on the log of its median from the second lag on.

    Below 1 it falls, above 1 it grows. What happens in the first step alone (an LSTM's output gate and tanh) decides
    many a half-life; this is how it goes on.

    Args:
        norms_LP: not negative; may be infinite.
        lags: in tokens, ascending, the first one 0; where there are but two, both count.

    Returns:
        0 where the norm is 0, None where it is infinite.

    >>> round(growth(np.array([[1.0], [0.1], [0.2], [0.8]]), [0, 1, 2, 4]), 6)
    2.0
    """
    median = np.median(norms_LP, axis=1)
    if not np.isfinite(median).all():
        return None
    above = np.flatnonzero(median)[1 if len(lags) > 2 else 0 :]
    if len(above) < 2:
        return 0.0
    return math.exp(np.polyfit(np.asarray(lags)[above], np.log(median[above]), 1)[0])


def _logs(norms_LP: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.clip(np.log(norms_LP), -LARGEST_LOG, LARGEST_LOG)


def _resampled(logs_LP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians over resampled positions, (L, RESAMPLES); the same draws every time."""
    count = logs_LP.shape[1]
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    return np.median(logs_LP[:, draws], axis=2)


def _crossing(curves_LN: NDArray[np.float64], lags: Sequence[int]) -> NDArray[np.float64]:
    """First lag, interpolated, at which each of N curves is log 2 above its start; inf where it never is."""
    rise = curves_LN - curves_LN[0] - math.log(2.0)
    above = rise >= 0.0
    after = above.argmax(0)
    here, before = (np.take_along_axis(rise, i[None], 0)[0] for i in (after, np.maximum(after - 1, 0)))
    found = above.any(0)
    share = np.divide(-before, here - before, out=np.zeros_like(here), where=found)
    places = np.asarray(lags, np.float64)
    start = places[np.maximum(after - 1, 0)]
    return np.where(found, start + share * (places[after] - start), np.inf)


def _halving(curves_LN: NDArray[np.float64], lags: Sequence[int]) -> NDArray[np.float64]:
    """Tokens in which each of N curves falls by log 2 from its second lag to its last; inf where it does not fall."""
    fall = curves_LN[1] - curves_LN[-1]
    tokens = float(lags[-1] - lags[1])
    halving: NDArray[np.float64] = np.full_like(fall, np.inf)
    np.divide(math.log(2.0) * tokens, fall, out=halving, where=fall > 0.0)
    return halving


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
