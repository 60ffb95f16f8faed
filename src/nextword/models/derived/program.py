"""A traced step as a program: pointwise kernels between its matrix products, forward and backward.

Arrays, by name (T time steps, B batch, H hidden size, n blocks of a product's rows); ``low`` is the type of the matrix
products, ``real`` that of all else:

====  =============  ====  =================================================================================
a     (T, B, G*H)    low   input projections
sJ    (T+1, B, H)    real  field J of the state, before and after each step
lJ    (T+1, B, H)    low   the same, where it is multiplied and ``low`` is not ``real``
uK    (T, B, n*H)    low   result of product K
vK    (T, B, H)      low   what product K multiplies, where that is computed in the step
w_X   (H)            real  vector X
out   (T, B, H)      real  adjoint of the outputs
dJ    (B, H)         real  adjoint of field J, carried back through time in place
rK    (B, H)         low   adjoint of what product K multiplies
da    (T, B, G*H)    low   adjoint of a
duK   (T, B, n*H)    low   adjoint of product K, where it is not the same as columns of da
g_X   (H)            real  gradient of vector X
====  =============  ====  =================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nextword.models.derived.expression import ZERO, Expression, named, ordered, pull_back
from nextword.models.derived.trace import Step


@dataclass
class Store:
    """One result of a kernel."""

    array: str
    value: Expression
    block: int = 0
    next_step: bool = False
    """Into the place of the step after this one."""
    add: bool = False
    """Add to what is there."""


@dataclass
class Kernel:
    """A pointwise function over (B, H): reads arrays, writes arrays."""

    name: str
    stores: list[Store]
    reads: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """An input that is a sum of arrays: (array, block) each."""


@dataclass
class Program:
    """All kernels of a step, and how they go together with its products."""

    step: Step
    forward: dict[int, Kernel]
    """By product, what computes its factor; under -1 what computes the new state."""
    backward: dict[int, Kernel]
    """By product, what carries the adjoint of its factor on; under -1 the first, from the new state."""
    shares: dict[int, int]
    """Products whose adjoint is columns of ``da``: from which block on."""
    covered: bool
    """Whether every block of ``da`` is written."""
    low_fields: tuple[int, ...]
    """State fields that are multiplied."""

    def factor(self, k: int, mixed: bool) -> str:
        """Array of what product ``k`` multiplies; ``mixed``: low is not real."""
        source = self.step.products[k].source
        return f"v{k}" if source is None else f"{'l' if mixed else 's'}{source}"

    def adjoint(self, k: int, arrays: Mapping[str, Tensor]) -> Tensor:
        """The adjoint of product ``k``, (T, B, n*H)."""
        if k not in self.shares:
            return arrays[f"du{k}"]
        hidden = arrays["s0"].shape[-1]
        return arrays["da"].narrow(-1, self.shares[k] * hidden, self.step.products[k].blocks * hidden)


def build_program(step: Step, num_gates: int) -> Program:
    """Kernels of a traced step and of its derivative."""
    factors = {k: p.factor for k, p in enumerate(step.products) if p.source is None}
    low_fields = tuple(sorted({p.source for p in step.products if p.source is not None}))
    forward = {k: Kernel(f"forward{k}", [Store(f"v{k}", v)]) for k, v in factors.items()}
    states = [Store(f"s{j}", value, next_step=True) for j, value in enumerate(step.new_state)]
    states += [Store(f"l{j}", step.new_state[j], next_step=True) for j in low_fields]
    forward[-1] = Kernel("forward", states)

    fields = range(len(step.new_state))
    pulled = {-1: _pull({named(f"d{j}"): step.new_state[j] for j in fields})}
    pulled |= {k: _pull({named(f"r{k}"): factors[k]}) for k in reversed(factors)}
    shares = _shares(step, list(pulled.values()), num_gates)
    backward: dict[int, Kernel] = {}
    written: set[tuple[str, int]] = set()
    for k, adjoint in pulled.items():
        kernel = backward[k] = Kernel(f"backward{k}" if k >= 0 else "backward", [])
        places = [("da", f"a{g}", g) for g in range(num_gates)]
        places += [
            (f"du{m}", f"u{m}_{i}", i) for m, p in enumerate(step.products) if m not in shares for i in range(p.blocks)
        ]
        for array, source, block in places:
            value = adjoint.get(named(source), ZERO)
            if value is not ZERO:
                kernel.stores.append(Store(array, value, block, add=(array, block) in written))
                written.add((array, block))
        for j in fields:
            value = adjoint.get(named(f"s{j}"), ZERO)
            if k < 0 or value is not ZERO:
                kernel.stores.append(Store(f"d{j}", value, add=k >= 0))
        for name in step.vectors:
            value = adjoint.get(named(f"w_{name}"), ZERO)
            if value is not ZERO:
                kernel.stores.append(Store(f"g_{name}", value, add=True))
        if k < 0:
            for j in fields:
                sources = [(f"r{m}", 0) for m, p in enumerate(step.products) if p.source == j]
                kernel.reads[f"d{j}"] = [(f"d{j}", 0), *([("out", 0)] if j == 0 else []), *sources]
    covered = all(("da", g) in written for g in range(num_gates))
    return Program(step, forward, backward, shares, covered, low_fields)


def _pull(outputs: Mapping[Expression, Expression]) -> dict[Expression, Expression]:
    """Adjoints from {adjoint: output}; one output may stand under several adjoints."""
    total: dict[Expression, Expression] = {}
    for d, output in outputs.items():
        total[output] = total.get(output, ZERO) + d
    return pull_back(total)


def _shares(step: Step, pulled: list[dict[Expression, Expression]], num_gates: int) -> dict[int, int]:
    """Products each block of which has in every kernel the same adjoint as a block of ``a``, in the same order."""

    def same(k: int, blocks: int, start: int) -> bool:
        return all(
            adjoint.get(named(f"u{k}_{i}"), ZERO) is adjoint.get(named(f"a{start + i}"), ZERO)
            for adjoint in pulled
            for i in range(blocks)
        )

    found = {}
    for k, product in enumerate(step.products):
        starts = [s for s in range(num_gates - product.blocks + 1) if same(k, product.blocks, s)]
        if starts:
            found[k] = starts[0]
    return found


def array_names(program: Program) -> list[str]:
    """All arrays, in a fixed order."""
    step = program.step
    return [
        "a", "out", "da", *(f"{x}{j}" for j in range(len(step.new_state)) for x in "sld"),
        *(f"{x}{k}" for k in range(len(step.products)) for x in ("u", "v", "r", "du")),
        *(f"{x}_{name}" for name in step.vectors for x in "wg"),
    ]  # fmt: skip


def is_low(array: str) -> bool:
    """Whether an array has the type of the matrix products."""
    return array[0] in "aluvr" or array.startswith("da") or array.startswith("du")


def places(kernel: Kernel, name: str) -> list[tuple[str, int]]:
    """(array, block) of the parts of an input: ``u0_2`` is block 2 of u0, ``a1`` block 1 of a."""
    if name in kernel.reads:
        return kernel.reads[name]
    if name[0] == "u":
        array, block = name.split("_")
        return [(array, int(block))]
    return [("a", int(name[1:])) if name[0] == "a" else (name, 0)]


def stores(kernel: Kernel, real: torch.dtype, low: torch.dtype) -> list[Store]:
    """What a kernel writes; where ``low`` is ``real``, lJ is sJ and is written once."""
    return [store for store in kernel.stores if low != real or store.array[0] != "l"]


def operations(kernel: Kernel) -> list[Expression]:
    """Everything that a kernel computes, arguments first."""
    return ordered(store.value for store in kernel.stores)
