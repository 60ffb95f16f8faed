"""C source of a program: one function a kernel, ``NAME(arrays, B, H, t)``."""

from __future__ import annotations

import torch

from nextword.models.c_library import prelude
from nextword.models.derived.program import Kernel, Program, Store, array_names, is_low, operations, places, stores

HEADER = """\
typedef struct { char *start; long step, row; } Array;  /* strides in elements */
static inline real sigmoid(real x) { return 1 / (1 + EXP(-x)); }
static inline real tanh_(real x) { return 2 / (1 + EXP(-2 * x)) - 1; }
"""

OPERATIONS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "sigmoid": "sigmoid({})",
    "tanh": "tanh_({})", "relu": "({0} < 0 ? 0 : {0})", "exp": "EXP({})", "positive": "({0} > 0 ? (real)1 : (real)0)",
}  # fmt: skip


def c_source(program: Program, real: torch.dtype, low: torch.dtype) -> str:
    """The C file.

    Args:
        program: what to write.
        real: float32 or float64.
        low: the same, or bfloat16.
    """
    kernels, arrays = [*program.forward.values(), *program.backward.values()], array_names(program)
    return prelude(real, low) + HEADER + "\n".join(_function(k, arrays, stores(k, real, low)) for k in kernels)


def _function(kernel: Kernel, arrays: list[str], written: list[Store]) -> str:
    pointers: dict[str, str] = {}

    def pointer(array: str, block: int, ahead: bool = False) -> str:
        name = f"{array}_{block}{'_next' if ahead else ''}"
        kind = "low" if is_low(array) else "real"
        start = f"x[{arrays.index(array)}]"
        pointers[name] = (
            f"    {kind} *restrict {name} = ({kind} *){start}.start + (t + {int(ahead)}) * {start}.step"
            f" + b * {start}.row + {block} * H;"
        )
        return name

    def load(array: str, block: int) -> str:
        place = f"{pointer(array, block)}[j]"
        return f"LOAD({place})" if is_low(array) else place

    lines: list[str] = []
    names: dict[int, str] = {}
    for node in operations(kernel):
        if node.op == "constant":
            names[id(node)] = f"(real){node.value!r}"
            continue
        if node.op == "input":
            parts = places(kernel, str(node.value))
            text = " + ".join(load(*part) for part in parts)
        else:
            text = OPERATIONS[node.op].format(*[names[id(arg)] for arg in node.args])
        names[id(node)] = f"e{len(names)}"
        lines.append(f"      const real {names[id(node)]} = {text};")
    for store in written:
        place = f"{pointer(store.array, store.block, store.next_step)}[j]"
        value = names[id(store.value)]
        if store.add:
            value = f"{load(store.array, store.block)} + {value}"
        lines.append(f"      {place} = {f'STORE({value})' if is_low(store.array) else value};")
    return "\n".join(
        [
            f"void {kernel.name}(const Array *x, long B, long H, long t) {{",
            "  for (long b = 0; b < B; b++) {",
            *pointers.values(),
            "#pragma GCC ivdep",
            "    for (long j = 0; j < H; j++) {",
            *lines,
            "    }",
            "  }",
            "}",
        ]
    )
