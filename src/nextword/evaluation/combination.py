"""Mixtures of models: linear interpolation with weights from valid, and ensembles.

Shapes: N targets, S seeds, K models. Nats are ``-log p`` of each target; infinite where p = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_EDGE = 1e-9
"""Weights nearer than this to 0 or 1 are 0 or 1."""


def mix(nats: Sequence[NDArray[np.floating[Any]]], weights: Sequence[float]) -> Floats:
    """Nats of the mixture ``p = sum_k w_k p_k`` (Jelinek & Mercer 1980).

    Args:
        nats: K arrays (N,).
        weights: K numbers that are not negative and sum to 1.

    Returns:
        (N,) nats, computed from logarithms; infinite where every model with a weight has p = 0.

    Raises:
        ValueError: weights that are no mixture, or arrays of unlike shapes.

    >>> np.exp(-mix([-np.log([0.5]), -np.log([0.1])], [0.25, 0.75]))
    array([0.2])
    """
    if len(nats) != len(weights) or min(weights, default=-1.0) < 0.0 or abs(sum(weights) - 1.0) > 1e-9:
        raise ValueError(f"{len(nats)} models need as many weights, none negative, that sum to 1; got {list(weights)}")
    if len({np.shape(of_one) for of_one in nats}) > 1:
        raise ValueError(f"nats of unlike shapes {[np.shape(of_one) for of_one in nats]}: not of the same targets")
    kept = [(of_one, weight) for of_one, weight in zip(nats, weights, strict=True) if weight > 0.0]
    logs = [np.log(weight) - np.asarray(of_one, np.float64) for of_one, weight in kept]
    mixed: Floats = -np.logaddexp.reduce(logs, axis=0)
    return mixed


def best_weight(a_valid: ArrayLike, b_valid: ArrayLike) -> float:
    """Weight w of ``b`` for which ``(1 - w) p_a + w p_b`` has the least nats.

    Nats are convex in w; w is the root of their derivative, to 1e-9.

    Args:
        a_valid: (N,) nats of the text that the weight is fitted on: valid, never test.
        b_valid: (N,) the same of the other model.

    Returns:
        between 0 and 1; 0 where no weight is better than another. Targets that both models hold impossible do not
        count.

    Raises:
        ValueError: arrays of unlike shapes.

    >>> best_weight([1.0, 2.0], [2.0, 1.0])
    0.5
    """
    a, b = np.asarray(a_valid, np.float64), np.asarray(b_valid, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"nats of shapes {a.shape} and {b.shape}: not of the same targets")
    possible = np.isfinite(a) | np.isfinite(b)
    log_ratio = a[possible] - b[possible]
    up, down = np.exp(np.minimum(log_ratio, 0.0)), np.exp(-np.maximum(log_ratio, 0.0))  # p_b, p_a of the larger

    def gain(weight: float) -> float:
        return float(((up - down) / ((1.0 - weight) * down + weight * up)).sum())

    from scipy.optimize import brentq  # imported only where it is used: it is slow to load

    if gain(_EDGE) <= 0.0:
        return 0.0
    if gain(1.0 - _EDGE) >= 0.0:
        return 1.0
    return float(brentq(gain, _EDGE, 1.0 - _EDGE, xtol=_EDGE))


def ensemble(nats_SN: ArrayLike) -> Floats:
    """Nats of the mean probability over seeds.

    Args:
        nats_SN: (S, N), a row a seed.

    Returns:
        (N,) nats; never more than the mean of the rows (Jensen's inequality).

    Raises:
        ValueError: no seed.
    """
    seeds = list(np.asarray(nats_SN, np.float64))
    return mix(seeds, [1.0 / len(seeds)] * len(seeds) if seeds else [])
