"""Softmax, its cross-entropy and its gradient in one pass over a row of logits: a C kernel for CPU.

Shapes: N positions, V vocabulary size.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from nextword.models.c_library import NoCompiler, load, prelude
from nextword.models.matmul import Packed, in_threads
from nextword.models.matmul import library as matrices

SCORED_ROWS = 64
"""Logits that are scored at a time, so that they are still in the cache."""

_SOURCE = """
#define LANES 16  /* sums in so many parts, so that they are computed side by side */
/* x = logits + bias, e = exp(x - max x); the sum of e */
static double row_of(const low *restrict logits, const real *restrict bias, real *restrict x, real *restrict e, long V,
                     real *restrict largest) {
  real m[LANES], s[LANES];
  for (int k = 0; k < LANES; k++) m[k] = -INFINITY, s[k] = 0;
  for (long j = 0; j < V; j++) x[j] = LOAD(logits[j]) + bias[j];
  long whole = V - V % LANES;
  for (long j = 0; j < whole; j += LANES)
    for (int k = 0; k < LANES; k++) m[k] = x[j + k] > m[k] ? x[j + k] : m[k];
  for (long j = whole; j < V; j++) m[0] = x[j] > m[0] ? x[j] : m[0];
  real top = m[0];
  for (int k = 1; k < LANES; k++) top = m[k] > top ? m[k] : top;
  for (long j = 0; j < V; j++) e[j] = EXP(x[j] - top);
  for (long j = 0; j < whole; j += LANES)
    for (int k = 0; k < LANES; k++) s[k] += e[j + k];
  for (long j = whole; j < V; j++) s[0] += e[j];
  double sum = 0;
  for (int k = 0; k < LANES; k++) sum += s[k];
  *largest = top;
  return sum;
}

/* logits become softmax - onehot; its sum over rows goes to grad_bias; nats[n] = -log p(target) */
void error(low *restrict logits, const real *restrict bias, const int64_t *restrict targets, real *restrict rows,
           real *restrict grad_bias, double *restrict nats, long N, long V) {
  real *restrict e = rows + V, top;
  for (long n = 0; n < N; n++, logits += V) {
    long y = targets[n];
    double sum = row_of(logits, bias, rows, e, V, &top);
    nats[n] = (double)top + log(sum) - rows[y];
    real inverse = 1 / sum;
    for (long j = 0; j < V; j++) {
      real d = e[j] * inverse;
      logits[j] = STORE(d);
      grad_bias[j] += d;
    }
    logits[y] = STORE(e[y] * inverse - 1);
    grad_bias[y] -= 1;
  }
}

/* log_prob[n] of the target, and how many logits are above its own; all of them where it is not a number */
void score(const low *restrict logits, const real *restrict bias, const int64_t *restrict targets, real *restrict rows,
           double *restrict log_prob, int64_t *restrict rank, long N, long V) {
  real top;
  for (long n = 0; n < N; n++, logits += V) {
    double sum = row_of(logits, bias, rows, rows + V, V, &top);
    real own = rows[targets[n]];
    log_prob[n] = own - (double)top - log(sum);
    int32_t above = 0;
    for (long j = 0; j < V; j++) above += rows[j] > own;
    rank[n] = sum == sum ? above : V;
  }
}
"""


@functools.cache
def _library(real: torch.dtype, low: torch.dtype) -> ctypes.CDLL | None:
    try:
        matrices(real, low)
        library = load(prelude(real, low) + _SOURCE)
    except NoCompiler:
        return None
    for name in ("error", "score"):
        function = getattr(library, name)
        function.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_long] * 2
        function.restype = None
    return library


def available(low: torch.dtype, bias: Tensor) -> bool:
    """Whether the kernels run: CPU, float32 or float64, logits (of type ``low``) the same or bfloat16, a C compiler."""
    return (
        bias.device.type == "cpu"
        and bias.dtype in (torch.float32, torch.float64)
        and low in (bias.dtype, torch.bfloat16)
        and not (low == torch.bfloat16 and bias.dtype == torch.float64)
        and _library(bias.dtype, low) is not None
    )


def error_(logits_NV: Tensor, bias_V: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits (without bias) into ``softmax - onehot`` in place.

    Returns:
        sum of ``-log p(target)`` in nats (float64 scalar), and the gradient of the bias (V,).
    """
    nats = torch.empty(len(targets_N), dtype=torch.float64)

    def run(start: int, stop: int) -> Tensor:
        grad_bias, rows = torch.zeros_like(bias_V), bias_V.new_empty(2, len(bias_V))
        _call("error", logits_NV[start:stop], bias_V, targets_N[start:stop], rows, grad_bias, nats[start:stop])
        return grad_bias

    parts = in_threads(run, len(targets_N))
    return nats.sum(), parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def score(hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``softmax(W h + b)``: log-probability of each target in nats (N,), and how many types are above it (N,)."""
    log_prob = torch.empty(len(targets_N), dtype=torch.float64)
    rank = torch.empty(len(targets_N), dtype=torch.int64)
    weight = Packed(weight_VE.t(), bias_V.dtype)

    def run(start: int, stop: int) -> None:
        rows, logits = bias_V.new_empty(2, len(bias_V)), hidden_NE.new_empty(SCORED_ROWS, len(bias_V))
        for first in range(start, stop, SCORED_ROWS):
            part = slice(first, min(first + SCORED_ROWS, stop))
            x = logits[: part.stop - first]
            weight.multiply(hidden_NE[part], x)
            _call("score", x, bias_V, targets_N[part], rows, log_prob[part], rank[part])

    in_threads(run, len(targets_N))
    return log_prob.to(bias_V.dtype), rank


def _call(name: str, logits: Tensor, bias: Tensor, targets: Tensor, *rest: Tensor) -> None:
    assert logits.is_contiguous() and bias.is_contiguous() and targets.is_contiguous()
    arrays = [x.data_ptr() for x in (logits, bias, targets, *rest)]
    getattr(_library(bias.dtype, logits.dtype), name)(*arrays, *logits.shape)
