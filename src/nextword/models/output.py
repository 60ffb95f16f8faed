"""Output layer: ``log softmax(W h + b)`` and its cross-entropy, without ever holding all logits.

Shapes: N positions, E embedding size, V vocabulary size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from nextword.models import softmax_kernel

CHUNK_LOGITS = 1 << 22
"""Logits held at a time: few enough to be cheap to hold, enough to make large matrix products."""


class _SumCrossEntropy(torch.autograd.Function):
    """Sum of nats, with the gradients computed chunk by chunk in the forward pass.

    d/dlogits = softmax - onehot is at hand as soon as the loss is, so nothing of size N x V outlives its chunk. All
    matrix products run in ``compute`` (bfloat16 under mixed precision); between them the softmax is computed in the
    type of the bias, and rounded once; the weights' gradient is summed in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor, compute: torch.dtype
    ) -> Tensor:
        with torch.autocast(hidden_NE.device.type, enabled=False):
            return _SumCrossEntropy._forward(ctx, hidden_NE, weight_VE, bias_V, targets_N, compute)

    @staticmethod
    def _forward(
        ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, bias_V: Tensor, targets_N: Tensor, compute: torch.dtype
    ) -> Tensor:
        hidden, weight = hidden_NE.to(compute), weight_VE.to(compute)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(bias_V)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        size = max(1, CHUNK_LOGITS // weight.shape[0])
        for start in range(0, len(targets_N), size):
            h, y = hidden[start : start + size], targets_N[start : start + size]
            d = torch.mm(h, weight.t())
            nats, part_bias = _error_(d, bias_V, y)
            total += nats
            grad_bias += part_bias
            torch.mm(d, weight, out=grad_hidden[start : start + size])
            part = torch.mm(d.t(), h)
            grad_weight = part.to(weight_VE.dtype) if grad_weight is None else grad_weight.add_(part)
        if grad_weight is None:  # no targets
            grad_weight = torch.zeros_like(weight_VE)
        ctx.spent = False
        ctx.save_for_backward(grad_hidden.to(hidden_NE.dtype), grad_weight, grad_bias)
        return total.to(bias_V.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        grad = grads[0]
        if ctx.spent:
            raise RuntimeError("the loss was back-propagated a second time; compute it again")
        ctx.spent = True
        # In place: the largest of these is as large as the embedding.
        grad_hidden, grad_weight, grad_bias = (saved.mul_(grad) for saved in ctx.saved_tensors)
        return grad_hidden, grad_weight, grad_bias, None, None


def _error_(logits_NV: Tensor, bias_V: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits (without bias) into ``softmax - onehot`` in place; sum of nats, and the gradient of the bias."""
    if softmax_kernel.available(logits_NV.dtype, bias_V):
        return softmax_kernel.error_(logits_NV, bias_V, targets_N)
    y = targets_N[:, None]
    exact = logits_NV.to(bias_V.dtype).add_(bias_V)  # the logits themselves where they are of that type
    log_prob = torch.log_softmax(exact, dim=1)
    nats = -log_prob.gather(1, y).double().sum()
    torch.exp(log_prob, out=exact).scatter_add_(1, y, log_prob.new_full((1, 1), -1.0).expand_as(y))
    logits_NV.copy_(exact)
    return nats, exact.sum(0)


class SoftmaxOutput(nn.Module):
    """``log softmax(W h + b)``.

    Args:
        vocab_size: V.
        embedding_size: E, the size of what comes in.
        tied: an embedding matrix (V, E) to use as W (Press & Wolf 2017), or None for a W of its own.
    """

    def __init__(self, vocab_size: int, embedding_size: int, tied: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, embedding_size)) if tied is None else tied
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self._tied = tied is not None

    def initialize(self, scale: float | None) -> None:
        """Draw W from U(-scale, scale), 0.1 where that is None; one that is tied is the embedding's to draw."""
        if not self._tied:
            nn.init.uniform_(self.weight, -(scale or 0.1), scale or 0.1)

    def sum_nats(self, hidden_NE: Tensor, targets_N: Tensor) -> Tensor:
        """Sum of ``-log p(target)`` in nats, differentiable; a scalar."""
        compute = _compute_dtype(hidden_NE)
        total: Tensor = _SumCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden_NE, self.weight, self.bias, targets_N, compute
        )
        return total

    def log_prob(self, hidden_NE: Tensor) -> Tensor:
        """Log-probability of every type, (N, V)."""
        return torch.log_softmax(linear(hidden_NE, self.weight, self.bias), dim=-1)

    def target_log_prob(self, hidden_NE: Tensor, targets_N: Tensor) -> Tensor:
        """Log-probability of each target in nats, (N,)."""
        return self.score(hidden_NE, targets_N)[0]

    def score(self, hidden_NE: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each target in nats, (N,), and how many types are more probable than it, (N,).

        All of them are where the scores are not numbers.
        """
        compute = _compute_dtype(hidden_NE)
        if not torch.is_grad_enabled() and softmax_kernel.available(compute, self.bias):
            hidden, weight = hidden_NE.to(compute), self.weight.to(compute)
            return softmax_kernel.score(hidden, weight, self.bias, targets_N)
        size = max(1, CHUNK_LOGITS // self.weight.shape[0])
        scores, ranks = [], []
        for h, y in zip(torch.split(hidden_NE, size), torch.split(targets_N, size), strict=True):
            log_prob = self.log_prob(h)
            target = log_prob.gather(1, y[:, None])
            scores.append(target[:, 0])
            ranks.append((~(log_prob <= target)).sum(1))
        return torch.cat(scores), torch.cat(ranks)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Type of the matrix products: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
