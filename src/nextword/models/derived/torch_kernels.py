"""A program in torch operations, for every device: its kernels are functions of tensors, a window is a loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nextword.models.cells import tanh
from nextword.models.derived.program import Kernel, Program, is_low, operations, places, stores

OPERATIONS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "sigmoid": "sigmoid({})",
    "tanh": "tanh({})", "relu": "relu({})", "exp": "exp({})", "positive": "({0} > 0).to({0}.dtype)",
}  # fmt: skip

Rows = Mapping[str, list[tuple[Tensor, ...]]]
"""By array, by time step: the (B, H) blocks."""


def torch_kernel(kernel: Kernel, real: torch.dtype, low: torch.dtype) -> Callable[[Rows, int], None]:
    """``kernel(rows, t)``."""
    lines = [f"def {kernel.name}(x, t):"]
    names: dict[int, str] = {}

    def load(array: str, block: int) -> str:
        return f"x[{array!r}][t][{block}]" + (".to(real)" if is_low(array) and low != real else "")

    stored = {id(store.value) for store in kernel.stores}  # as it is, after what it lies in may have been written to
    for node in operations(kernel):
        if node.op == "constant":
            names[id(node)] = repr(node.value)
            continue
        if node.op == "input":
            text = " + ".join(load(*place) for place in places(kernel, str(node.value)))
            text += ".clone()" * (id(node) in stored)
        else:
            text = OPERATIONS[node.op].format(*[names[id(arg)] for arg in node.args])
        names[id(node)] = f"e{len(names)}"
        lines.append(f"    {names[id(node)]} = {text}")
    for store in stores(kernel, real, low):
        into = f"x[{store.array!r}][t + {int(store.next_step)}][{store.block}]"
        value = names[id(store.value)]
        if store.array.startswith("g_"):
            value = f"{value}.sum(0)"
        call = "add_" if store.add else "fill_" if store.value.op == "constant" else "copy_"
        lines.append(f"    {into}.{call}({value})")
    scope: dict[str, Any] = {name: getattr(torch, name) for name in ("sigmoid", "relu", "exp")}
    scope |= {"tanh": tanh, "real": real}
    exec("\n".join(lines), scope)  # our own source, made of the names above
    function: Callable[[Rows, int], None] = scope[kernel.name]
    return function


def rows(tensors: Mapping[str, Tensor], hidden: int, steps: int) -> Rows:
    """Arrays as :func:`torch_kernel` reads them."""
    found: dict[str, list[tuple[Tensor, ...]]] = {}
    for name, x in tensors.items():
        blocks = torch.split(x, hidden, -1)
        by_step = zip(*[b.unbind(0) for b in blocks], strict=True) if x.dim() == 3 else [blocks] * (steps + 1)
        found[name] = list(by_step)
    return found


class TorchKernels:
    """The windows of a cell, for every device."""

    def __init__(self, program: Program, real: torch.dtype, low: torch.dtype) -> None:
        self.program, self.mixed = program, low != real
        kernels = [*program.forward.values(), *program.backward.values()]
        self.functions = {kernel.name: torch_kernel(kernel, real, low) for kernel in kernels}

    def forward(self, tensors: Mapping[str, Tensor], matrices: list[Tensor]) -> None:
        """All steps, into the arrays; ``matrices`` are those of the products, (n*H, H)."""
        kernels = self._bind(self.program.forward, tensors)
        calls = [
            (kernels.get(k), tensors[self.program.factor(k, self.mixed)].unbind(0), m.t(), tensors[f"u{k}"].unbind(0))
            for k, m in enumerate(matrices)
        ]
        last = kernels[-1]
        for t in range(tensors["a"].shape[0]):
            for kernel, factors, matrix, results in calls:
                if kernel is not None:
                    kernel(t)
                torch.mm(factors[t], matrix, out=results[t])
            last(t)

    def backward(self, tensors: Mapping[str, Tensor], matrices: list[Tensor]) -> None:
        """All steps from the last to the first."""
        kernels = self._bind(self.program.backward, tensors)
        calls = [
            (self.program.adjoint(k, tensors).unbind(0), matrices[k], tensors[f"r{k}"], kernels.get(k))
            for k in reversed(range(len(matrices)))
        ]
        first = kernels[-1]
        for t in range(tensors["a"].shape[0] - 1, -1, -1):
            first(t)
            for rows_of, matrix, result, kernel in calls:
                torch.mm(rows_of[t], matrix, out=result)
                if kernel is not None:
                    kernel(t)

    def _bind(self, kernels: Mapping[int, Kernel], tensors: Mapping[str, Tensor]) -> dict[int, Callable[[int], None]]:
        places = rows(tensors, tensors["s0"].shape[-1], tensors["a"].shape[0])
        return {k: partial(self.functions[kernel.name], places) for k, kernel in kernels.items()}
