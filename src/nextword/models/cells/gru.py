"""The two gated recurrent units: where the reset gate acts tells them apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nextword.models.cells.base import Cell, HState, tanh


class GRU(Cell):
    """Gated recurrent unit that resets *before* the matrix product (Cho et al. 2014).

    ``r, z = sigmoid(W [h_{t-1}, x_t] + b)``; ``n = tanh(W_n [r * h_{t-1}, x_t] + b_n)``;
    ``h_t = (1 - z) * h_{t-1} + z * n``. No fused kernel computes this one.
    """

    kind = "gru"
    gates = ("r", "z", "n")

    def recurrent_weights(self) -> dict[str, Tensor]:  # noqa: D102
        split = 2 * self.hidden_size
        return {"rz": self.weight_hh[:split], "n": self.weight_hh[split:]}

    def step(self, a: Tensor, s: HState, w: Any) -> HState:  # noqa: D102
        split = 2 * self.hidden_size
        r, z = map(torch.sigmoid, w.rz(s.h, a[:, :split]))
        n = tanh(w.n(r * s.h, a[:, split:]))
        return HState(torch.lerp(s.h, n, z))


class GRUResetAfter(Cell):
    """Gated recurrent unit that resets *after* the matrix product: torch's and cuDNN's.

    ``r, z = sigmoid(W [h_{t-1}, x_t] + b)``; ``n = tanh(W_xn x_t + b_n + r * (W_hn h_{t-1} + b_hn))``;
    ``h_t = (1 - z) * n + z * h_{t-1}``. Not the same function as :class:`GRU`, and one bias more.
    """

    kind = "gru_reset_after"
    gates = ("r", "z", "n")
    fused = torch.gru

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.bias_hn = nn.Parameter(torch.empty(hidden_size))

    def recurrent_weights(self) -> dict[str, Tensor]:  # noqa: D102
        split = 2 * self.hidden_size
        return {"rz": self.weight_hh[:split], "n": self.weight_hh[split:], "bias_hn": self.bias_hn}

    def fused_biases(self) -> tuple[Tensor, Tensor]:
        """``b_hn`` is the only part of torch's recurrent bias that is not redundant."""
        return self.bias, torch.cat([torch.zeros_like(self.bias[: 2 * self.hidden_size]), self.bias_hn])

    def step(self, a: Tensor, s: HState, w: Any) -> HState:  # noqa: D102
        split = 2 * self.hidden_size
        r, z = map(torch.sigmoid, w.rz(s.h, a[:, :split]))
        n = tanh(a[:, split:] + r * (w.n(s.h) + w.bias_hn))
        return HState(torch.lerp(n, s.h, z))
