"""C source to a loaded library, by the system's C compiler; kept on disk, so that it is compiled once a machine."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
"""Nothing that changes what infinities and NaN do: a divergence must be seen."""


_COMMON = """\
#include <math.h>
#include <stdint.h>
static inline float expf_(float x) {  /* Cephes' polynomial: within 2 units in the last place; NaN stays NaN */
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
  union { int32_t i; float f; } scale = {((int32_t)n + 127) << 23};
  return p * scale.f;
}
"""

_SAME = """\
typedef real low;
#define LOAD(x) (x)
#define STORE(x) (x)
"""

_BFLOAT16 = """\
#define BFLOAT16
typedef uint16_t low;
static inline float LOAD(low x) { union { uint32_t u; float f; } y = {(uint32_t)x << 16}; return y.f; }
static inline low STORE(float x) {  /* to nearest, ties to even */
  union { float f; uint32_t u; } y = {x};
  uint32_t rounded = (y.u + 0x7fff + ((y.u >> 16) & 1)) >> 16;
  return x != x ? 0x7fc0 : (low)rounded;
}
"""


def prelude(real: torch.dtype, low: torch.dtype) -> str:
    """Head of a C file: the types ``real`` and ``low`` with LOAD and STORE between them, and EXP.

    Args:
        real: float32 or float64.
        low: the same, or bfloat16.
    """
    name, exponential = {torch.float32: ("float", "expf_"), torch.float64: ("double", "exp")}[real]
    conversions = _SAME if low == real else _BFLOAT16
    return f"{_COMMON}typedef {name} real;\n{conversions}#define EXP {exponential}\n"


class NoCompiler(RuntimeError):
    """There is no C compiler, it did not take the source, or what it made cannot be kept or loaded."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/nextword`` or ``~/.cache/nextword``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nextword"


@functools.cache
def compiler() -> str | None:
    """The C compiler: ``$CC``, cc, gcc or clang."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def load(source: str) -> ctypes.CDLL:
    """Compile (about half a second, once a machine) and load ``source``; once a process, a failure too.

    Raises:
        NoCompiler: the message says what is wrong, in the compiler's words where it is that.
    """
    found = _loaded(source)
    if isinstance(found, NoCompiler):
        raise NoCompiler(str(found))
    return found


@functools.cache
def _loaded(source: str) -> ctypes.CDLL | NoCompiler:
    try:
        return _load(source)
    except NoCompiler as error:
        return error.with_traceback(None)


def _load(source: str) -> ctypes.CDLL:
    command = compiler()
    if command is None:
        raise NoCompiler("no C compiler found (cc, gcc or clang; $CC names another)")
    key = hashlib.sha256("\0".join([source, command, *FLAGS, _machine()]).encode()).hexdigest()[:32]
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o022:
            raise NoCompiler(f"others can write to {folder}, and what lies there is run; chmod 700 it")
        path = folder / f"{key}.so"
        if path.exists():
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # empty, or made beside another C library
                path.unlink(missing_ok=True)
        _compile(command, source, path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoCompiler(f"{cache_folder()}: {error}") from error


def _compile(command: str, source: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        code, library = Path(folder, "step.c"), Path(folder, "step.so")
        code.write_text(source, encoding="utf-8")
        for native in (["-march=native"], []):
            done = subprocess.run(
                [command, *FLAGS, *native, str(code), "-o", str(library), "-lm"], capture_output=True, text=True
            )
            if done.returncode == 0:
                _publish(library, path)
                return
    raise NoCompiler(f"{command} failed: {done.stderr.strip()[-500:]}")


def _publish(library: Path, path: Path) -> None:
    with library.open("rb+") as file:
        os.fsync(file.fileno())  # to load one that a power cut left short is to crash
    try:
        os.link(library, path)
    except FileExistsError:
        pass  # another process was first, and has its file mapped
    except OSError:
        os.replace(library, path)  # no links here


def _machine() -> str:
    """What ``-march=native`` depends on: a home folder may be shared by different machines."""
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    except OSError:
        return platform.machine() + platform.processor()
