"""Windows recorded as CUDA graphs, forward and backward, and replayed.

The steps of a small model are launches more than arithmetic; a replay is one launch for a whole window.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
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
        with torch.autocast("cuda", enabled=False):  # whose cache of casts no graph may use; windows need neither
            graphs[kind] = torch.cuda.make_graphed_callables(partial(Window.apply, *settings), inputs)
    output, *last = graphs[kind](*tensors)
    return output, type(state)(*[field.clone() for field in last])
