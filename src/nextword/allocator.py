"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no larger one


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the system; nothing elsewhere.

    Training frees and takes the same large tensors at each step. Given back, their pages are zeroed and mapped anew
    each time, which took a quarter of a step (benchmarks/RECORD.md).
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
