"""How much of a text is seen at all: what makes maximum likelihood fail."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from nextword.ngram.counts import AnyIntArray, NgramCounts, check_ids
from nextword.ngram.lookup import initial_context, match


class OrderSparsity(TypedDict):
    """Sparsity of one order; shares are of 1."""

    types: int
    """Different n-grams in the training text."""
    tokens: int
    """N-grams in the training text."""
    singletons: int
    """Types that occur once."""
    unseen_share: float | None
    """Share of the test text's n-grams (of this length in full, ``<s>`` included) that training does not have; None:
    no line of the test text is that long."""
    unseen_context_share: float
    """Share of the test words whose context (up to k - 1 words of their line) training does not have."""
    zero_probability_share: float
    """Share of the test words that maximum likelihood of this order gives probability zero."""


def sparsity(counts: NgramCounts, ids: AnyIntArray) -> dict[int, OrderSparsity]:
    """Sparsity of each counted order against the text ``ids``.

    Raises:
        ValueError: no tokens, or an id that is not in the vocabulary.
    """
    ids = np.asarray(ids)
    check_ids(ids, counts.vocab_size)
    if len(ids) == 0:
        raise ValueError("no tokens to measure sparsity on; give at least one line")
    line_starts = np.concatenate([[0], np.flatnonzero(ids[:-1] == counts.eos_id) + 1])
    lengths = np.diff(line_starts, append=len(ids))
    position = np.arange(len(ids)) - np.repeat(line_starts, lengths)  # words of the line before this one
    state = initial_context(counts.max_order, 1, counts.bos)
    codes = [level.codes for level in counts.orders]
    report: dict[int, OrderSparsity] = {}
    zero, unseen_context = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    found = match(codes, ids[:, None], state, counts.vocab_size, counts.eos_id)
    for k, (ngrams_TB, contexts_TB) in enumerate(found, start=1):
        level = counts[k]
        # Words early in a line keep the verdict of the longest context they have.
        full = position + 2 >= k  # with <s>
        seen = ngrams_TB[:, 0] >= 0
        seen[seen] = level.counts[ngrams_TB[seen, 0]] > 0
        zero = np.where(full, ~seen, zero)
        known = contexts_TB[:, 0] >= 0
        known[known] = level.fan_out[contexts_TB[known, 0]] > 0
        unseen_context = np.where(full, ~known, unseen_context)
        report[k] = OrderSparsity(
            types=int((level.counts > 0).sum()),
            tokens=int(level.counts.sum(dtype=np.int64)),
            singletons=int((level.counts == 1).sum()),
            unseen_share=float(np.mean(~seen[full])) if full.any() else None,
            unseen_context_share=float(unseen_context.mean()),
            zero_probability_share=float(zero.mean()),
        )
    return report
