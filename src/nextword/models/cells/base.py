"""What a recurrent cell is: weights, and one step of its equations.

The part of the equations that does not depend on the state, ``a_t = W_x x_t + b``, is computed for all time steps in
one matrix product before the loop and handed to :meth:`Cell.step` a time step at a time. A step is pointwise but for
the products with the cell's recurrent matrices, which it asks for by name; so the driver
(:func:`nextword.models.scan.scan`) can run, record and differentiate any cell without knowing its equations.

To add a cell: subclass :class:`Cell`, name its ``kind``, its ``gates``, its ``State`` and its ``step``. The class
registers itself under ``kind``; an entry ``kind: <that name>`` under ``models:`` in params.yaml trains it.

Shapes: T time steps, B batch, I input size, H hidden size, G number of gates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function_unary

RecurrentInit = Literal["uniform", "orthogonal", "identity"]


class HState(NamedTuple):
    """State of a cell whose only memory is its output."""

    h: Tensor  # (B, H)


class HCState(NamedTuple):
    """State of an LSTM: output and memory cell."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)


CellState = Any
"""A NamedTuple of (B, H) tensors whose first field, h, is the output."""

CELLS: dict[str, type[Cell]] = {}
"""Every cell by its kind."""


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
    State: ClassVar[type[Any]] = HState
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

    def initialize(self, scale: float, recurrent: RecurrentInit = "uniform", gain: float = 1.0) -> None:
        """Draw every weight from U(-scale, scale), the recurrent matrices as told.

        Args:
            scale: of the uniform distribution.
            recurrent: ``orthogonal``: each gate's matrix a random orthogonal one (Saxe et al. 2014); ``identity``:
                the identity, and no bias (Le et al. 2015).
            gain: factor of an orthogonal or identity matrix.
        """
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -scale, scale)
        if recurrent == "uniform":
            return
        with torch.no_grad():
            for block in torch.split(self.weight_hh, self.hidden_size):
                if recurrent == "orthogonal":
                    nn.init.orthogonal_(block, gain)
                else:
                    block.copy_(gain * torch.eye(self.hidden_size))
            if recurrent == "identity":
                self.bias.zero_()

    def gate_rows(self, gate: str) -> slice:
        """Rows of ``weight_ih``, ``weight_hh`` and ``bias`` that belong to ``gate``."""
        start = self.gates.index(gate) * self.hidden_size
        return slice(start, start + self.hidden_size)

    def set_forget_bias(self, value: float) -> None:
        """Fill the forget gate's bias.

        Raises:
            ValueError: the cell has none.
        """
        if "f" not in self.gates:
            raise ValueError(f"kind {self.kind} has no forget gate; remove `forget_bias`")
        with torch.no_grad():
            self.bias[self.gate_rows("f")] = value

    def zero_state(self, batch: int) -> CellState:
        """The all-zero state, every field of shape (B, H)."""
        zeros = self.weight_hh.new_zeros(batch, self.hidden_size)
        return self.State(*[zeros for _ in self.State._fields])

    def recurrent_weights(self) -> dict[str, Tensor]:
        """What ``step`` computes with, by name: all but the input projection, ``weight_`` cut off."""
        own = {name: weight for name, weight in self.named_parameters() if name not in ("weight_ih", "bias")}
        return {name.removeprefix("weight_"): weight for name, weight in own.items()}

    def fused_biases(self) -> tuple[Tensor, Tensor]:
        """The input and recurrent bias (G*H each) with which torch's kernel computes this cell."""
        return self.bias, torch.zeros_like(self.bias)

    def step(self, a: Tensor, s: Any, w: Any) -> CellState:
        """One time step: pointwise but for the products with recurrent matrices.

        Args:
            a: (B, G*H), ``W_x x_t + b``.
            s: state before the step.
            w: the :meth:`recurrent_weights`: a vector is itself; a matrix M is a function, ``w.M(v, add)`` being
                ``add + M v`` as its (B, H) blocks of rows (a tensor alone where there is one). v is (B, H); ``add`` is
                left out, or columns of ``a``, or another product.
        """
        raise NotImplementedError


class _Tanh(torch.autograd.Function):
    @staticmethod
    def value(x: Tensor) -> Tensor:
        return torch.sigmoid(x + x).mul_(2.0).sub_(1.0)

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = _Tanh.value(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        derivative: Tensor = 1.0 - y * y
        return grads[0] * derivative


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent as ``2 sigmoid(2x) - 1``: on CPU, torch's sigmoid is six times as fast as its tanh.

    Rounding differs by less than 1.2e-7 in float32, 3e-16 in float64.
    """
    if has_torch_function_unary(x) or x.is_cuda:
        return torch.tanh(x)
    y: Tensor = _Tanh.apply(x) if torch.is_grad_enabled() else _Tanh.value(x)  # type: ignore[no-untyped-call]
    return y
