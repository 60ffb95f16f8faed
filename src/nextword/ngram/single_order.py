"""Smoothings without lower orders: maximum likelihood and add-k."""

from __future__ import annotations

import numpy as np

from nextword.ngram.build import Block, Request, Rule, TableBuilder
from nextword.ngram.counts import FloatArray
from nextword.ngram.model import NgramModel


def mle(request: Request) -> NgramModel:
    """Maximum likelihood, p(w | h) = c(h w) / c(h): zero for all that was not seen, also after an unseen h."""
    return _single_order(request, 0.0).finish("mle")


def add_k(request: Request) -> NgramModel:
    """Add-k (Lidstone; Laplace for k = 1), p(w | h) = (c(h w) + k) / (c(h) + k V); after an unseen h, 1 / V."""
    k = request.params.add_k
    if not 0 < k < np.inf:
        raise ValueError(f"add_k is {k}; give a finite number above 0 (for 0 use the smoothing `mle`)")
    return _single_order(request, k).finish("add_k", k=k)


def _single_order(request: Request, k: float) -> TableBuilder:
    """Add-k as a mixture with the uniform distribution: numerator c, scale 1 / (c + k V), mass k V / (c + k V).

    Below the highest order only n-grams that start with ``<s>`` are real, those of the first words of a line. The
    others are there for the chain of look-ups and say what holds after an unseen context: 1 / V, or zero for k = 0.
    """
    counts = request.counts
    builder = TableBuilder(request)
    for order in range(1, request.order + 1):
        first_bos_context = counts[order - 1].first_bos if order > 1 else 1
        builder.add(counts[order], _rule(k, counts.vocab_size, first_bos_context if order < request.order else 0))
    return builder


def _rule(k: float, vocab_size: int, num_placeholders: int) -> Rule:
    """``num_placeholders``: contexts, from the first on, whose n-grams are not real."""

    def rule(block: Block) -> tuple[FloatArray, FloatArray]:
        level = block.level
        totals = level.sum_by_context(level.counts) + k * vocab_size
        scale = 1 / np.where(totals > 0, totals, 1)
        mass = k * vocab_size * scale
        prob = level.counts * level.spread(scale) + level.spread(mass) / vocab_size
        contexts = max(0, min(num_placeholders - block.contexts.start, len(mass)))
        mass[:contexts] = 1
        prob[: level.starts[contexts]] = 1 / vocab_size if k > 0 else 0
        return prob, mass

    return rule
