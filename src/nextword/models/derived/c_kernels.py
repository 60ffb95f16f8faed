"""A program in C: its kernels, and a window forward and backward in time with the matrix products between them.

Rows of a batch do not meet, so each thread has a part of them from the first step to the last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nextword.models.c_library import load, prelude
from nextword.models.derived.program import Kernel, Program, Store, array_names, is_low, operations, places, stores
from nextword.models.matmul import Packed, in_threads, library

HEADER = """\
typedef struct { char *start; long step, row; } Array;  /* strides in elements */
typedef void (*Multiply)(long M, long N, long K, const low *x, long row, long column, const void *w, low *y, long y_row,
                         int add);  /* of nextword.models.matmul */
#define AT(array, t) ((low *)x[array].start + (t) * x[array].step + from * x[array].row)
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
    functions = [_function(k, arrays, stores(k, real, low)) for k in kernels]
    return prelude(real, low) + HEADER + "\n".join([*functions, *_windows(program, arrays, low != real)])


def _windows(program: Program, arrays: list[str], mixed: bool) -> list[str]:
    """The functions ``forward_window`` and ``backward_window``."""

    def function(name: str, times: str, calls: list[str]) -> str:
        head = f"void {name}(const Array *x, void *const *w, Multiply multiply, long from, long to, long H, long T) {{"
        return "\n".join([head, f"  for ({times}) {{", *(f"    {call};" for call in calls), "  }", "}"])

    def kernel(kernels: Mapping[int, Kernel], k: int) -> list[str]:
        return [f"{kernels[k].name}(x, from, to, H, t)"] if k in kernels else []

    def multiply(k: int, source: str, block: int, terms: int, target: str, blocks: int) -> str:
        x, y = arrays.index(source), arrays.index(target)
        return (
            f"multiply(to - from, {blocks} * H, {terms} * H, AT({x}, t) + {block} * H, x[{x}].row, 1, w[{k}],"
            f" AT({y}, t), x[{y}].row, 0)"
        )

    forward, backward = [], kernel(program.backward, -1)
    for k, product in enumerate(program.step.products):
        forward += [*kernel(program.forward, k), multiply(k, program.factor(k, mixed), 0, 1, f"u{k}", product.blocks)]
    for k, product in reversed([*enumerate(program.step.products)]):
        array, block = ("da", program.shares[k]) if k in program.shares else (f"du{k}", 0)
        backward += [multiply(k, array, block, product.blocks, f"r{k}", 1), *kernel(program.backward, k)]
    forward += kernel(program.forward, -1)
    return [
        function("forward_window", "long t = 0; t < T; t++", forward),
        function("backward_window", "long t = T - 1; t >= 0; t--", backward),
    ]


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
            f"static void {kernel.name}(const Array *x, long from, long to, long H, long t) {{",
            "  for (long b = from; b < to; b++) {",
            *pointers.values(),
            "#pragma GCC ivdep",
            "    for (long j = 0; j < H; j++) {",
            *lines,
            "    }",
            "  }",
            "}",
        ]
    )


class _Array(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("step", ctypes.c_long), ("row", ctypes.c_long)]


class CKernels:
    """The windows of a cell, for CPU tensors.

    Raises:
        NoCompiler: there is none, or it failed.
    """

    def __init__(self, program: Program, real: torch.dtype, low: torch.dtype) -> None:
        self.arrays, self.real = array_names(program), real
        self.multiply = ctypes.cast(library(real, low).multiply, ctypes.c_void_p)
        windows = load(c_source(program, real, low))
        self.functions = windows.forward_window, windows.backward_window
        for function in self.functions:
            function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_long] * 4
            function.restype = None

    def forward(self, tensors: Mapping[str, Tensor], matrices: list[Tensor]) -> None:
        """All steps, into the arrays; ``matrices`` are those of the products, (n*H, H)."""
        self._run(self.functions[0], tensors, [m.t() for m in matrices])

    def backward(self, tensors: Mapping[str, Tensor], matrices: list[Tensor]) -> None:
        """All steps from the last to the first."""
        self._run(self.functions[1], tensors, matrices)

    def _run(self, function: Any, tensors: Mapping[str, Tensor], matrices: list[Tensor]) -> None:
        steps, batch, _ = tensors["a"].shape
        hidden = tensors["s0"].shape[-1]
        packed = [Packed(matrix, self.real) for matrix in matrices]
        places = (ctypes.c_void_p * len(packed))(*[p.data.data_ptr() for p in packed])
        sums = {name: x for name, x in tensors.items() if name.startswith("g_")}

        def part(start: int, stop: int) -> dict[str, Tensor]:
            own = {name: torch.zeros_like(x) for name, x in sums.items()}  # every row of the batch adds to these
            function(self._table({**tensors, **own}), places, self.multiply, start, stop, hidden, steps)
            return own

        parts = in_threads(part, batch)
        for name, x in sums.items():
            for own in parts:
                x += own[name]

    def _table(self, tensors: Mapping[str, Tensor]) -> Any:
        table = (_Array * len(self.arrays))()
        for place, name in enumerate(self.arrays):
            if (x := tensors.get(name)) is not None:
                assert x.stride(-1) == 1 or x.shape[-1] == 1
                steps = x.stride(0) if x.dim() == 3 else 0
                table[place] = _Array(x.data_ptr(), steps, x.stride(-2) if x.dim() > 1 else 0)
        return table
