"""Shares of runs."""

from __future__ import annotations


def proportion(count: int, of: int, confidence: float = 0.95) -> dict[str, float]:
    """``count`` of ``of`` with Wilson's interval (Wilson 1927), which holds for few runs and for 0 and all of them.

    Returns:
        ``count``, ``of``, ``rate``, ``low`` and ``high``.

    Raises:
        ValueError: ``count`` is not between 0 and ``of``, or ``of`` is 0.

    >>> proportion(1, 2)["rate"]
    0.5
    """
    from scipy.stats import binomtest  # imported only where it is used: it is slow to load

    interval = binomtest(count, of).proportion_ci(confidence, method="wilson")
    return {"count": count, "of": of, "rate": count / of, "low": float(interval.low), "high": float(interval.high)}
