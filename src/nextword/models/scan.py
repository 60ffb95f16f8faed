"""Every recurrent layer, whatever its cell, runs here: a window of inputs in, outputs and the last state out.

Five engines compute the same function of the same Parameters:

- ``compiled``: on CPU, a whole window in C that is derived from the cell's step (:mod:`nextword.models.derived`), where
  there is a C compiler and the step is arithmetic;
- ``fused``: torch's kernel (oneDNN on CPU, cuDNN on a GPU), where the cell has one;
- ``scan``: the same with kernels of torch operations, on every device;
- ``graph``: on a GPU, windows of ``scan`` in training recorded as CUDA graphs: one launch for each
  (:mod:`nextword.models.derived.graphs`); ``scan`` elsewhere. Only where it is asked for;
- ``loop``: the steps as they are written, differentiated by autograd: every cell, and derivatives of any order.

Shapes: T time steps, B batch, I input size, H hidden size, G number of gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from nextword.models.cells import Cell, CellState
from nextword.models.derived import Backend, replay_window, run_window, underivable

Engine = Literal["auto", "fused", "compiled", "scan", "graph", "loop"]
Resolved = Literal["fused", "compiled", "scan", "graph", "loop"]
Weights = Mapping[str, Tensor]
# cuDNN's RNNs would round float32 to TF32, where torch's other products do not: what is called float32 is float32.
# torch takes this for a ban of tensor cores in bfloat16 too, where _fused allows them.
torch.backends.cudnn.allow_tf32 = False

Run = Callable[[Cell, Tensor, CellState, Weights], tuple[Tensor, CellState]]


def order(device: str = "cpu") -> tuple[Resolved, ...]:
    """All engines, fastest first on ``device`` (measured: benchmarks/RECORD.md)."""
    return ("compiled", "fused", "scan", "loop") if device == "cpu" else ("fused", "scan", "loop")


def why_not(engine: Resolved, cell: type[Cell], device: str = "cpu") -> str | None:
    """Why ``engine`` cannot run ``cell`` on ``device``; None where it can."""
    if engine == "fused":
        return None if cell.fused else "no fused kernel computes its equations"
    if engine == "compiled" and device != "cpu":
        return "its kernels are for CPU"
    return None if engine == "loop" else underivable(cell, "c" if engine == "compiled" else "torch")


def resolve_engine(cell: type[Cell], engine: Engine, device: str = "cpu") -> Resolved:
    """Engine that runs for ``cell``; ``auto`` is the fastest that can.

    Raises:
        ValueError: the engine that was asked for cannot run this cell.
    """
    if engine == "graph" and device == "cpu":
        engine = "scan"
    if engine == "auto":
        return next(name for name in order(device) if why_not(name, cell, device) is None)
    if (reason := why_not(engine, cell, device)) is not None:
        able = [name for name in order(device) if why_not(name, cell, device) is None]
        raise ValueError(f"engine {engine} cannot run {cell.kind!r}: {reason}; take auto, {' or '.join(able)}")
    return engine


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
    for part in torch.split(x_TBI, checkpoint_steps):
        output, state = checkpoint(run, cell, part, state, weights, use_reentrant=False, preserve_rng_state=False)
        outputs.append(output)
    return torch.cat(outputs), state


def _loop(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    def product(weight: Tensor) -> Callable[..., Any]:
        def multiply(v: Tensor, add: Any = None) -> Any:
            u = linear(v, weight)
            if add is not None:
                u = u + (torch.cat(add, -1) if isinstance(add, tuple) else add)
            return u if len(weight) == cell.hidden_size else torch.split(u, cell.hidden_size, -1)

        return multiply

    w = SimpleNamespace(**{name: product(value) if value.dim() == 2 else value for name, value in weights.items()})
    outputs = []
    for a in linear(x_TBI, cell.weight_ih, cell.bias).to(state[0].dtype).unbind(0):
        state = cell.step(a, state, w)
        outputs.append(state.h)
    return torch.stack(outputs), state


def _derived(
    cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights, *, backend: Backend
) -> tuple[Tensor, CellState]:
    return run_window(cell, x_TBI, state, weights, backend)


def _fused(cell: Cell, x_TBI: Tensor, state: CellState, weights: Weights) -> tuple[Tensor, CellState]:
    matrix = weights["hh"] if "hh" in weights else torch.cat([w for w in weights.values() if w.dim() == 2])
    tensors = [cell.weight_ih, matrix, *cell.fused_biases()]
    if not x_TBI.is_cuda:
        return _torch_rnn(cell, x_TBI, state, tensors)
    low = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else state[0].dtype
    torch.backends.cudnn.allow_tf32 = low == torch.bfloat16  # till the backward pass, which asks for it again
    with torch.autocast("cuda", enabled=False):  # which would run cuDNN's RNNs in float16, whatever its own type
        return _rnn_in(low, cell, x_TBI, state, tensors)


def _rnn_in(
    low: torch.dtype, cell: Cell, x_TBI: Tensor, state: CellState, tensors: list[Tensor]
) -> tuple[Tensor, CellState]:
    """The fused kernel in type ``low``; the state that is carried on keeps its own.

    The weights are laid out one after the other, as cuDNN wants them: else it does so itself, with a warning.
    """
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(low)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    views = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    output, last = _torch_rnn(cell, x_TBI.to(low), cell.State(*[field.to(low) for field in state]), views)
    return output, cell.State(*[field.to(own.dtype) for field, own in zip(last, state, strict=True)])


def _torch_rnn(cell: Cell, x_TBI: Tensor, state: CellState, tensors: list[Tensor]) -> tuple[Tensor, CellState]:
    assert cell.fused is not None
    initial = [field.unsqueeze(0) for field in state]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first
    output, *last = type(cell).fused(  # type: ignore[misc]
        x_TBI, initial if len(initial) > 1 else initial[0], tensors, True, 1, 0.0, cell.training, False, False
    )
    return output, cell.State(*[field.squeeze(0) for field in last])


_ENGINES: dict[Resolved, Run] = {
    "fused": _fused,
    "compiled": partial(_derived, backend="c"),
    "scan": partial(_derived, backend="torch"),
    "graph": replay_window,
    "loop": _loop,
}
