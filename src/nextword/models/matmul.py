"""Matrix products on CPU in C: at the sizes of recurrent layers faster than MKL's, and with no cost a call.

A matrix is packed once and multiplied many times: a recurrent matrix at every step of a window, an output layer by
every chunk of a text. A tile of the result stays in registers while a panel of the packed matrix passes by from the
cache (Goto & van de Geijn 2008).

Shapes: x (M, K), matrix (K, N).
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from nextword.models.c_library import NoCompiler, load, prelude

R = TypeVar("R")
DEPTH = 512
"""Rows of a matrix that are packed at a time: a panel of them stays in the cache."""

_SOURCE = """
#include <string.h>
#if defined(__AVX512F__)
enum { BYTES = 64, ROWS = 8, VECTORS = 3 };
#elif defined(__AVX__)
enum { BYTES = 32, ROWS = 6, VECTORS = 2 };
#elif defined(__aarch64__)
enum { BYTES = 16, ROWS = 8, VECTORS = 3 };
#else
enum { BYTES = 16, ROWS = 4, VECTORS = 2 };
#endif
enum { LANES = BYTES / sizeof(real) };
typedef real vector __attribute__((vector_size(BYTES), aligned(sizeof(real))));

#if defined(BFLOAT16) && defined(__AVX512BF16__)
/* packed: two bfloat16 of neighbouring rows side by side, multiplied and added by one instruction */
#include <immintrin.h>
enum { PAIR = 2 };
typedef uint32_t packed;
static inline packed PACK(low first, low second) { return first | (uint32_t)second << 16; }
static inline packed TAKE(const low *x, long step) { return PACK(x[0], x[step]); }
#define MULTIPLY_ADD(y, x, w) \\
  y = (vector)_mm512_dpbf16_ps((__m512)(y), (__m512bh)_mm512_set1_epi32(x), (__m512bh)_mm512_loadu_si512(w))
#else
enum { PAIR = 1 };
typedef real packed;
static inline packed PACK(low first, low second) { return LOAD(first); }
static inline packed TAKE(const low *x, long step) { return LOAD(x[0]); }
#define MULTIPLY_ADD(y, x, w) y += (x) * *(const vector *)(w)
#endif
#define UNROLL _Pragma("GCC unroll 8")

static long panel(long left) {  /* columns of the next panel, padded; panels are of nearly the same size */
  long vectors = (left + LANES - 1) / LANES, panels = (vectors + VECTORS - 1) / VECTORS;
  return (vectors + panels - 1) / panels * LANES;
}

long packed_bytes(long K, long N) { return (K + PAIR - 1) / PAIR * ((N + LANES - 1) / LANES * LANES) * sizeof(packed); }

/* panel by panel, in it row by row; strides in elements */
void pack(const low *restrict matrix, long row, long column, long K, long N, packed *restrict to) {
  for (long n = 0; n < N;) {
    long width = panel(N - n), inside = N - n < width ? N - n : width;
    for (long from = 0; from < K; from += 16 * PAIR) {
      long until = from + 16 * PAIR < K ? from + 16 * PAIR : K;
      if (column == 1)  /* in the order of memory */
        for (long k = from; k < until; k += PAIR) {
          const low *at = matrix + k * row + n;
          packed *into = to + k / PAIR * width;
          int pair = PAIR == 2 && k + 1 < K;
          for (long j = 0; j < inside; j++) into[j] = PACK(at[j], pair ? at[j + row] : 0);
          for (long j = inside; j < width; j++) into[j] = 0;
        }
      else  /* in squares: one side is not in the order of memory */
        for (long j = 0; j < width; j++)
          for (long k = from; k < until; k += PAIR) {
            const low *at = matrix + k * row + (n + j) * column;
            to[k / PAIR * width + j] = j < inside ? PACK(at[0], PAIR == 2 && k + 1 < K ? at[row] : 0) : 0;
          }
    }
    to += (K + PAIR - 1) / PAIR * width;
    n += width;
  }
}

static __attribute__((noinline)) void put(const real *part, long part_row, long rows, long columns, low *y, long y_row,
                                          int add) {
  for (long i = 0; i < rows; i++, part += part_row, y += y_row)
    if (add)
      for (long j = 0; j < columns; j++) y[j] = STORE(LOAD(y[j]) + part[j]);
    else
      for (long j = 0; j < columns; j++) y[j] = STORE(part[j]);
}

static inline __attribute__((always_inline)) void tile(const int rows, const int vectors, long K, const low *x,
    long row, long column, const packed *w, low *y, long y_row, long columns, int add) {
  vector sum[ROWS][VECTORS];
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = (vector){0};
  const packed *at = w;
  for (long k = 0; k + PAIR <= K; k += PAIR, at += vectors * LANES)
    UNROLL for (int i = 0; i < rows; i++) {
      packed factor = TAKE(x + i * row + k * column, column);
      UNROLL for (int v = 0; v < vectors; v++) MULTIPLY_ADD(sum[i][v], factor, at + v * LANES);
    }
  if (PAIR == 2 && K % 2)
    UNROLL for (int i = 0; i < rows; i++) {
      packed factor = PACK(x[i * row + (K - 1) * column], 0);
      UNROLL for (int v = 0; v < vectors; v++) MULTIPLY_ADD(sum[i][v], factor, at + v * LANES);
    }
  real part[ROWS][VECTORS * LANES];
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++)
    *(vector *)(part[i] + v * LANES) = sum[i][v];
  put(part[0], VECTORS * LANES, rows, columns, y, y_row, add);
}

/* y = x matrix, or y += x matrix; the result's columns lie side by side */
void multiply(long M, long N, long K, const low *x, long row, long column, const packed *w, low *y, long y_row,
              int add) {
  for (long n = 0; n < N;) {
    long width = panel(N - n), columns = N - n < width ? N - n : width, blocks = (M + ROWS - 1) / ROWS;
    for (long m = 0; blocks > 0; blocks--) {  /* blocks of nearly the same size */
      long rows = (M - m + blocks - 1) / blocks;
#define TILE(r, v) \\
  case (r) * 4 + (v): \\
    if ((r) <= ROWS && (v) <= VECTORS) \\
      tile(r, v, K, x + m * row, row, column, w, y + m * y_row + n, y_row, columns, add); \\
    break;
#define TILES(r) TILE(r, 1) TILE(r, 2) TILE(r, 3)
      switch (rows * 4 + width / LANES) { TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6) TILES(7) TILES(8) }
      m += rows;
    }
    w += (K + PAIR - 1) / PAIR * width;
    n += width;
  }
}
"""


@functools.cache
def library(real: torch.dtype, low: torch.dtype) -> ctypes.CDLL:
    """The compiled functions for matrices of type ``low``, summed up in ``real``.

    Raises:
        NoCompiler: there is none, or it failed.
    """
    found = load(prelude(real, low) + _SOURCE)
    size, address = ctypes.c_long, ctypes.c_void_p
    found.packed_bytes.argtypes, found.packed_bytes.restype = [size] * 2, size
    found.pack.argtypes, found.pack.restype = [address, *[size] * 4, address], None
    found.multiply.argtypes = [*[size] * 3, address, size, size, address, address, size, ctypes.c_int]
    found.multiply.restype = None
    return found


def available(*tensors: Tensor) -> bool:
    """Whether :func:`matmul` runs on these: CPU, all float32 or all float64, and a C compiler."""
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64) or any(x.is_cuda or x.dtype != dtype for x in tensors):
        return False
    try:
        library(dtype, dtype)
    except NoCompiler:
        return False
    return True


class Packed:
    """A matrix (K, N) laid out for :meth:`multiply`; it does not follow later changes.

    Args:
        matrix: on CPU, any strides.
        real: type in which products are summed up.
    """

    def __init__(self, matrix: Tensor, real: torch.dtype) -> None:
        self.depth, self.width = matrix.shape
        self.library = library(real, matrix.dtype)
        self.data = torch.empty(self.library.packed_bytes(self.depth, self.width), dtype=torch.uint8)
        self.library.pack(matrix.data_ptr(), *matrix.stride(), *matrix.shape, self.data.data_ptr())

    def multiply(self, x: Tensor, out: Tensor, add: bool = False) -> None:
        """``out = x @ matrix``, or that added to it; x of any strides, the last of ``out`` 1."""
        assert x.shape[1] == self.depth and out.shape == (len(x), self.width) and out.stride(1) == 1
        places = x.data_ptr(), *x.stride(), self.data.data_ptr(), out.data_ptr(), out.stride(0)
        self.library.multiply(len(x), self.width, self.depth, *places, add)


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """``x @ y``, (M, N), of two matrices for which it is :func:`available`."""
    product = x.new_empty(x.shape[0], y.shape[1])
    if y.shape[0] == 0:
        return product.zero_()

    def part(start: int, stop: int) -> None:
        for k in range(0, y.shape[0], DEPTH):
            Packed(y[k : k + DEPTH, start:stop], y.dtype).multiply(x[:, k : k + DEPTH], product[:, start:stop], k > 0)

    in_threads(part, y.shape[1])
    return product


def in_threads(run: Callable[[int, int], R], count: int) -> list[R]:
    """``run(start, stop)`` over parts of ``count``, as many as torch has threads; the results in their order.

    What is summed up from them must be so in that order: the threads end in another one each time.
    """
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        return [run(0, count)]
    edges = [count * k // threads for k in range(threads + 1)]
    return list(_pool(threads).map(run, edges[:-1], edges[1:]))


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "nextword")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not follow into a child
