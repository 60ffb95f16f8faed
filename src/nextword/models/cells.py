"""Recurrent cells: each class states one cell's equations and nothing else.

A cell owns its weights in torch's layout (one row block of ``hidden_size`` a gate) and one :meth:`Cell.step`. The
part of the equations that does not depend on the state, ``a_t = W_x x_t + b``, is computed for all time steps in one
matrix product before the loop (:func:`nextword.models.scan.scan`) and handed to ``step`` a time step at a time.

To add a cell: subclass :class:`Cell`, name its ``gates``, its ``State`` and its ``step``. The class registers itself
under ``kind``; an entry ``kind: <that name>`` under ``models:`` in params.yaml trains it.

Shapes: T time steps, B batch, I input size, H hidden size, G number of gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class HState(NamedTuple):
    """State of a cell whose only memory is its output."""

    h: Tensor  # (B, H)


class HCState(NamedTuple):
    """State of an LSTM: output and memory cell."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


CellState = HState | HCState

CELLS: dict[str, type[Cell]] = {}


class Cell(nn.Module):
    """Weights and equations of one recurrent layer.

    Args:
        input_size: I.
        hidden_size: H.
    """

    kind: ClassVar[str]
    """Name in params.yaml."""
    gates: ClassVar[tuple[str, ...]]
    """Row blocks of the weights, in torch's order."""
    State: ClassVar[type[HState] | type[HCState]] = HState
    """What is carried from one time step to the next; its first field is the output."""
    fused: ClassVar[Callable[..., Any] | None] = None
    """torch's kernel for exactly these equations, or None."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in vars(cls):
            CELLS[cls.kind] = cls

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = len(self.gates) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias = nn.Parameter(torch.empty(rows))

    def initialize(self, scale: float) -> None:
        """Draw every weight from U(-scale, scale)."""
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -scale, scale)

    def gate_rows(self, gate: str) -> slice:
        """Rows of ``weight_ih``, ``weight_hh`` and ``bias`` that belong to ``gate``."""
        start = self.gates.index(gate) * self.hidden_size
        return slice(start, start + self.hidden_size)

    def zero_state(self, batch: int) -> CellState:
        """The all-zero state, every field of shape (B, H)."""
        zeros = self.weight_hh.new_zeros(batch, self.hidden_size)
        return self.State(*[zeros for _ in self.State._fields])

    def fused_biases(self) -> tuple[Tensor, Tensor]:
        """The input and recurrent bias (G*H each) with which torch's kernel computes this cell."""
        return self.bias, torch.zeros_like(self.bias)

    def step(self, a: Tensor, s: Any) -> CellState:
        """One time step.

        Args:
            a: (B, G*H), ``W_x x_t + b``.
            s: state before the step.
        """
        raise NotImplementedError


class RNN(Cell):
    """Elman network: ``h_t = tanh(W_hh h_{t-1} + W_xh x_t + b)`` (Elman 1990)."""

    kind = "rnn"
    gates = ("h",)
    fused = torch.rnn_tanh

    def step(self, a: Tensor, s: HState) -> HState:  # noqa: D102
        return HState(torch.tanh(a + linear(s.h, self.weight_hh)))


class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    ``i, f, o = sigmoid(W [h_{t-1}, x_t] + b)``; ``g = tanh(W_c [h_{t-1}, x_t] + b_c)``;
    ``c_t = f * c_{t-1} + i * g``; ``h_t = o * tanh(c_t)``.
    """

    kind = "lstm"
    gates = ("i", "f", "g", "o")
    State = HCState
    fused = torch.lstm

    def initialize(self, scale: float) -> None:
        """As :meth:`Cell.initialize`, with forget-gate bias 1 (Jozefowicz et al. 2015)."""
        super().initialize(scale)
        self.set_forget_bias(1.0)

    def set_forget_bias(self, value: float) -> None:
        """Fill the forget gate's bias."""
        with torch.no_grad():
            self.bias[self.gate_rows("f")] = value

    def step(self, a: Tensor, s: HCState) -> HCState:  # noqa: D102
        i, f, g, o = (a + linear(s.h, self.weight_hh)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * s.c + torch.sigmoid(i) * torch.tanh(g)
        return HCState(torch.sigmoid(o) * torch.tanh(c), c)


class GRU(Cell):
    """Gated recurrent unit that resets *before* the matrix product (Cho et al. 2014).

    ``r, z = sigmoid(W [h_{t-1}, x_t] + b)``; ``n = tanh(W_n [r * h_{t-1}, x_t] + b_n)``;
    ``h_t = (1 - z) * h_{t-1} + z * n``. No fused kernel computes this one.
    """

    kind = "gru"
    gates = ("r", "z", "n")

    def step(self, a: Tensor, s: HState) -> HState:  # noqa: D102
        split = 2 * self.hidden_size
        r, z = torch.sigmoid(a[:, :split] + linear(s.h, self.weight_hh[:split])).chunk(2, dim=-1)
        n = torch.tanh(a[:, split:] + linear(r * s.h, self.weight_hh[split:]))
        return HState(torch.lerp(s.h, n.to(s.h.dtype), z.to(s.h.dtype)))


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

    def fused_biases(self) -> tuple[Tensor, Tensor]:
        """``b_hn`` is the only part of torch's recurrent bias that is not redundant."""
        return self.bias, torch.cat([torch.zeros_like(self.bias[: 2 * self.hidden_size]), self.bias_hn])

    def step(self, a: Tensor, s: HState) -> HState:  # noqa: D102
        split = 2 * self.hidden_size
        u = linear(s.h, self.weight_hh)
        r, z = torch.sigmoid(a[:, :split] + u[:, :split]).chunk(2, dim=-1)
        n = torch.tanh(a[:, split:] + r * (u[:, split:] + self.bias_hn))
        return HState(torch.lerp(n.to(s.h.dtype), s.h, z.to(s.h.dtype)))
