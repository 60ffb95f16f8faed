"""The one loop over time: every recurrent layer, whatever its cell, runs here.

Two engines compute the same function of the same Parameters: ``scan`` steps through time in Python, ``fused`` calls
torch's kernel (oneDNN on CPU, cuDNN on a GPU) where the cell has one.

Shapes: T time steps, B batch, I input size, H hidden size, G number of gates.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

from nextword.models.cells import Cell, CellState

Engine = Literal["auto", "scan", "fused"]


def resolve_engine(cell: type[Cell], engine: Engine) -> Literal["scan", "fused"]:
    """Engine that runs for ``cell``: ``auto`` is ``fused`` where the cell has a kernel.

    Raises:
        ValueError: ``fused`` was asked for and no kernel computes this cell's equations.
    """
    if engine == "auto":
        return "scan" if cell.fused is None else "fused"
    if engine == "fused" and cell.fused is None:
        raise ValueError(f"no fused kernel computes the equations of {cell.kind!r}; use engine: scan or auto")
    return engine


def scan(cell: Cell, x_TBI: Tensor, state: CellState, engine: Engine = "auto") -> tuple[Tensor, CellState]:
    """Run ``cell`` over a window.

    Args:
        cell: its weights and equations.
        x_TBI: inputs.
        state: state before the first step, every field (B, H).
        engine: see the module.

    Returns:
        outputs (T, B, H) and the state after the last step.
    """
    if resolve_engine(type(cell), engine) == "fused":
        return _fused(cell, x_TBI, state)
    a_TBG = linear(x_TBI, cell.weight_ih, cell.bias)
    outputs = []
    for a in a_TBG.unbind(0):
        state = cell.step(a, state)
        outputs.append(state.h)
    return torch.stack(outputs), state


def _fused(cell: Cell, x_TBI: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    assert cell.fused is not None
    weights = [cell.weight_ih, cell.weight_hh, *cell.fused_biases()]
    initial = [field.unsqueeze(0) for field in state]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    output, *last = type(cell).fused(  # type: ignore[misc]
        x_TBI, initial if len(initial) > 1 else initial[0], weights, True, 1, 0.0, cell.training, False, False
    )
    return output, cell.State(*[field.squeeze(0) for field in last])
