"""Every recurrent layer, whatever its cell, runs here: a window of inputs in, outputs and the last state out.

Four engines compute the same function of the same Parameters:

- ``fused``: torch's kernel (oneDNN on CPU, cuDNN on a GPU), where the cell has one;
- ``compiled``: on CPU, matrix products and C kernels that are derived from the cell's step (:mod:`nextword.models.native`),
  where there is a C compiler and the step is arithmetic;
- ``scan``: steps through time in Python and back by a linear recurrence (:mod:`nextword.models.adjoint`); every cell
  that is pointwise but for its matrix products;
- ``loop``: the same steps, differentiated by autograd operation by operation; every cell, and any derivative.

Shapes: T time steps, B batch, I input size, H hidden size, G number of gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from nextword.models.adjoint import Blocks, adjoint_scan
from nextword.models.cells import Cell, CellState
from nextword.models.native import compiled_scan, why_not

Engine = Literal["auto", "fused", "compiled", "scan", "loop"]
Resolved = Literal["fused", "compiled", "scan", "loop"]
Weights = Mapping[str, Tensor]
Run = Callable[[Cell, Tensor, CellState, Weights], tuple[Tensor, CellState]]


def resolve_engine(cell: type[Cell], engine: Engine, device: str = "cpu") -> Resolved:
    """Engine that runs for ``cell``.

    ``auto`` is ``fused`` where the cell has a kernel that is the fastest on the device, else the first of ``compiled``,
    ``scan`` and ``loop`` that computes the cell.

    Raises:
        ValueError: the engine that was asked for cannot compute this cell.
    """
    if engine == "fused" and cell.fused is None:
        raise ValueError(f"no fused kernel computes the equations of {cell.kind!r}; use engine: scan or auto")
    if engine == "scan" and not is_pointwise(cell):
        raise ValueError(
            f"{cell.kind!r} does more in a step than pointwise operations and products with its matrices, so engine "
            "scan would differentiate it wrongly; use engine: loop or auto"
        )
    if engine == "compiled" and (reason := why_not(cell) if device == "cpu" else "it is for CPU"):
        raise ValueError(f"engine compiled cannot run {cell.kind!r}: {reason}; use engine: auto")
    if engine != "auto":
        return engine
    if cell.fused is not None and (cell.fast_on_cpu or device != "cpu"):
        return "fused"
    if device == "cpu" and why_not(cell) is None:
        return "compiled"
    return "scan" if is_pointwise(cell) else "loop"


def scan(
    cell: Cell,
    x_TBI: Tensor,
    state: CellState,
    engine: Engine = "auto",
    weights: Weights | None = None,
    checkpoint_steps: int | None = None,
) -> tuple[Tensor, CellState]:
    """Run ``cell`` over a window.

    Args:
        cell: its weights and equations.
        x_TBI: inputs.
        state: state before the first step, every field (B, H).
        engine: see the module.
        weights: in place of the cell's own :meth:`Cell.recurrent_weights` (weight drop).
        checkpoint_steps: keep the state at each so many steps alone and compute the rest again in the backward pass:
            less memory for one more forward pass. The same numbers.

    Returns:
        outputs (T, B, H) and the state after the last step.
    """
    run = _ENGINES[resolve_engine(type(cell), engine, x_TBI.device.type)]
    weights = cell.recurrent_weights() if weights is None else weights
    if checkpoint_steps is None or not torch.is_grad_enabled():
        return run(cell, x_TBI, state, weights)
    outputs = []
    for part in x_TBI.split(checkpoint_steps):
        output, state = checkpoint(run, cell, part, state, weights, use_reentrant=False, preserve_rng_state=False)
        outputs.append(output)
    return torch.cat(outputs), state


def _loop(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    def product(weight: Tensor) -> Callable[..., Blocks]:
        def multiply(v: Tensor, add: Any = None) -> Blocks:
            if isinstance(add, tuple):
                add = torch.cat(add, -1)
            u = linear(v, weight) if add is None else add + linear(v, weight)
            return u if len(weight) == cell.hidden_size else u.split(cell.hidden_size, -1)

        return multiply

    w = SimpleNamespace(**{name: product(value) if value.dim() == 2 else value for name, value in weights.items()})
    outputs = []
    for a in linear(x_TBI, cell.weight_ih, cell.bias).to(state[0].dtype).unbind(0):
        state = cell.step(a, state, w)
        outputs.append(state.h)
    return torch.stack(outputs), state


def _scan(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    if not torch.is_grad_enabled():
        return _loop(cell, x_TBI, state, weights)
    return adjoint_scan(cell, linear(x_TBI, cell.weight_ih, cell.bias), state, weights)


def _compiled(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    return compiled_scan(cell, linear(x_TBI, cell.weight_ih, cell.bias), state, weights)


def _fused(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    assert cell.fused is not None
    matrix = weights["hh"] if "hh" in weights else torch.cat([w for w in weights.values() if w.dim() == 2])
    tensors = [cell.weight_ih, matrix, *cell.fused_biases()]
    initial = [field.unsqueeze(0) for field in state]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    output, *last = type(cell).fused(  # type: ignore[misc]
        x_TBI, initial if len(initial) > 1 else initial[0], tensors, True, 1, 0.0, cell.training, False, False
    )
    return output, cell.State(*[field.squeeze(0) for field in last])


_ENGINES: dict[Resolved, Run] = {"fused": _fused, "compiled": _compiled, "scan": _scan, "loop": _loop}


@functools.cache
def is_pointwise(cell: type[Cell]) -> bool:
    """Whether ``scan`` computes ``cell`` rightly, tried on a small random window against ``loop``."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        layer = cell(2, 3).double()
        leaves = [draw(4, 2, 2), *(draw(2, 3) for _ in cell.State._fields)]
        for parameter in layer.parameters():
            parameter.data = draw(*parameter.shape).data
        found = []
        for run in (_loop, _scan):
            try:
                output, last = run(layer, leaves[0], cell.State(*leaves[1:]), layer.recurrent_weights())
                total = sum((part * part.detach().cos()).sum() for part in (output, *last))
                assert isinstance(total, Tensor)
                found.append((output, *torch.autograd.grad(total, [*leaves, *layer.parameters()])))
            except RuntimeError:  # shapes that only the loop can take
                if run is _loop:
                    raise
                return False
    return all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in zip(*found, strict=True))
