"""A scan over time whose backward pass is a linear recurrence.

A step of a cell is pointwise but for products ``u_k = W_k v_k`` with its recurrent matrices. So, once the products are
known, all partial derivatives of all steps are numbers a unit, and are computed for many steps at once by one
vectorised autograd call. What is left to do step by step backwards in time is linear and small: for the adjoint
``d`` of the state, ``du_k = P_k d`` (pointwise), ``d' = Q d + W_k^T du_k``. The gradient of a matrix is then one product
over the whole window, ``dW_k = sum_t du_k v_k^T``, and not one a step. No cell writes a backward pass, and autograd
records nothing step by step.

Shapes: T time steps, B batch, H hidden size, G gates, N = steps of a chunk * B, K_k rows of the k-th matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nextword.models.cells import Cell, CellState

Blocks = Tensor | tuple[Tensor, ...]
"""Of a product: its (B, H) blocks of rows; the tensor alone where there is one."""
Partials = list[tuple[int, tuple[Tensor, ...]]]

CHUNK_ELEMENTS = 1 << 18
"""Partial derivatives are computed for so many gate activations at a time: few enough to stay in the cache."""


def adjoint_scan(cell: Cell, a_TBG: Tensor, state: CellState, weights: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
    """Outputs (T, B, H) and the last state of ``cell`` over a window.

    Args:
        cell: gives ``step``.
        a_TBG: input projections (T, B, G*H); their dtype is that of the matrix products.
        state: before the first step.
        weights: the cell's recurrent weights.
    """
    names = tuple(weights)
    output, *last = _AdjointScan.apply(cell, names, a_TBG, *state, *weights.values())  # type: ignore[no-untyped-call]
    return output, type(state)(*last)


@dataclass
class _Product:
    """One matrix product of a step, as the first step used it."""

    name: str
    source: int | None
    """Which state field is multiplied; None where it is something computed in the step."""
    columns: slice
    """Its columns of the adjoint buffer: those of what it is added to, or columns of its own after those of ``a``."""
    after: int | None
    """The product to which it is added."""
    chained: bool = False
    """Whether another product is added to this one; then only the sum is kept."""


class _Products:
    """The products of a step in the forward pass: computes and records them."""

    def __init__(self, matrices: Mapping[str, Tensor], a_TBG: Tensor, hidden: int) -> None:
        self.compute = a_TBG.dtype
        self.matrices = {name: matrix.to(self.compute).t() for name, matrix in matrices.items()}
        self.steps, self.batch, self.width = a_TBG.shape
        self.hidden = hidden
        self.plan: list[_Product] = []
        self.sums: list[Tensor] = []
        """By product, its result with what it was added to, (T, B, K)."""
        self.factors: list[list[Tensor]] = []
        """By product without ``source``, what was multiplied, (B, H), by step."""
        self._rooms: list[tuple[Tensor, ...]] = []
        self._results: list[Any] = []
        self.step, self.a, self.state, self._position = -1, Tensor(), cast(Any, None), 0

    def begin(self, a: Tensor, state: Any) -> None:
        """Begin a step."""
        self.a, self.state, self._position = a, state, 0
        self.step += 1
        self._results.clear()

    def function(self, name: str) -> Callable[..., Blocks]:
        """``w.name`` of a step."""
        matrix = self.matrices[name]

        def multiply(v: Tensor, add: Any = None) -> Blocks:
            k, self._position = self._position, self._position + 1
            if k == len(self.plan):
                self._describe(name, v, add, matrix.shape[1])
            product = self.plan[k]
            u = self._rooms[k][self.step]
            if product.after is not None:
                add = self._rooms[product.after][self.step]
            if v.dtype != self.compute:
                u.copy_(torch.mm(v.to(self.compute), matrix))
                if add is not None:
                    u.add_(add)
            elif add is None:
                torch.mm(v, matrix, out=u)
            else:
                torch.addmm(add, v, matrix, out=u)
            if product.source is None:
                self.factors[k].append(v)
            result = u if matrix.shape[1] == self.hidden else u.split(self.hidden, -1)
            self._results.append(result)
            return result

        return multiply

    def _describe(self, name: str, v: Tensor, add: Any, rows: int) -> None:
        source = next((j for j, value in enumerate(self.state) if value is v), None)
        after = next((k for k, result in enumerate(self._results) if result is add), None)
        if after is not None:
            self.plan[after].chained, columns = True, self.plan[after].columns
        elif add is not None:
            start = add.storage_offset() - self.a.storage_offset()
            if add.untyped_storage().data_ptr() != self.a.untyped_storage().data_ptr() or add.stride() != self.a.stride():
                raise RuntimeError("what a product is added to must be columns of a, or another product")
            columns = slice(start, start + rows)
        else:
            columns = slice(self.width, self.width + rows)
            self.width += rows
        self.plan.append(_Product(name, source, columns, after))
        self.sums.append(self.state[0].new_empty(self.steps, self.batch, rows))
        self._rooms.append(self.sums[-1].unbind(0))
        self.factors.append([])


class _AdjointScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: Cell, names: tuple[str, ...], a_TBG: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(a_TBG.device.type, enabled=False):
            num_fields = len(cell.State._fields)
            state = cell.State(*tensors[:num_fields])
            weights = dict(zip(names, tensors[num_fields:], strict=True))
            matrices = {name: x for name, x in weights.items() if x.dim() == 2}
            products = _Products(matrices, a_TBG, state[0].shape[-1])
            w = SimpleNamespace(**weights | {name: products.function(name) for name in matrices})
            states = [state]
            for a in a_TBG.to(state[0].dtype).unbind(0):
                products.begin(a, state)
                state = cell.step(a, state, w)
                states.append(state)
            fields = [torch.stack(values) for values in zip(*states, strict=True)]
            sums = [u for u, p in zip(products.sums, products.plan, strict=True) if not p.chained]
            factors = [torch.stack(v) for v in products.factors if v]
            ctx.save_for_backward(a_TBG, *fields, *sums, *factors, *tensors[num_fields:])
            ctx.cell, ctx.names, ctx.plan, ctx.width = cell, names, products.plan, products.width
            return (fields[0][1:], *(values[-1].clone() for values in fields))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(d_output.device.type, enabled=False):
            return _Backward(ctx).run(d_output, list(d_last))


class _Backward:
    """The backward pass of one window."""

    def __init__(self, ctx: Any) -> None:
        self.cell: Cell = ctx.cell
        self.names: tuple[str, ...] = ctx.names
        self.plan: list[_Product] = ctx.plan
        num_fields = len(self.cell.State._fields)
        saved = iter(ctx.saved_tensors)
        self.a: Tensor = next(saved)
        self.fields = [next(saved) for _ in range(num_fields)]
        self.sums = {k: next(saved) for k, product in enumerate(self.plan) if not product.chained}
        self.factors = {k: next(saved) for k, product in enumerate(self.plan) if product.source is None}
        self.weights = dict(zip(self.names, saved, strict=True))
        self.needed = dict(zip(self.names, ctx.needs_input_grad[3 + num_fields :], strict=True))
        self.exact, self.compute = self.fields[0].dtype, self.a.dtype
        steps, batch, self.inputs = self.a.shape
        self.batch, self.hidden = batch, self.fields[0].shape[-1]
        self.vectors = {name: w.detach() for name, w in self.weights.items() if w.dim() == 1}
        covered = sum(self.plan[k].columns.stop - self.plan[k].columns.start for k in self.sums)
        self.raw = covered < ctx.width  # some columns of a enter the step as they are
        new = torch.zeros if self.raw else torch.empty
        self.adjoint = new(steps, batch, ctx.width, dtype=self.exact, device=self.a.device)
        """Of ``a`` and of products that are added to nothing: (T, B, columns)."""

    def run(self, d_output: Tensor, d_state: list[Tensor]) -> tuple[Tensor | None, ...]:
        steps = len(self.a)
        length = max(1, CHUNK_ELEMENTS // (self.batch * self.inputs))
        gradients: dict[str, Tensor] = {}
        d_state[0] = d_state[0] + d_output[-1]
        for stop in range(steps, 0, -length):
            chunk = slice(max(0, stop - length), stop)
            replay = _Replay(self, chunk)
            d_state = self._through(chunk, replay, d_output, d_state)
            for name, gradient in replay.vector_gradients(self).items():
                gradients[name] = gradients[name] + gradient if name in gradients else gradient
        adjoint = self.adjoint.to(self.compute).flatten(0, 1)
        for k, product in enumerate(self.plan):
            if self.needed[product.name]:
                v = self.factors[k] if product.source is None else self.fields[product.source][:-1]
                # in this order the matrix product is the faster one
                gradient = (v.to(self.compute).flatten(0, 1).t() @ adjoint[:, product.columns]).t()
                earlier = gradients.get(product.name)
                gradients[product.name] = gradient if earlier is None else earlier + gradient
        d_a = adjoint[:, : self.inputs].view_as(self.a)
        found = [gradients[n].to(self.weights[n].dtype) if n in gradients else None for n in self.names]
        return (None, None, d_a, *d_state, *found)

    def _through(self, chunk: slice, replay: _Replay, d_output: Tensor, d_state: list[Tensor]) -> list[Tensor]:
        """Carry the adjoint of the state back through a chunk of steps, filling :attr:`adjoint`."""
        matrices = {name: w.to(self.compute) for name, w in self.weights.items() if w.dim() == 2}
        stages = []
        for k in reversed(self.sums):
            columns = self.plan[k].columns
            flat = self.adjoint[chunk, :, columns]
            targets = [
                (matrices[p.name], p.source if p.source is not None else len(d_state) + list(self.factors).index(m))
                for m, p in enumerate(self.plan)
                if p.columns == columns
            ]
            gates = [
                (block.unbind(0), partials)
                for block, partials in zip(flat.split(self.hidden, -1), replay.of_sum[k], strict=True)
            ]
            stages.append((flat.unbind(0), gates, targets))
        same = self.exact == self.compute
        outputs = d_output[chunk].unbind(0)
        before = d_output[chunk.start - 1] if chunk.start else None
        for t in range(chunk.stop - chunk.start - 1, -1, -1):
            d: list[Any] = [*d_state, *[None] * len(self.factors)]
            d_state = [cast(Tensor, None)] * len(d_state)
            d_state[0] = outputs[t - 1] if t else cast(Tensor, before)
            for flat, gates, targets in stages:
                for into, partials in gates:
                    (output, partial), *more = partials
                    torch.mul(partial[t], d[output], out=into[t])
                    for output, partial in more:
                        into[t].addcmul_(partial[t], d[output])
                low = flat[t] if same else flat[t].to(self.compute)
                for matrix, target in targets:
                    fresh = target >= len(d_state)
                    base = None if fresh else d_state[target]
                    if same:
                        value = torch.mm(low, matrix) if base is None else torch.addmm(base, low, matrix)
                    else:
                        value = torch.mm(low, matrix).to(self.exact)
                        value = value if base is None else value.add_(base)
                    if fresh:
                        d[target] = value
                    else:
                        d_state[target] = value
            for j, partials in enumerate(replay.of_field):
                for output, partial in partials:
                    value = d_state[j]
                    d_state[j] = partial[t] * d[output] if value is None else torch.addcmul(value, partial[t], d[output])
                if d_state[j] is None:
                    d_state[j] = torch.zeros_like(d[j])
            replay.remember(d)
        return d_state


class _Replay:
    """A chunk of steps computed again at once, with the partial derivatives of its pointwise part.

    Outputs are the fields of the new state and, after them, what is multiplied without being a field.
    """

    def __init__(self, window: _Backward, chunk: slice) -> None:
        def leaf(x: Tensor) -> Tensor:
            return x[chunk].flatten(0, 1).detach().requires_grad_()

        self.steps, self.batch, self.hidden = chunk.stop - chunk.start, window.batch, window.hidden
        self.chunk = chunk
        self.keep = window.raw or bool(window.vectors)
        self.adjoints: list[list[Tensor]] = []
        with torch.enable_grad():
            a = window.a[chunk].flatten(0, 1).to(window.exact).detach().requires_grad_(window.raw)
            self.inputs = {"": a} if window.raw else {}
            self.inputs |= {name: x.clone().requires_grad_() for name, x in window.vectors.items()}
            fields = [leaf(x[:-1]) for x in window.fields]
            sums = {
                k: [block.detach().requires_grad_() for block in x[chunk].flatten(0, 1).split(self.hidden, -1)]
                for k, x in window.sums.items()
            }
            factors: list[Tensor] = []
            position = 0

            def multiply(v: Tensor, add: Any = None) -> Any:
                nonlocal position
                k, position = position, position + 1
                if window.plan[k].source is None:
                    factors.append(v)
                blocks = sums.get(k)
                return blocks[0] if blocks and len(blocks) == 1 else blocks

            w = SimpleNamespace(**{name: self.inputs.get(name, multiply) for name in window.names})
            new = window.cell.step(a, window.cell.State(*fields), w)
            self.outputs = [*new, *factors]
            leaves = [*fields, *itertools.chain.from_iterable(sums.values())]
            one = a.new_ones(())
            found = [
                torch.autograd.grad(o, leaves, one.expand_as(o), retain_graph=True, allow_unused=True)
                if o.requires_grad
                else [None] * len(leaves)
                for o in self.outputs
            ]
        partials = iter(
            [
                [(o, p.unflatten(0, (self.steps, self.batch)).unbind(0)) for o, p in enumerate(row) if p is not None]
                for row in zip(*found, strict=True)
            ]
        )
        self.of_field: list[Partials] = [next(partials) for _ in fields]
        """By state field: (output, its derivative by the field at each step, (B, H))."""
        self.of_sum: dict[int, list[Partials]] = {k: [next(partials) for _ in blocks] for k, blocks in sums.items()}
        """By product and block of its rows, likewise."""

    def remember(self, d: list[Tensor]) -> None:
        """Keep the adjoints of the outputs of a step; steps come last first."""
        if self.keep:
            self.adjoints.append(d)

    def vector_gradients(self, window: _Backward) -> dict[str, Tensor]:
        """Gradients of the vectors; that of ``a`` where it enters a step as it is goes into the adjoint."""
        if not self.keep:
            return {}
        gradients = torch.autograd.grad(
            [o for o in self.outputs if o.requires_grad],
            list(self.inputs.values()),
            [torch.cat(d[::-1]) for o, d in zip(self.outputs, zip(*self.adjoints, strict=True), strict=True) if o.requires_grad],
            allow_unused=True,
        )
        by_name = {name: g for name, g in zip(self.inputs, gradients, strict=True) if g is not None}
        if (of_a := by_name.pop("", None)) is not None:
            window.adjoint[self.chunk, :, : window.inputs] += of_a.view(self.steps, self.batch, -1)
        return by_name
