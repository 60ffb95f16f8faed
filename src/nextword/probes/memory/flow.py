"""How much of the gradient comes back from the last step of a sequence.

Shapes: T time steps, B sequences, I input size, L lags.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from torch import Tensor

from nextword.evaluation.statistics import mean_interval
from nextword.models.stack import RecurrentStack
from nextword.probes.decay import LARGEST_LOG, growth, half_life
from nextword.probes.jacobians import OUTPUT, Norms, Quantity, chain_norms, unroll
from nextword.probes.tangents import fields_of


def gradient_norms(stack: RecurrentStack, x_TBI: Tensor) -> Norms:
    """Spectral norm of ``d y_T / d S_k`` at every lag T - k.

    ``y_T`` is what the stack hands on at the last step: the top layer's output, joined to what it read where layers are
    connected so. ``S_k`` are the states of all layers after step k, h and c alike, as independent variables.

    Returns:
        (L, B) in float64, lag 0 first; infinite where the gradient overflows.
    """
    stack = copy.deepcopy(stack).double().eval().requires_grad_(False)
    run = unroll(stack, x_TBI.double(), stack.zero_state(x_TBI.shape[1]))
    fields = tuple(fields_of(stack))
    wanted = Quantity(OUTPUT, fields, fields)
    return chain_norms(stack, run, [wanted], range(len(x_TBI)), lambda done, of: None)[0]


def summarize_flow(norms_by_seed: list[Norms]) -> dict[str, Any]:
    """The curve to draw, over all sequences of all seeds, and the numbers that stand for it.

    Args:
        norms_by_seed: (L, B) each.

    Returns:
        ``median``, ``low`` and ``high`` (quantiles 10% and 90%) by lag from 0 on; ``num_sequences``; ``half_life``, see
        :func:`nextword.probes.decay.half_life`; ``growth``, see :func:`nextword.probes.decay.growth`: ``by_seed``, and
        the geometric ``mean`` with ``low`` and ``high`` (t-interval of the logarithm) of the seeds that have one above
        0.
    """
    pooled = np.concatenate(norms_by_seed, axis=1)
    low, median, high = np.quantile(pooled, [0.1, 0.5, 0.9], axis=1, method="nearest").tolist()
    growths = [growth(norms, range(len(norms))) for norms in norms_by_seed]
    logs = [math.log(value) for value in growths if value]
    estimate = mean_interval(logs) if logs else None
    limits = {key: getattr(estimate, key, None) for key in ("mean", "low", "high")}
    return {
        "median": median,
        "low": low,
        "high": high,
        "num_sequences": pooled.shape[1],
        "half_life": half_life(pooled, range(len(pooled))),
        "growth": {
            "by_seed": growths,
            **{key: None if value is None else math.exp(min(value, LARGEST_LOG)) for key, value in limits.items()},
        },
    }
