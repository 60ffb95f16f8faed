"""Which n-grams of a model end at each position of a text: a chain of binary searches.

Legend: T time, B batch (independent streams side by side), N = order - 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nextword.ngram.counts import AnyIntArray, IntArray

ABSENT = -1


class Match(NamedTuple):
    """What order k knows about each position; ``ABSENT`` where it knows nothing."""

    ngrams_TB: IntArray
    """Rank, in order k, of the k-gram that ends at the position."""
    contexts_TB: IntArray
    """Rank, in order k - 1, of the k - 1 words before the position (for k = 1 the empty context, rank 0)."""


def initial_context(order: int, batch: int, bos: int) -> IntArray:
    """(N, B): nothing, and then ``<s>``."""
    state_NB = np.full((order - 1, batch), ABSENT, dtype=np.int64)
    state_NB[-1:] = bos
    return state_NB


def match(
    codes: Sequence[IntArray], tokens_TB: AnyIntArray, state_NB: IntArray, vocab_size: int, eos_id: int
) -> Iterator[Match]:
    """Yield the matches of orders 1, 2, ... for ``tokens_TB`` after the words of ``state_NB``.

    ``rank_k(t) = search(codes_k, rank_{k-1}(t - 1) * (V + 1) + w_t)``. An ``<eos>`` is an event like any other, but
    as a context it is ``<s>``: the next line starts there, and no n-gram reaches across.

    Args:
        codes: one sorted table of codes an order; all prefixes of an n-gram are in the tables.
        tokens_TB: ids.
        state_NB: the preceding ids, ``vocab_size`` for ``<s>`` and ``ABSENT`` before it; N >= len(codes) - 1.
        vocab_size: V.
        eos_id: the id that ends a line.
    """
    symbols_SB = np.concatenate([state_NB, np.asarray(tokens_TB).astype(np.int64, copy=False)])
    ends_SB = symbols_SB == eos_id
    num_state = len(state_NB)
    contexts_SB = np.zeros_like(symbols_SB)
    ranks_SB = symbols_SB
    for k in range(1, len(codes) + 1):
        if k > 1:
            ranks_SB = _search(codes[k - 1], contexts_SB, symbols_SB, vocab_size + 1)
        yield Match(ranks_SB[num_state:], contexts_SB[num_state:])
        following_SB = np.where(ends_SB, vocab_size if k == 1 else ABSENT, ranks_SB)
        contexts_SB = np.full_like(following_SB, ABSENT)
        contexts_SB[1:] = following_SB[:-1]


def _search(codes: IntArray, contexts: IntArray, words: IntArray, base: int) -> IntArray:
    """Rank of each (context, word) in a sorted table of codes, or ``ABSENT``."""
    ranks = np.full_like(words, ABSENT)
    known = np.flatnonzero((contexts.ravel() >= 0) & (words.ravel() >= 0))
    if len(codes) == 0 or len(known) == 0:
        return ranks
    wanted = contexts.ravel()[known] * base + words.ravel()[known]
    found = np.searchsorted(codes, wanted)
    found[found == len(codes)] = 0
    hit = codes[found] == wanted
    ranks.ravel()[known[hit]] = found[hit]
    return ranks
