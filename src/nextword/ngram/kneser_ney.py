"""Absolute discounting, Kneser-Ney and interpolated modified Kneser-Ney."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nextword.ngram import discounts
from nextword.ngram.build import Block, Request, Rule, TableBuilder
from nextword.ngram.counts import FloatArray, IntArray, NgramCounts
from nextword.ngram.lookup import match
from nextword.ngram.model import NgramModel


def absolute_discounting(request: Request) -> NgramModel:
    """Absolute discounting with interpolation (Ney, Essen & Kneser 1994)::

        p(w | h) = (c(h w) - D) / c(h) + D N1+(h .) / c(h) * p(w | h'),    D = n1 / (n1 + 2 n2) of each order

    c are occurrences in every order; below order 1 the distribution is uniform.
    """
    return discounted(request, "absolute_discounting", continuation=False, modified=False)


def kneser_ney(request: Request) -> NgramModel:
    """Interpolated Kneser-Ney with one discount an order (Kneser & Ney 1995; Chen & Goodman 1999, section 2.7).

    As absolute discounting, but in all orders below the highest c(h w) is N1+(. h w), the number of different words
    seen before h w.
    """
    return discounted(request, "kneser_ney", continuation=True, modified=False)


def modified_kneser_ney(request: Request) -> NgramModel:
    """Interpolated modified Kneser-Ney (Chen & Goodman 1999, eq. 24-26), as KenLM's ``lmplz`` (Heafield et al. 2013)::

        p(w | h) = (c(h w) - D(c)) / c(h) + (D1 N1 + D2 N2 + D3 N3+)(h .) / c(h) * p(w | h')

    c as for ``kneser_ney``. Equal to ``lmplz``, which includes one thing that the equations do not say: in the
    counts of counts of the lower orders, ``lmplz`` enters the n-gram it meets last by its occurrences instead of its
    adjusted count (``AdjustCounts::Run``, after the loop). That changes n_r by one, which shows in small vocabularies.
    """
    return discounted(request, "modified_kneser_ney", continuation=True, modified=True)


def discounted(
    request: Request,
    name: str,
    *,
    continuation: bool,
    modified: bool,
    fixed: Sequence[float | tuple[float, float, float]] | None = None,
) -> NgramModel:
    """The three as one: which counts the lower orders use, and how many discounts an order has.

    Args:
        request: counts, order and storage type.
        name: the smoothing's name in the model.
        continuation: take adjusted counts below the highest order.
        modified: three discounts an order, else one.
        fixed: one entry an order, given instead of estimated.
    """
    builder = TableBuilder(request)
    chosen: list[float | tuple[float, float, float]] = []
    for k in range(1, request.order + 1):
        level = request.counts[k]
        adjusted = continuation and k < request.order
        if adjusted:
            level = replace(level, counts=request.counts.continuation(k))
        if fixed:
            chosen.append(fixed[k - 1])
        else:
            n = discounts.counts_of_counts(level.counts, 4)
            if adjusted and modified:
                n = _as_lmplz(n, request.counts, k)
            discount, note = discounts.modified(n) if modified else discounts.single(n)
            builder.note(note if len(level) else None)
            chosen.append(discount)
        builder.add(level, _rule(chosen[-1]))
    return builder.finish(name, discounts=[list(d) if isinstance(d, tuple) else d for d in chosen])


def _rule(discount: float | tuple[float, float, float]) -> Rule:
    discount_by_count = np.concatenate([[0.0], np.broadcast_to(discount, 3)])

    def rule(block: Block) -> tuple[FloatArray, FloatArray]:
        level = block.level
        taken = discount_by_count[np.minimum(level.counts, 3)]
        scale = 1 / np.maximum(level.sum_by_context(level.counts), 1)
        mass = level.sum_by_context(taken) * scale
        return block.mix(level.counts - taken, scale, mass), mass

    return rule


def _as_lmplz(n: IntArray, counts: NgramCounts, order: int) -> IntArray:
    """Enter the last n-gram of the order by its occurrences; see :func:`modified_kneser_ney`."""
    words = np.array(counts.last_words)[-order:, None]
    if len(words) < order:
        return n  # the line is shorter: no last n-gram in this order
    codes = [counts[k].codes for k in range(1, order + 1)]
    *_, found = match(codes, words[-1:], words[:-1], counts.vocab_size, counts.eos_id)
    row = int(found.ngrams_TB[0, 0])
    n = n.copy()
    for count, change in ((int(counts.continuation(order)[row]), -1), (int(counts[order].counts[row]), 1)):
        if count < len(n):
            n[count] += change
    return n
