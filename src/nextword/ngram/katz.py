"""Katz back-off with Good-Turing discounts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nextword.ngram import discounts
from nextword.ngram.build import Block, Request, Rule, TableBuilder
from nextword.ngram.counts import FloatArray
from nextword.ngram.model import NgramModel


def katz(request: Request) -> NgramModel:
    """Katz (1987): what Good-Turing takes from seen n-grams is shared out over the unseen as the order below says::

        p(w | h) = d_{c(h w)} c(h w) / c(h)    if c(h w) > 0
                 = alpha(h) p(w | h')          otherwise
        alpha(h) = (1 - sum_seen p(w | h)) / (1 - sum_seen p(w | h'))

    Counts above ``katz_cutoff`` are not discounted (d = 1). The order below the unigrams is uniform.

    Where the equations leave a context without probability for unseen words (all its counts above the cutoff), one is
    added to c(h), as SRILM does. Where every word of the vocabulary was seen after h, p is scaled to sum to 1.
    """
    cutoff = request.params.katz_cutoff
    if cutoff < 1:
        raise ValueError(f"katz_cutoff is {cutoff}; give 1 or more")
    builder = TableBuilder(request)
    used: list[list[float]] = []
    for k in range(1, request.order + 1):
        level = request.counts[k]
        ratios, note = discounts.good_turing(discounts.counts_of_counts(level.counts, cutoff + 1), cutoff)
        builder.note(note if level.counts.size else None)
        used.append([round(float(r), 8) for r in ratios[1:]])
        builder.add(level, _rule(np.append(ratios, 1.0), request.counts.vocab_size))
    return builder.finish("katz", cutoff=cutoff, ratios=used)


def _rule(ratio_by_count: npt.NDArray[np.float64], vocab_size: int) -> Rule:
    """``ratio_by_count``: d of counts 0, 1, ..., and the last for all higher counts."""

    def rule(block: Block) -> tuple[FloatArray, FloatArray]:
        level = block.level
        seen = level.counts > 0  # order 1 is dense: <s> and the ids that did not occur are rows with count 0
        totals = level.sum_by_context(level.counts)
        discounted = level.counts * ratio_by_count[np.minimum(level.counts, len(ratio_by_count) - 1)]
        kept = level.sum_by_context(discounted)
        complete = level.sum_by_context(seen.astype(np.int64)) >= vocab_size
        nothing_left = ~complete & (totals - kept < 1e-9 * totals)
        divisor = np.where(complete, kept, totals + nothing_left)
        scale = 1 / np.where(divisor > 0, divisor, 1)
        unseen_below = 1 - level.sum_by_context(np.where(seen, block.lower, 0).astype(np.float64))
        alpha = np.where(complete, 0, 1 - kept * scale) / np.where(complete, 1, unseen_below)
        return np.where(seen, discounted * level.spread(scale), level.spread(alpha) * block.lower), alpha

    return rule
