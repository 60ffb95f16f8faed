"""Windows recorded as CUDA graphs, forward and backward, and replayed.

The steps of a small model are launches more than arithmetic; a replay is one launch for a whole window.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from nextword.models.cells import Cell, CellState
from nextword.models.derived.window import Window, run_window, window_arguments

MOST_GRAPHS = 2
"""Of a cell: of a training the whole window and the short one at the end of the text; others are not recorded."""
_GRAPHS: WeakKeyDictionary[Cell, dict[Hashable, Callable[..., Any]]] = WeakKeyDictionary()


@contextmanager
def _without_warning() -> Iterator[None]:
    """Of gradients whose nodes were made on the stream of torch's warm-up: it waits for that stream."""
    warn = torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch
    warn(False)
    try:
        yield
    finally:
        warn(True)


class _OwnGradient(torch.autograd.Function):
    """A tensor as it is, with a gradient of its own: a graph's lies where the next replay puts the next one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clone()


def _own(tensor: Tensor) -> Tensor:
    """A weight keeps the gradient that it is given, and may add the next one to it; all else uses it up at once."""
    if not (tensor.is_leaf and tensor.requires_grad):
        return tensor
    own: Tensor = _OwnGradient.apply(tensor)  # type: ignore[no-untyped-call]
    return own


def replay_window(
    cell: Cell, x_TBI: Tensor, state: CellState, weights: Mapping[str, Tensor]
) -> tuple[Tensor, CellState]:
    """As :func:`~nextword.models.derived.run_window` with the kernels of torch, which it records on a GPU.

    The outputs lie where the next replay of this cell and kind of window puts its own: differentiate before that. The
    last state is a copy, for the next window to begin with.

    Source: torch.cuda.make_graphed_callables.
    """
    if not (x_TBI.is_cuda and torch.is_grad_enabled()):
        return run_window(cell, x_TBI, state, weights, "torch")
    settings, tensors = window_arguments(cell, x_TBI, state, weights, "torch")
    graphs = _GRAPHS.setdefault(cell, {})
    kind = (*settings, *((tensor.shape, tensor.dtype, tensor.requires_grad, tensor.device) for tensor in tensors))
    if kind not in graphs:
        if len(graphs) == MOST_GRAPHS:
            return run_window(cell, x_TBI, state, weights, "torch")
        # Copies, into which each replay copies what it is given.
        inputs = tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors)
        # Recorded is what the current device does. No graph may use autocast's cache of casts; windows need neither.
        with torch.cuda.device(x_TBI.device), torch.autocast("cuda", enabled=False), _without_warning():
            graphs[kind] = torch.cuda.make_graphed_callables(partial(Window.apply, *settings), inputs)
    output, *last = graphs[kind](*map(_own, tensors))
    return output, type(state)(*[field.clone() for field in last])
