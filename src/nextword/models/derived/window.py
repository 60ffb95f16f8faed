"""A window of a recurrent layer: matrix products, and the kernels of a program between them.

Autograd records nothing step by step; backward in time, each step computes its pointwise part again (cheaper than to
keep it), and the gradient of a recurrent matrix is one product over the whole window, ``dW = sum_t du_t v_t^T``.

Shapes: T time steps, B batch, H hidden size, G gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextword.models.c_library import NoCompiler
from nextword.models.cells import Cell, CellState
from nextword.models.derived.c_kernels import CKernels
from nextword.models.derived.expression import NotTraceable
from nextword.models.derived.program import Program, build_program
from nextword.models.derived.torch_kernels import TorchKernels
from nextword.models.derived.trace import trace
from nextword.models.matmul import available, matmul

Backend = Literal["c", "torch"]
F = TypeVar("F", bound=Callable[..., Any])


def _cached(function: F) -> F:
    return cast(F, functools.cache(function))  # keeps the signature


@_cached
def _program(cell: type[Cell]) -> Program:
    with torch.no_grad():
        step = trace(cell(2, 2))
        if step != trace(cell(3, 3)):
            raise NotTraceable("its step is another at another size")
        return build_program(step, len(cell.gates))


@_cached
def _kernels(cell: type[Cell], backend: Backend, real: torch.dtype, low: torch.dtype) -> CKernels | TorchKernels:
    return (CKernels if backend == "c" else TorchKernels)(_program(cell), real, low)


@_cached
def underivable(cell: type[Cell], backend: Backend) -> str | None:
    """Why ``cell`` cannot run so here; None where it can."""
    try:
        _kernels(cell, backend, torch.float32, torch.float32)
    except (NotTraceable, NoCompiler) as error:
        return str(error)
    return None


def run_window(
    cell: Cell, x_TBI: Tensor, state: CellState, weights: Mapping[str, Tensor], backend: Backend
) -> tuple[Tensor, CellState]:
    """Outputs (T, B, H) and the last state of ``cell`` over a window.

    Matrix products run in autocast's type where it is on (float16 with the kernels of torch alone), else in that of
    the state.

    Args:
        cell: gives the equations.
        x_TBI: inputs.
        state: before the first step, float32 or float64.
        weights: the cell's recurrent weights.
        backend: of the kernels.
    """
    settings, tensors = window_arguments(cell, x_TBI, state, weights, backend)
    output, *last = Window.apply(*settings, *tensors)  # type: ignore[no-untyped-call]
    return output, type(state)(*last)


def window_arguments(
    cell: Cell, x_TBI: Tensor, state: CellState, weights: Mapping[str, Tensor], backend: Backend
) -> tuple[tuple[type[Cell], Backend, tuple[str, ...], torch.dtype], tuple[Tensor, ...]]:
    """What :class:`Window` takes: settings, and the tensors that it is a function of."""
    device, low = x_TBI.device.type, state[0].dtype
    if torch.is_autocast_enabled(device):
        autocast = torch.get_autocast_dtype(device)
        low = autocast if autocast == torch.bfloat16 or backend == "torch" else low
    tensors = (x_TBI, cell.weight_ih, cell.bias, *state, *weights.values())
    return (type(cell), backend, tuple(weights), low), tensors


def _mm(x: Tensor, y: Tensor) -> Tensor:
    """``x @ y`` over a whole window."""
    return matmul(x, y) if available(x, y) else torch.mm(x, y)


class Window(torch.autograd.Function):
    """Outputs and last state as a function of :func:`window_arguments`."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, cell: type[Cell], backend: Backend, names: tuple[str, ...], low: torch.dtype, x_TBI: Tensor,
        weight_ih: Tensor, bias: Tensor, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        with torch.autocast(x_TBI.device.type, enabled=False):
            return Window._forward(ctx, cell, backend, names, low, x_TBI, weight_ih, bias, *tensors)

    @staticmethod
    def _forward(
        ctx: Any, cell: type[Cell], backend: Backend, names: tuple[str, ...], low: torch.dtype, x_TBI: Tensor,
        weight_ih: Tensor, bias: Tensor, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        count = len(cell.State._fields)
        state, weights = tensors[:count], dict(zip(names, tensors[count:], strict=True))
        program = _program(cell)
        steps, batch, _ = x_TBI.shape
        hidden, real = state[0].shape[-1], state[0].dtype
        x = x_TBI.to(low).flatten(0, 1)
        a_TBG = _mm(x, weight_ih.to(low).t()).add_(bias.to(low)).view(steps, batch, -1)
        arrays = {"a": a_TBG} | {f"w_{name}": weights[name].contiguous() for name in program.step.vectors}
        for j, field in enumerate(state):
            for array, dtype in (("s", real), ("l", low)):
                if array == "s" or (low != real and j in program.low_fields):
                    arrays[f"{array}{j}"] = field.new_empty(steps + 1, batch, hidden, dtype=dtype)
                    arrays[f"{array}{j}"][0] = field
        for k, product in enumerate(program.step.products):
            arrays[f"u{k}"] = a_TBG.new_empty(steps, batch, product.blocks * hidden)
            if product.source is None:
                arrays[f"v{k}"] = a_TBG.new_empty(steps, batch, hidden)
        matrices = [weights[product.weight].to(low) for product in program.step.products]
        _kernels(cell, backend, real, low).forward(arrays, matrices)
        ctx.cell, ctx.backend, ctx.names, ctx.kept, ctx.count = cell, backend, names, list(arrays), count
        ctx.input = x_TBI.shape, x_TBI.dtype
        ctx.save_for_backward(*arrays.values(), x, weight_ih, *weights.values())
        return (arrays["s0"][1:], *(arrays[f"s{j}"][-1].clone() for j in range(count)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> Any:  # noqa: D102
        with torch.autocast(d_output.device.type, enabled=False):
            return Window._backward(ctx, d_output, *d_last)

    @staticmethod
    def _backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> Any:
        program, kept = _program(ctx.cell), len(ctx.kept)
        step = program.step
        saved = ctx.saved_tensors
        arrays = dict(zip(ctx.kept, saved[:kept], strict=True))
        x, weight_ih = saved[kept : kept + 2]
        weights = dict(zip(ctx.names, saved[kept + 2 :], strict=True))
        a, real = arrays["a"], arrays["s0"].dtype
        steps, batch, _ = a.shape
        hidden, low = arrays["s0"].shape[-1], a.dtype
        arrays["out"] = d_output.contiguous()
        arrays["da"] = torch.empty_like(a) if program.covered else torch.zeros_like(a)
        arrays |= {f"d{j}": d.clone(memory_format=torch.contiguous_format) for j, d in enumerate(d_last)}
        arrays |= {f"g_{name}": torch.zeros_like(weights[name]) for name in step.vectors}
        for k, product in enumerate(step.products):
            arrays[f"r{k}"] = a.new_zeros(batch, hidden)
            if k not in program.shares:
                arrays[f"du{k}"] = a.new_zeros(steps, batch, product.blocks * hidden)
        matrices = [weights[product.weight].to(low) for product in step.products]
        _kernels(ctx.cell, ctx.backend, real, low).backward(arrays, matrices)
        d_state = [arrays[f"d{j}"] for j in range(ctx.count)]
        gradients: dict[str, Tensor] = {name: arrays[f"g_{name}"] for name in step.vectors}
        for k, product in enumerate(step.products):
            if product.source is not None:
                d_state[product.source] = d_state[product.source] + arrays[f"r{k}"]
            factor = arrays[program.factor(k, low != real)][:steps]
            gradient = _mm(program.adjoint(k, arrays).flatten(0, 1).t(), factor.flatten(0, 1)).to(real)
            name = product.weight
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        d_a = arrays["da"].flatten(0, 1)
        shape, dtype = ctx.input
        d_x = _mm(d_a, weight_ih.to(low)).to(dtype).view(shape) if ctx.needs_input_grad[4] else None
        d_weight, d_bias = _mm(d_a.t(), x).to(real), d_a.sum(0, dtype=real)
        recurrent = (gradients.get(name) for name in ctx.names)
        return (None, None, None, None, d_x, d_weight, d_bias, *d_state, *recurrent)
