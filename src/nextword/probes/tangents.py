"""Derivatives of one time step of a recurrent stack, exact and for any cell.

A cell's step is pointwise but for its products with recurrent matrices (:mod:`nextword.models.cells.base`), so its
derivative is sums of ``diag(g) W diag(g')``; every g is one row of ones through one backward pass of the step, for all
positions at once. What comes in is carried forward (forward accumulation): with unit vectors it is the Jacobian of the
step, with one vector a Jacobian-vector product.

Shapes: P positions side by side, H hidden size, R size of what is differentiated, C numbers of a source, X what the
lowest layer reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

from nextword.models.cells import Cell, CellState
from nextword.models.stack import RecurrentStack

Field = tuple[int, str]
"""Part of the state of a stack: layer from 0, name of the field."""
Tangent = dict[Field, Tensor]
"""Derivative of something (P, R) by source: (P, R, C), or its diagonal (P, R) where there is nothing beside it; 1 in
place of P where it is the same everywhere."""
Multiply = Callable[[str, Tensor, Tensor], Tensor]


def fields_of(stack: RecurrentStack) -> list[Field]:
    """All parts of the state of a stack, lowest layer first."""
    return [(layer, name) for layer, cell in enumerate(stack.cells) for name in cell.State._fields]


def with_products(cell: Cell, multiply: Multiply) -> SimpleNamespace:
    """What :meth:`Cell.step` computes with, every product made by ``multiply(name, matrix (R, H), vector (P, H))``."""

    def product(name: str, weight: Tensor) -> Callable[..., Any]:
        def apply(v: Tensor, add: Any = None) -> Any:
            u = multiply(name, weight, v)
            if add is not None:
                u = u + (torch.cat(add, -1) if isinstance(add, tuple) else add)
            return u if len(weight) == cell.hidden_size else torch.split(u, cell.hidden_size, -1)

        return apply

    weights = cell.recurrent_weights()
    return SimpleNamespace(**{name: product(name, w) if w.dim() == 2 else w for name, w in weights.items()})


@torch.no_grad()
def push(
    stack: RecurrentStack, x_PX: Tensor, states: tuple[CellState, ...], tangents: dict[Field, Tangent]
) -> dict[Field, Tangent]:
    """Carry derivatives of a stack's state through one time step; x is held fixed.

    Args:
        stack: in evaluation mode.
        x_PX: what the lowest layer reads.
        states: by layer, before the step, every field (P, H).
        tangents: derivatives of the state before the step; a part that is left out is held fixed.

    Returns:
        derivatives of the state after the step by the same sources, for all parts of it.
    """
    stream, d_stream, after = x_PX, cast(Tangent, {}), {}
    for layer, (cell, joint, state) in enumerate(zip(stack.cells, stack.joints, states, strict=True)):
        a = linear(stream, cell.weight_ih, cell.bias)
        names = cell.State._fields
        before = [tangents.get((layer, name), {}) for name in names]
        state, found = _push_cell(cell, a, state, _matmul(cell.weight_ih, d_stream), before)
        after.update({(layer, name): tangent for name, tangent in zip(names, found, strict=True)})
        if layer + 1 < len(stack.cells):
            d_stream = _push_joint(joint, state.h, stream, found[0], d_stream)
            stream = joint(state.h, stream)
    return after


@torch.no_grad()
def push_joints(
    stack: RecurrentStack, x_PX: Tensor, states: tuple[CellState, ...], tangents: dict[Field, Tangent]
) -> Tangent:
    """The derivative of what a stack hands on, (P, W), from those of its state after the same time step; x held fixed.

    Args:
        stack: in evaluation mode.
        x_PX: what the lowest layer has read.
        states: by layer, after the step, every field (P, H).
        tangents: derivatives of the state after the step; a part that is left out is held fixed.
    """
    stream, d_stream = x_PX, cast(Tangent, {})
    for layer, (joint, state) in enumerate(zip(stack.joints, states, strict=True)):
        d_stream = _push_joint(joint, state.h, stream, tangents.get((layer, "h"), {}), d_stream)
        stream = joint(state.h, stream)
    return d_stream


def _push_cell(
    cell: Cell, a: Tensor, state: CellState, d_a: Tangent, d_state: list[Tangent]
) -> tuple[CellState, list[Tangent]]:
    def leaf(value: Tensor, tangent: Tangent) -> Tensor:
        value = value.detach().requires_grad_()
        leaves.append((value, tangent))
        return value

    def derive(v: Tensor) -> Tangent:
        grads = torch.autograd.grad(v.sum(), [value for value, _ in leaves], retain_graph=True, allow_unused=True)
        pairs = [(g, tangent) for g, (_, tangent) in zip(grads, leaves, strict=True) if g is not None]
        return add(_scale(g, tangent, cell.hidden_size) for g, tangent in pairs)

    leaves: list[tuple[Tensor, Tangent]] = []
    with torch.enable_grad():
        a = leaf(a, d_a)
        state = cell.State(*[leaf(value, tangent) for value, tangent in zip(state, d_state, strict=True)])
        products = with_products(cell, lambda _, weight, v: leaf(linear(v, weight), _matmul(weight, derive(v))))
        after = cell.step(a, state, products)
        return cell.State(*[field.detach() for field in after]), [derive(field) for field in after]


def _push_joint(joint: torch.nn.Module, own: Tensor, read: Tensor, d_own: Tangent, d_read: Tangent) -> Tangent:
    found = {}
    for source in d_read | d_own:
        columns = next(d.shape[-1] for d in (d_own.get(source), d_read.get(source)) if d is not None)
        pairs = [(value, _dense(d.get(source), value, columns)) for value, d in ((own, d_own), (read, d_read))]
        found[source] = _jvp(joint, pairs)
    return found


@torch.enable_grad()
def _jvp(function: Callable[..., Tensor], pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Derivative along all columns: that of the vector-Jacobian product, which is linear, by its vector.

    torch.func.jvp would do, but loading it takes a second and warns.
    """
    values = [value[:, None, :].expand(-1, d.shape[2], -1).detach().requires_grad_() for value, d in pairs]
    result = function(*values)
    vector = torch.zeros_like(result, requires_grad=True)
    grads = torch.autograd.grad(result, values, vector, create_graph=True, allow_unused=True)
    used = [(grad, d.mT) for grad, (_, d) in zip(grads, pairs, strict=True) if grad is not None]
    return torch.autograd.grad([grad for grad, _ in used], vector, [d for _, d in used])[0].mT


def _dense(tangent: Tensor | None, value: Tensor, columns: int) -> Tensor:
    if tangent is None:
        return value.new_zeros(*value.shape, columns)
    return (torch.diag_embed(tangent) if tangent.dim() == 2 else tangent).expand(len(value), -1, -1)


def _matmul(weight: Tensor, tangent: Tangent) -> Tangent:
    matrix = weight.detach()
    return {key: matrix * d[:, None, :] if d.dim() == 2 else matrix @ d for key, d in tangent.items()}


def _scale(g: Tensor, tangent: Tangent, size: int) -> Tangent:
    """``diag(g) d``; where g is several blocks of ``size`` numbers, the sum of theirs."""

    def scale(d: Tensor) -> Tensor:
        if d.dim() == 2:
            return g * d
        first, *rest = zip(torch.split(g, size, -1), torch.split(d, size, -2), strict=True)
        total = first[0][:, :, None] * first[1]
        for g_block, d_block in rest:
            total.addcmul_(g_block[:, :, None], d_block)
        return total

    return {key: scale(d) for key, d in tangent.items()}


def add(tangents: Iterable[Tangent]) -> Tangent:
    """The sum; the tangents given are used up."""
    total: Tangent = {}
    for tangent in tangents:
        for key, d in tangent.items():
            total[key] = d if key not in total else _plus(total[key], d)
    return total


def _plus(a: Tensor, b: Tensor) -> Tensor:
    if a.dim() == b.dim():
        return a + b
    dense, diagonal = (a, b) if a.dim() == 3 else (b, a)
    dense.diagonal(dim1=1, dim2=2).add_(diagonal)
    return dense
