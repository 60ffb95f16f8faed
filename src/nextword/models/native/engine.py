"""The engine ``compiled``: a window of a recurrent layer by matrix products and C kernels between them.

Shapes: T time steps, B batch, H hidden size, G gates.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextword.models.cells import Cell, CellState
from nextword.models.native.expression import NotTraceable
from nextword.models.native.library import NoCompiler, load
from nextword.models.native.source import Program, build_program, source
from nextword.models.native.trace import trace

_LOW = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bfloat16"}


class _Array(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("step", ctypes.c_long), ("row", ctypes.c_long)]


class _Code:
    """A cell's program and its compiled kernels for one pair of types."""

    def __init__(self, cell: type[Cell], real: torch.dtype, low: torch.dtype) -> None:
        self.program = _program(cell)
        step = self.program.step
        self.arrays = [
            "a", "out", "da", *(f"{x}{j}" for j in range(len(step.new_state)) for x in "sld"),
            *(f"{x}{k}" for k in range(len(step.products)) for x in ("u", "v", "r", "du")),
            *(f"{x}_{name}" for name in step.vectors for x in "wg"),
        ]  # fmt: skip
        library = load(source(self.program, self.arrays, _LOW[real], _LOW[low]))
        self.forward = {k: self._function(library, kernel.name) for k, kernel in self.program.forward.items()}
        self.backward = {k: self._function(library, kernel.name) for k, kernel in self.program.backward.items()}

    @staticmethod
    def _function(library: ctypes.CDLL, name: str) -> Any:
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_long]
        function.restype = None
        return function

    def argument(self, tensors: Mapping[str, Tensor]) -> Any:
        """The kernels' first argument; it holds addresses, so the tensors must outlive its use."""
        table = (_Array * len(self.arrays))()
        for place, name in enumerate(self.arrays):
            if (x := tensors.get(name)) is not None:
                assert x.stride(-1) == 1 or x.shape[-1] == 1
                steps = x.stride(0) if x.dim() == 3 else 0
                table[place] = _Array(x.data_ptr(), steps, x.stride(-2) if x.dim() > 1 else 0)
        return table


@functools.cache
def _program(cell: type[Cell]) -> Program:
    with torch.no_grad():
        return build_program(trace(cell(1, 1)), len(cell.gates))


_code = functools.cache(_Code)


@functools.cache
def why_not(cell: type[Cell]) -> str | None:
    """Why this engine cannot run ``cell`` here; None where it can."""
    try:
        _code(cell, torch.float32, torch.float32)
    except (NotTraceable, NoCompiler) as error:
        return str(error)
    return None


def compiled_scan(
    cell: Cell, a_TBG: Tensor, state: CellState, weights: Mapping[str, Tensor]
) -> tuple[Tensor, CellState]:
    """Outputs (T, B, H) and the last state of ``cell`` over a window.

    Args:
        cell: gives the equations.
        a_TBG: input projections (T, B, G*H), bfloat16 or as the state; their dtype is that of the matrix products.
        state: before the first step, float32 or float64.
        weights: the cell's recurrent weights.
    """
    if a_TBG.dtype not in (torch.bfloat16, state[0].dtype):
        a_TBG = a_TBG.to(state[0].dtype)
    result = _CompiledScan.apply(type(cell), tuple(weights), a_TBG, *state, *weights.values())  # type: ignore[no-untyped-call]
    return result[0], type(state)(*result[1:])


class _CompiledScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: type[Cell], names: tuple[str, ...], a_TBG: Tensor, *tensors: Tensor) -> Any:
        count = len(cell.State._fields)
        state, weights = tensors[:count], dict(zip(names, tensors[count:], strict=True))
        code = _code(cell, state[0].dtype, a_TBG.dtype)
        program, products = code.program, code.program.step.products
        steps, batch, _ = a_TBG.shape
        hidden, low = state[0].shape[-1], a_TBG.dtype
        arrays = {"a": a_TBG.contiguous()} | {f"w_{name}": weights[name].contiguous() for name in program.step.vectors}
        for j, field in enumerate(state):
            arrays[f"s{j}"] = field.new_empty(steps + 1, batch, hidden)
            arrays[f"s{j}"][0] = field
            if j in program.low_fields:
                arrays[f"l{j}"] = arrays[f"s{j}"]
                if low != field.dtype:
                    arrays[f"l{j}"] = field.new_empty(steps + 1, batch, hidden, dtype=low)
                    arrays[f"l{j}"][0] = field
        calls = []
        for k, product in enumerate(products):
            arrays[f"u{k}"] = a_TBG.new_empty(steps, batch, product.blocks * hidden)
            if product.source is None:
                arrays[f"v{k}"] = a_TBG.new_empty(steps, batch, hidden)
            factor = arrays[f"v{k}" if product.source is None else f"l{product.source}"]
            matrix = weights[product.weight].to(low).t()
            calls.append((code.forward.get(k), factor.unbind(0), matrix, arrays[f"u{k}"].unbind(0)))
        last, argument = code.forward[-1], code.argument(arrays)
        with torch.autocast("cpu", enabled=False):
            for t in range(steps):
                for kernel, factors, matrix, results in calls:
                    if kernel is not None:
                        kernel(argument, t, batch, hidden)
                    torch.mm(factors[t], matrix, out=results[t])
                last(argument, t, batch, hidden)
        ctx.code, ctx.names, ctx.kept, ctx.count = code, names, list(arrays), count
        ctx.save_for_backward(*arrays.values(), *weights.values())
        return (arrays["s0"][1:], *(arrays[f"s{j}"][-1].clone() for j in range(count)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> Any:
        code, kept = ctx.code, len(ctx.kept)
        program, products = code.program, code.program.step.products
        arrays = dict(zip(ctx.kept, ctx.saved_tensors[:kept], strict=True))
        weights = dict(zip(ctx.names, ctx.saved_tensors[kept:], strict=True))
        a, real = arrays["a"], arrays["s0"].dtype
        steps, batch, width = a.shape
        hidden, low = arrays["s0"].shape[-1], a.dtype
        arrays["out"] = d_output.contiguous()
        arrays["da"] = torch.empty_like(a) if program.covered else torch.zeros_like(a)
        arrays |= {f"d{j}": d.clone(memory_format=torch.contiguous_format) for j, d in enumerate(d_last)}
        arrays |= {f"g_{name}": torch.zeros(hidden, dtype=real) for name in program.step.vectors}
        calls = []
        for k in reversed(range(len(products))):
            product = products[k]
            arrays[f"r{k}"] = a.new_zeros(batch, hidden)
            if k in program.shares:
                start = program.shares[k] * hidden
                adjoint = arrays["da"][..., start : start + product.blocks * hidden]
            else:
                adjoint = arrays[f"du{k}"] = a.new_zeros(steps, batch, product.blocks * hidden)
            matrix = weights[product.weight].to(low)
            calls.append((adjoint.unbind(0), matrix, arrays[f"r{k}"], code.backward.get(k), adjoint))
        first, argument = code.backward[-1], code.argument(arrays)
        for t in range(steps - 1, -1, -1):
            first(argument, t, batch, hidden)
            for adjoints, matrix, result, kernel, _ in calls:
                torch.mm(adjoints[t], matrix, out=result)
                if kernel is not None:
                    kernel(argument, t, batch, hidden)
        d_state = [arrays[f"d{j}"] for j in range(ctx.count)]
        gradients: dict[str, Tensor] = {name: arrays[f"g_{name}"] for name in program.step.vectors}
        for product, k, (*_, adjoint) in zip(reversed(products), reversed(range(len(products))), calls, strict=True):
            if product.source is not None:
                d_state[product.source] = d_state[product.source] + arrays[f"r{k}"]
            factor = arrays[f"v{k}" if product.source is None else f"l{product.source}"][:steps]
            # in this order the matrix product is the faster one
            gradient = (factor.reshape(-1, hidden).t() @ adjoint.reshape(steps * batch, -1)).t().to(real)
            name = product.weight
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return (None, None, arrays["da"], *d_state, *(gradients.get(name) for name in ctx.names))
