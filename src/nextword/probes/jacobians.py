"""Norms of the derivatives of a recurrent stack's state by its state some steps before, over real inputs.

Shapes: P positions side by side, T time steps, H hidden size, X what the lowest layer reads, R rows, C numbers of a
source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from nextword.models.cells import CellState
from nextword.models.stack import RecurrentStack
from nextword.probes.tangents import Field, Tangent, add, push, push_joints, with_products
from nextword.stage import Progress

VECTOR: Field = (-1, "v")
"""The one source of a Jacobian-vector product."""
OUTPUT: Field = (-1, "y")
"""What the stack hands on, as rows."""
Norms = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """``d rows_t / d sources_k``: which norms are measured."""

    rows: Field
    """Part of the state, or for :func:`chain_norms` also :data:`OUTPUT`."""
    sources: tuple[Field, ...]
    paths: tuple[Field, ...]
    """Parts of the state through which the derivative goes; the others are held fixed."""


@dataclass(frozen=True)
class Unrolled:
    """A stack run over a window step by step, with what autograd needs to go back."""

    x_TPX: Tensor
    states: list[tuple[CellState, ...]]
    """By step and layer; the first is the state before step 0."""
    products: list[list[list[tuple[str, Tensor, Tensor]]]]
    """By step and layer: every product's matrix, vector (P, H) and result (P, R)."""
    y_PW: Tensor
    """What the last step hands to the output layer."""

    def field(self, step: int, field: Field) -> Tensor:
        """A part of the state after a step, (P, H)."""
        value: Tensor = getattr(self.states[step + 1][field[0]], field[1])
        return value


def unroll(stack: RecurrentStack, x_TPX: Tensor, states: tuple[CellState, ...]) -> Unrolled:
    """Run a stack without dropout.

    Args:
        stack: its layers.
        x_TPX: inputs of the lowest layer, at least one step.
        states: by layer, before the first step.
    """
    states = tuple(type(s)(*[field.detach().requires_grad_() for field in s]) for s in states)
    run = Unrolled(x_TPX, [states], [], x_TPX[-1])
    stream = x_TPX[0]
    for x in x_TPX:
        stream, after, recorded = x, [], []
        for cell, joint, state in zip(stack.cells, stack.joints, states, strict=True):
            log: list[tuple[str, Tensor, Tensor]] = []

            def multiply(name: str, weight: Tensor, v: Tensor, log: list[tuple[str, Tensor, Tensor]] = log) -> Tensor:
                log.append((name, v, linear(v, weight)))
                return log[-1][2]

            state = cell.step(linear(stream, cell.weight_ih, cell.bias), state, with_products(cell, multiply))
            stream = joint(state.h, stream)
            # A clone has no part in its own step, so its derivative is that of the state alone.
            after.append(type(state)(*[field.clone() for field in state]))
            recorded.append(log)
        states = tuple(after)
        run.states.append(states)
        run.products.append(recorded)
    return Unrolled(x_TPX, run.states, run.products, stream)


@torch.no_grad()
def chain_norms(
    stack: RecurrentStack, run: Unrolled, quantities: Sequence[Quantity], lags: Sequence[int], progress: Progress
) -> list[Norms]:
    """Spectral norms from the product of all one-step Jacobians, exact.

    ``d s_t / d s_k = J_t J_{t-1} ... J_{k+1}`` is multiplied out from the left, t being the last step of the window.
    The norm is the root of the largest eigenvalue of the Gram matrix.

    Args:
        stack: what ran.
        run: its run over T steps.
        quantities: what is measured.
        lags: t - k, below T.
        progress: told (lags done, lags in all).

    Returns:
        for each quantity (lags, P); inf where a product is not finite.
    """
    last, longest = len(run.products) - 1, max(lags)
    ones = {field: torch.ones_like(run.field(last, field)[:1]) for q in quantities for field in q.paths}
    chains = {(q.rows, q.paths): _start(stack, run, q, ones) for q in quantities}
    found: list[list[Norms]] = [[] for _ in quantities]
    for lag in range(longest + 1):
        if lag:
            states = run.states[last - lag + 1]
            jacobian = push(stack, run.x_TPX[last - lag + 1], states, {key: {key: one} for key, one in ones.items()})
            chains = {key: _extend(chain, jacobian, key[1]) for key, chain in chains.items()}
        if lag in lags:
            for norms, q in zip(found, quantities, strict=True):
                chain = chains[q.rows, q.paths]
                norms.append(spectral_norms([chain[source] for source in q.sources if source in chain]))
        progress(lag + 1, longest + 1)
    return [np.stack(norms) for norms in found]


def iterated_norms(
    stack: RecurrentStack,
    run: Unrolled,
    quantities: Sequence[Quantity],
    lags: Sequence[int],
    iterations: int,
    progress: Progress,
) -> list[Norms]:
    """Spectral norms by power iteration: a Jacobian-vector product forward, a vector-Jacobian product back.

    Nothing larger than the states is held. An estimate is never above the norm; it comes closer with every iteration,
    fastest where one singular value stands out, as it does at long lags. Where a quantity's paths exclude a part of
    the state, :func:`chain_norms` must take it.

    Args:
        stack: what ran.
        run: its run over T steps.
        quantities: what is measured.
        lags: t - k, below T.
        iterations: for every quantity and lag, at least 1.
        progress: told (products done, products in all).

    Returns:
        as :func:`chain_norms`.
    """
    last, generator = len(run.products) - 1, torch.Generator().manual_seed(0)
    found = np.full((len(quantities), len(lags), run.x_TPX.shape[1]), np.inf)
    for (i, q), (j, lag) in product(enumerate(quantities), enumerate(lags)):
        rows, sources = run.field(last, q.rows), [run.field(last - lag, field) for field in q.sources]
        vectors = [torch.randn(s.shape, generator=generator, dtype=s.dtype) for s in sources]
        for _ in range(iterations):
            length = torch.cat(vectors, -1).norm(dim=-1, keepdim=True).clamp(min=math.ulp(0.0))
            pairs = zip(q.sources, vectors, strict=True)
            tangents: dict[Field, Tangent] = {field: {VECTOR: (v / length)[:, :, None]} for field, v in pairs}
            for step in range(last - lag + 1, last + 1):
                tangents = push(stack, run.x_TPX[step], run.states[step], tangents)
            image = tangents[q.rows][VECTOR][:, :, 0] if tangents.get(q.rows) else torch.zeros_like(rows)
            found[i, j] = image.norm(dim=-1).nan_to_num(nan=math.inf).numpy()
            back = torch.autograd.grad(
                rows, sources, image, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            vectors = list(back)
        progress(i * len(lags) + j + 1, len(quantities) * len(lags))
    return list(found)


def _start(stack: RecurrentStack, run: Unrolled, quantity: Quantity, ones: dict[Field, Tensor]) -> Tangent:
    """``d rows_t / d s_t``, t the last step."""
    if quantity.rows == OUTPUT:
        own = {field: {field: ones[field]} for field in quantity.paths}
        return push_joints(stack, run.x_TPX[-1], run.states[-1], own)
    return {quantity.rows: ones[quantity.rows].expand(run.x_TPX.shape[1], -1)}


def _extend(chain: Tangent, jacobian: dict[Field, Tangent], paths: tuple[Field, ...]) -> Tangent:
    terms = (
        {source: _compose(m, j) for source, j in jacobian[out].items() if source in paths} for out, m in chain.items()
    )
    return add(terms)


def _compose(m: Tensor, j: Tensor) -> Tensor:
    """``m @ j``, either of which may be a diagonal."""
    if m.dim() == 3:
        return m @ j if j.dim() == 3 else m * j[:, None, :]
    return m[:, :, None] * j if j.dim() == 3 else m * j


def spectral_norms(blocks: list[Tensor]) -> Norms:
    """Spectral norms, (P,), of blocks (P, R, C) side by side; a lone one may be a diagonal. inf where not finite."""
    if all(block.dim() == 2 for block in blocks) and len(blocks) == 1:
        norms = blocks[0].abs().amax(-1)
        return norms.nan_to_num(nan=math.inf).numpy()
    matrix = torch.cat([torch.diag_embed(b) if b.dim() == 2 else b for b in blocks], -1)
    scale = matrix.abs().amax((1, 2), keepdim=True)
    good = scale.isfinite()
    matrix = torch.where(good & (scale > 0), matrix / scale, 0.0)
    largest = torch.linalg.eigvalsh(matrix @ matrix.mT)[:, -1].clamp(min=0.0).sqrt()
    return torch.where(good[:, 0, 0], largest * scale[:, 0, 0], math.inf).numpy()
