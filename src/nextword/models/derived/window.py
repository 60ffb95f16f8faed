"""A window of a recurrent layer: matrix products, and the kernels of a program between them.

Autograd records nothing step by step; backward in time, each step computes its pointwise part again (cheaper than to
keep it), and the gradient of a recurrent matrix is one product over the whole window, ``dW = sum_t du_t v_t^T``.

Shapes: T time steps, B batch, H hidden size, G gates.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextword.models.c_library import NoCompiler, load
from nextword.models.cells import Cell, CellState
from nextword.models.derived.c_source import c_source
from nextword.models.derived.expression import NotTraceable
from nextword.models.derived.program import Kernel, Program, array_names, build_program
from nextword.models.derived.torch_source import rows, torch_kernel
from nextword.models.derived.trace import trace

Backend = Literal["c", "torch"]
Bound = Callable[[int], Any]
"""A kernel with its arrays; called with the time step."""


class _Array(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("step", ctypes.c_long), ("row", ctypes.c_long)]


class _CKernels:
    """The kernels of a cell in C, for CPU tensors."""

    def __init__(self, program: Program, real: torch.dtype, low: torch.dtype) -> None:
        self.arrays = array_names(program)
        self.library = load(c_source(program, real, low))

    def bind(self, kernels: Mapping[int, Kernel], tensors: Mapping[str, Tensor], hidden: int) -> dict[int, Bound]:
        """The kernels on these tensors, which must outlive their use."""
        table = (_Array * len(self.arrays))()
        for place, name in enumerate(self.arrays):
            if (x := tensors.get(name)) is not None:
                assert x.stride(-1) == 1 or x.shape[-1] == 1
                steps = x.stride(0) if x.dim() == 3 else 0
                table[place] = _Array(x.data_ptr(), steps, x.stride(-2) if x.dim() > 1 else 0)
        batch = tensors["a"].shape[1]
        return {k: self._function(kernel.name, table, batch, hidden) for k, kernel in kernels.items()}

    def _function(self, name: str, table: Any, batch: int, hidden: int) -> Bound:
        function = getattr(self.library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_long]
        function.restype = None
        return functools.partial(function, table, batch, hidden)


class _TorchKernels:
    """The kernels of a cell as torch operations, for every device."""

    def __init__(self, program: Program, real: torch.dtype, low: torch.dtype) -> None:
        kernels = [*program.forward.values(), *program.backward.values()]
        self.functions = {kernel.name: torch_kernel(kernel, real, low) for kernel in kernels}

    def bind(self, kernels: Mapping[int, Kernel], tensors: Mapping[str, Tensor], hidden: int) -> dict[int, Bound]:
        """The kernels on these tensors."""
        places = rows(tensors, hidden, tensors["a"].shape[0])
        return {k: functools.partial(self.functions[kernel.name], places) for k, kernel in kernels.items()}


_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch._C._has_mkldnn else None

F = TypeVar("F", bound=Callable[..., Any])


def _cached(function: F) -> F:
    return cast(F, functools.cache(function))  # keeps the signature


@_cached
def _program(cell: type[Cell]) -> Program:
    with torch.no_grad():
        return build_program(trace(cell(1, 1)), len(cell.gates))


@_cached
def _kernels(cell: type[Cell], backend: Backend, real: torch.dtype, low: torch.dtype) -> _CKernels | _TorchKernels:
    return (_CKernels if backend == "c" else _TorchKernels)(_program(cell), real, low)


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
    device, low = x_TBI.device.type, state[0].dtype
    if torch.is_autocast_enabled(device):
        autocast = torch.get_autocast_dtype(device)
        low = autocast if autocast == torch.bfloat16 or backend == "torch" else low
    arguments = (type(cell), backend, tuple(weights), low, x_TBI, cell.weight_ih, cell.bias, *state, *weights.values())
    output, *last = _Window.apply(*arguments)  # type: ignore[no-untyped-call]
    return output, type(state)(*last)


def _large_mm(x: Tensor, y: Tensor) -> Tensor:
    """``x @ y`` over a whole window.

    On CPU large ones in float32 by oneDNN, as ``nn.LSTM`` does: MKL, which ``torch.mm`` calls, is slow at some widths
    (at 3 x 650 columns by 1.6 times). oneDNN in turn is slow on columns of something wider and no faster if small.
    """
    large = x.shape[1] >= 512 and y.shape[1] >= 512 and x.dtype == torch.float32 and x.device.type == "cpu"
    if _onednn is not None and large and all(m.is_contiguous() or m.t().is_contiguous() for m in (x, y)):
        product: Tensor = _onednn(x, y.t(), None, "none", [], "")
        return product
    return torch.mm(x, y)


class _Window(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: type[Cell], backend: Backend, names: tuple[str, ...], low: torch.dtype, x_TBI: Tensor,
        weight_ih: Tensor, bias: Tensor, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        with torch.autocast(x_TBI.device.type, enabled=False):
            return _Window._forward(ctx, cell, backend, names, low, x_TBI, weight_ih, bias, *tensors)

    @staticmethod
    def _forward(
        ctx: Any, cell: type[Cell], backend: Backend, names: tuple[str, ...], low: torch.dtype, x_TBI: Tensor,
        weight_ih: Tensor, bias: Tensor, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        count = len(cell.State._fields)
        state, weights = tensors[:count], dict(zip(names, tensors[count:], strict=True))
        program = _program(cell)
        steps, batch, _ = x_TBI.shape
        hidden = state[0].shape[-1]
        x = x_TBI.to(low).flatten(0, 1)
        a_TBG = _large_mm(x, weight_ih.to(low).t()).add_(bias.to(low)).view(steps, batch, -1)
        arrays = {"a": a_TBG} | {f"w_{name}": weights[name].contiguous() for name in program.step.vectors}
        for j, field in enumerate(state):
            arrays[f"s{j}"] = field.new_empty(steps + 1, batch, hidden)
            arrays[f"s{j}"][0] = field
            if j in program.low_fields:
                arrays[f"l{j}"] = arrays[f"s{j}"]
                if low != field.dtype:
                    arrays[f"l{j}"] = arrays[f"s{j}"].to(low)
        operands = []
        for k, product in enumerate(program.step.products):
            arrays[f"u{k}"] = a_TBG.new_empty(steps, batch, product.blocks * hidden)
            if product.source is None:
                arrays[f"v{k}"] = a_TBG.new_empty(steps, batch, hidden)
            factor = arrays[f"v{k}" if product.source is None else f"l{product.source}"]
            operands.append((factor.unbind(0), weights[product.weight].to(low).t(), arrays[f"u{k}"].unbind(0)))
        kernels = _kernels(cell, backend, state[0].dtype, low).bind(program.forward, arrays, hidden)
        calls = [(kernels.get(k), *operand) for k, operand in enumerate(operands)]
        last = kernels[-1]
        for t in range(steps):
            for kernel, factors, matrix, results in calls:
                if kernel is not None:
                    kernel(t)
                torch.mm(factors[t], matrix, out=results[t])
            last(t)
        ctx.cell, ctx.backend, ctx.names, ctx.kept, ctx.count = cell, backend, names, list(arrays), count
        ctx.input = x_TBI.shape, x_TBI.dtype
        ctx.save_for_backward(*arrays.values(), x, weight_ih, *weights.values())
        return (arrays["s0"][1:], *(arrays[f"s{j}"][-1].clone() for j in range(count)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> Any:
        with torch.autocast(d_output.device.type, enabled=False):
            return _Window._backward(ctx, d_output, *d_last)

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
        adjoints = {}
        for k, product in enumerate(step.products):
            arrays[f"r{k}"] = a.new_zeros(batch, hidden)
            if k in program.shares:
                adjoints[k] = arrays["da"].narrow(-1, program.shares[k] * hidden, product.blocks * hidden)
            else:
                adjoints[k] = arrays[f"du{k}"] = a.new_zeros(steps, batch, product.blocks * hidden)
        kernels = _kernels(ctx.cell, ctx.backend, real, low).bind(program.backward, arrays, hidden)
        calls = [
            (adjoints[k].unbind(0), weights[step.products[k].weight].to(low), arrays[f"r{k}"], kernels.get(k))
            for k in reversed(adjoints)
        ]
        first = kernels[-1]
        for t in range(steps - 1, -1, -1):
            first(t)
            for rows_of, matrix, result, kernel in calls:
                torch.mm(rows_of[t], matrix, out=result)
                if kernel is not None:
                    kernel(t)
        d_state = [arrays[f"d{j}"] for j in range(ctx.count)]
        gradients: dict[str, Tensor] = {name: arrays[f"g_{name}"] for name in step.vectors}
        for k, product in enumerate(step.products):
            if product.source is not None:
                d_state[product.source] = d_state[product.source] + arrays[f"r{k}"]
            factor = arrays[f"v{k}" if product.source is None else f"l{product.source}"][:steps]
            # in this order the matrix product is the faster one
            gradient = _large_mm(factor.flatten(0, 1).t(), adjoints[k].flatten(0, 1)).t().to(real)
            name = product.weight
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        d_a = arrays["da"].flatten(0, 1)
        shape, dtype = ctx.input
        d_x = _large_mm(d_a, weight_ih.to(low)).to(dtype).view(shape) if ctx.needs_input_grad[4] else None
        d_weight, d_bias = _large_mm(x.t(), d_a).t().to(real), d_a.sum(0, dtype=real)
        recurrent = (gradients.get(name) for name in ctx.names)
        return (None, None, None, None, d_x, d_weight, d_bias, *d_state, *recurrent)
