"""Vanilla recurrent networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nextword.models.cells.base import Cell, HState, tanh


class RNN(Cell):
    """Elman network: ``h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)`` (Elman 1990)."""

    kind = "rnn"
    gates = ("h",)
    fused = torch.rnn_tanh

    def step(self, a: Tensor, s: HState, w: Any) -> HState:  # noqa: D102
        return HState(tanh(w.hh(s.h, a)))


class ReLURNN(Cell):
    """``h_t = max(0, W_hh h_{t-1} + W_xh x_t + b)``; with ``recurrent_init: identity`` the IRNN (Le et al. 2015)."""

    kind = "rnn_relu"
    gates = ("h",)
    fused = torch.rnn_relu

    def step(self, a: Tensor, s: HState, w: Any) -> HState:  # noqa: D102
        return HState(torch.relu(w.hh(s.h, a)))


class ResidualRNN(Cell):
    """Residual through time: ``h_t = h_{t-1} + tanh(W_hh h_{t-1} + W_xh x_t + b)``, so ``dh_t/dh_{t-1} = I + ...``."""

    kind = "rnn_residual"
    gates = ("h",)

    def step(self, a: Tensor, s: HState, w: Any) -> HState:  # noqa: D102
        return HState(s.h + tanh(w.hh(s.h, a)))
