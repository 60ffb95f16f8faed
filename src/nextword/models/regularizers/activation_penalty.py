"""Penalties on the outputs of the recurrent layers.

Shapes: T time steps, B batch, H hidden size, W what enters the output layer.
"""

from __future__ import annotations

import torch
from torch import Tensor


def activation_penalty(y_TBW: Tensor, raw_TBH: Tensor, alpha: float, beta: float) -> Tensor | None:
    """Activation and temporal activation regularisation (AR, TAR) of a window.

    ``alpha mean(y_t^2) + beta mean((h_t - h_{t-1})^2)``, the second mean over the steps inside the window. Source:
    Merity, McCann & Socher, Revisiting Activation Regularization for Language RNNs (2017), eq. 1 and 2; means over
    elements, as in their program.

    Args:
        y_TBW: y, after dropout.
        raw_TBH: h, before dropout.
        alpha: factor of AR.
        beta: factor of TAR.

    Returns:
        a scalar in nats per target, or None where both factors are 0.
    """
    if alpha == 0.0 and beta == 0.0:
        return None
    exact = torch.promote_types(y_TBW.dtype, torch.float32)
    penalty = alpha * y_TBW.to(exact).square().mean()
    if len(raw_TBH) > 1:
        penalty = penalty + beta * raw_TBH.to(exact).diff(dim=0).square().mean()
    return penalty
