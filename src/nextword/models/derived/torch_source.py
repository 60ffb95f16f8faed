"""Python source of a program: each kernel a function of tensors, for every device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nextword.models.cells import tanh
from nextword.models.derived.program import Kernel, is_low, operations, places, stores

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

    for node in operations(kernel):
        if node.op == "constant":
            names[id(node)] = repr(node.value)
            continue
        if node.op == "input":
            text = " + ".join(load(*place) for place in places(kernel, str(node.value)))
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
