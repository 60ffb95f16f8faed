"""C source of a program: one function a kernel, ``NAME(arrays, B, H, t)``."""

from __future__ import annotations

from nextword.models.derived.program import Kernel, Program, array_names, is_low, operations, places

HEADER = """\
#include <math.h>
#include <stdint.h>
typedef {real} real;
typedef struct {{ char *start; long step, row; }} Array;  /* strides in elements */
{conversions}
static inline float expf_(float x) {{  /* Cephes' polynomial: within 2 units in the last place; NaN stays NaN */
  x = x > 88.0f ? 88.0f : x;
  x = x < -87.0f ? -87.0f : x;
  float n = rintf(x * 1.44269504f);
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  union {{ int32_t i; float f; }} scale = {{((int32_t)n + 127) << 23}};
  return p * scale.f;
}}
static inline real sigmoid(real x) {{ return 1 / (1 + EXP(-x)); }}
static inline real tanh_(real x) {{ return 2 / (1 + EXP(-2 * x)) - 1; }}
"""

SAME = """\
typedef real low;
#define LOAD(x) (x)
#define STORE(x) (x)
"""

BFLOAT16 = """\
typedef uint16_t low;
static inline float LOAD(low x) { union { uint32_t u; float f; } y = {(uint32_t)x << 16}; return y.f; }
static inline low STORE(float x) {  /* to nearest, ties to even */
  union { float f; uint32_t u; } y = {x};
  uint32_t rounded = (y.u + 0x7fff + ((y.u >> 16) & 1)) >> 16;
  return x != x ? 0x7fc0 : (low)rounded;
}
"""

OPERATIONS = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "sigmoid": "sigmoid({})",
    "tanh": "tanh_({})", "relu": "({0} < 0 ? 0 : {0})", "exp": "EXP({})", "positive": "({0} > 0 ? (real)1 : (real)0)",
}  # fmt: skip


def c_source(program: Program, real: str, low: str) -> str:
    """The C file.

    Args:
        program: what to write.
        real: ``float`` or ``double``.
        low: the same, or ``bfloat16``.
    """
    conversions = (BFLOAT16 if low == "bfloat16" else SAME) + f"#define EXP {'expf_' if real == 'float' else 'exp'}\n"
    kernels = [*program.forward.values(), *program.backward.values()]
    return HEADER.format(real=real, conversions=conversions) + "\n".join(
        _function(k, array_names(program)) for k in kernels
    )


def _function(kernel: Kernel, arrays: list[str]) -> str:
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
    for store in kernel.stores:
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
