"""How much of the gradient comes back from the last step of a sequence, by autograd, exactly.

Shapes: T time steps, B sequences, I input size, H hidden size, D numbers in the states of all layers, L lags.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.evaluation.statistics import mean_interval
from nextword.models.stack import RecurrentStack
from nextword.probes.decay import LARGEST_LOG, half_life

Norms = NDArray[np.float64]


def gradient_norms(stack: RecurrentStack, x_TBI: Tensor) -> Norms:
    """Spectral norm of ``d h_T / d S_k`` at every lag T - k.

    ``h_T`` is the top layer's output at the last step, ``S_k`` the states of all layers after step k, h and c alike, as
    independent variables; so the norm at lag 0 is 1. All H rows of the Jacobian come from one backward pass, over H
    copies of each sequence.

    Returns:
        (L, B) in float64, lag 0 first; infinite where the gradient overflows.
    """
    stack, size = copy.deepcopy(stack).double().eval(), stack.params.hidden_size
    states = stack.zero_state(x_TBI.shape[1] * size)
    track = []
    for x_BI in x_TBI.double().repeat_interleave(size, dim=1):
        # a clone has no part in its own step, so its gradient is that of the state alone
        states = tuple(type(s)(*[field.clone() for field in s]) for s in stack(x_BI[None], states).states)
        track.append([field for state in states for field in state])
    top = states[-1].h.view(-1, size, size).diagonal(dim1=1, dim2=2).sum()
    flat = [field for fields in reversed(track) for field in fields]
    rows = torch.autograd.grad(top, flat, allow_unused=True, materialize_grads=True)
    width = len(track[0])
    steps = [torch.cat(rows[i : i + width], -1) for i in range(0, len(rows), width)]
    jacobian = torch.stack(steps).view(len(steps), -1, size, width * size)
    finite = jacobian.isfinite().flatten(2).all(-1)
    of_finite = torch.linalg.matrix_norm(jacobian.nan_to_num(0.0, 0.0, 0.0), ord=2)
    norms: Norms = of_finite.where(finite, math.inf).numpy()
    return norms


def growth(norms: Norms) -> float | None:
    """Factor of the norm from one step to the next, by least squares on the median log-norm from lag 1 on.

    What happens at lag 1 alone (an LSTM's output gate and tanh) decides many a half-life; this is how it goes on.

    Args:
        norms: (L, B), lag 0 first.

    Returns:
        0 where the norm is 0, None where it is infinite.
    """
    median = np.median(norms, axis=1)
    if not np.isfinite(median).all():
        return None
    lags = np.flatnonzero(median)[1:]
    if len(lags) < 2:
        return 0.0
    return math.exp(np.polyfit(lags, np.log(median[lags]), 1)[0])


def summarize_flow(norms_by_seed: list[Norms]) -> dict[str, Any]:
    """The curve to draw, over all sequences of all seeds, and the numbers that stand for it.

    Args:
        norms_by_seed: (L, B) each.

    Returns:
        ``median``, ``low`` and ``high`` (quantiles 10% and 90%) by lag from 0 on; ``num_sequences``; ``half_life``, see
        :func:`nextword.probes.decay.half_life`; ``growth``, see :func:`growth`: ``by_seed``, and the geometric ``mean``
        with ``low`` and ``high`` (t-interval of the logarithm) of the seeds that have one above 0.
    """
    pooled = np.concatenate(norms_by_seed, axis=1)
    low, median, high = np.quantile(pooled, [0.1, 0.5, 0.9], axis=1, method="nearest").tolist()
    growths = [growth(norms) for norms in norms_by_seed]
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
