"""Counting: the start positions of a text, sorted by one word more from order to order.

Within the (contiguous) positions that share a k-gram they are sorted by the next word, a slice of whole groups at a
time. A slice is one in-cache sort of 64-bit keys (group, word, position), so time is near linear in the corpus and
memory is a few integers a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nextword.ngram.counts import AnyIntArray, IntArray, NgramCounts, OrderCounts, check_ids

_SLICE = 1 << 17
"""Positions sorted at once: the keys of a slice and their copies stay in a core's cache."""


def count_ngrams(ids: AnyIntArray, eos_id: int, max_order: int, vocab_size: int) -> NgramCounts:
    """Count the n-grams of all orders 1 to ``max_order``.

    Each line is ``<s> w_1 ... w_m <eos>``; n-grams never cross a line. One ``<s>`` stands before a line whatever the
    order, as KenLM's ``lmplz`` counts.

    Args:
        ids: (num_tokens,) integers in [0, vocab_size), with ``eos_id`` after each line; may be a memory map.
        eos_id: the id that ends a line.
        max_order: highest order to count, at least 1.
        vocab_size: number of ids; ids that do not occur have count 0.

    Raises:
        ValueError: no tokens, an id out of range, no ``eos_id`` at the end, an order below 1.

    Example:
        >>> counts = count_ngrams(np.array([1, 2, 0, 1, 0]), eos_id=0, max_order=2, vocab_size=3)
        >>> counts[1].counts.tolist(), counts[2].codes.tolist(), counts[2].counts.tolist()
        ([2, 2, 1, 0], [4, 6, 8, 13], [1, 1, 1, 2])
    """
    if max_order < 1:
        raise ValueError(f"n-gram order {max_order} is below 1; give 1 or more")
    ids = np.asarray(ids)
    check_ids(ids, vocab_size)
    if not 0 <= eos_id < vocab_size:
        raise ValueError(f"eos_id {eos_id} is not in [0, {vocab_size}); give the id that ends each line")
    if len(ids) == 0:
        raise ValueError("no tokens to count n-grams in: the training text is empty; give at least one line")
    if ids[-1] != eos_id:
        raise ValueError(f"the last id is {ids[-1]}, not eos_id {eos_id}; put eos_id after every line")

    small = len(ids) < np.iinfo(np.int32).max // 2  # <s> included, ranks and positions then fit 32 bits
    corpus = _Corpus(_with_bos(ids, eos_id, vocab_size), eos_id, vocab_size, np.dtype(np.uint32 if small else np.int64))
    orders = [corpus.unigrams()]
    last_words = corpus.last_words(max_order)
    while len(orders) < max_order:
        orders.append(corpus.extend(orders[-1], last=len(orders) + 1 == max_order))
    return NgramCounts(tuple(orders), vocab_size, eos_id, len(ids), last_words)


def _with_bos(ids: AnyIntArray, eos_id: int, vocab_size: int) -> AnyIntArray:
    """The ids with the symbol ``vocab_size`` before each line, in the smallest type that holds it."""
    line_starts = np.concatenate([[0], np.flatnonzero(ids[:-1] == eos_id) + 1])
    symbols = np.insert(ids.astype(np.min_scalar_type(vocab_size), copy=False), line_starts, vocab_size)
    return np.asarray(symbols)


def _offsets(sizes: AnyIntArray, dtype: np.dtype[Any]) -> AnyIntArray:
    """Where each of the groups of these sizes starts, and the end of the last."""
    offsets = np.zeros(len(sizes) + 1, dtype=dtype)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


class _Corpus:
    """Start positions of the corpus, sorted by the k-gram that starts there."""

    def __init__(self, symbols: AnyIntArray, eos_id: int, vocab_size: int, dtype: np.dtype[Any]) -> None:
        self.symbols = symbols
        self.eos_id = eos_id
        self.base = vocab_size + 1
        self.dtype = dtype
        self.order = 1

    def unigrams(self) -> OrderCounts:
        sizes = np.bincount(self.symbols, minlength=self.base)
        self.positions = _sort_positions(self.symbols, self.dtype)
        self.sizes = sizes.astype(self.dtype)
        self.ranks: AnyIntArray = self.symbols
        counts = self.sizes.copy()
        counts[-1] = 0  # <s> is a context, never an event
        return OrderCounts(
            codes=np.arange(self.base),
            counts=counts,
            suffixes=np.zeros(self.base, dtype=self.dtype),
            starts=np.array([0, self.base], dtype=self.dtype),
            first_bos=self.base - 1,
        )

    def last_words(self, length: int) -> tuple[int, ...]:
        """The last n-gram when words rank by first appearance and n-grams compare from their last word back.

        ``<s>`` and then ``<eos>`` rank below all words. To be called while the positions are sorted by one word.
        """
        offsets = _offsets(self.sizes, np.dtype(np.int64))
        appearance = np.full(self.base, -3, dtype=np.int64)
        occurs = np.flatnonzero(self.sizes)
        appearance[occurs] = self.positions[offsets[occurs]]
        appearance[self.base - 1], appearance[self.eos_id] = -2, -1
        words = [int(appearance.argmax())]
        ends = self.positions[offsets[words[0]] : offsets[words[0] + 1]].astype(np.int64)
        while len(words) < length and words[0] != self.base - 1:
            before = self.symbols[ends - len(words)]
            words.insert(0, int(before[appearance[before].argmax()]))
            ends = ends[before == words[0]]
        return tuple(words)

    def extend(self, below: OrderCounts, last: bool) -> OrderCounts:
        """Sort the positions of order k by one word more."""
        k, base, groups = self.order, self.base, len(below)
        offsets = _offsets(self.sizes, np.dtype(np.int64))
        # Room for the most types there can be; pages that are never written take no memory.
        room = len(self.positions)
        codes, counts, suffixes = np.empty(room, np.int64), np.empty(room, self.dtype), np.empty(room, self.dtype)
        positions = np.empty(room, self.dtype)
        fan_out = np.zeros(groups, dtype=self.dtype)
        num_types = num_positions = group = 0
        while group < groups:
            end = max(group + 1, int(np.searchsorted(offsets, offsets[group] + _SLICE, side="right")) - 1)
            sizes, where = self.sizes[group:end], self.positions[offsets[group] : offsets[end]]
            ended = below.codes[group:end] % base == self.eos_id
            if ended.any():  # no n-gram goes on after <eos>
                where = where[np.repeat(~ended, sizes)]
                sizes = np.where(ended, 0, sizes)
            local = np.repeat(np.arange(end - group), sizes)
            if len(where):
                keys, where = _sort_slice(local * base + self.symbols[where + self.dtype.type(k)], where)
                first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
                types = slice(num_types, num_types + len(first))
                unique = keys[first]
                codes[types] = unique + group * base
                counts[types] = np.diff(first, append=len(keys))
                suffixes[types] = self.ranks[where[first] + self.dtype.type(1)]
                fan_out[group:end] = np.bincount(unique // base, minlength=end - group)
                positions[num_positions : num_positions + len(where)] = where
                num_types, num_positions = types.stop, num_positions + len(where)
            group = end
        del offsets
        starts = _offsets(fan_out, self.dtype)
        self.order, self.positions, self.sizes = k + 1, positions[:num_positions], counts[:num_types]
        if last:
            del self.positions, self.ranks
        else:
            self._rank()
        return OrderCounts(
            codes[:num_types], counts[:num_types], suffixes[:num_types], starts, int(starts[below.first_bos])
        )

    def _rank(self) -> None:
        """Rank of the k-gram that starts at each position."""
        ranks = np.empty(len(self.symbols), self.dtype)
        done = 0
        for start in range(0, len(self.sizes), _SLICE):
            sizes = self.sizes[start : start + _SLICE]
            repeated = np.repeat(np.arange(start, start + len(sizes), dtype=self.dtype), sizes)
            ranks[self.positions[done : done + len(repeated)]] = repeated
            done += len(repeated)
        self.ranks = ranks


def _sort_positions(symbols: AnyIntArray, dtype: np.dtype[Any]) -> AnyIntArray:
    """Positions 0 .. n - 1 in the order of their symbols: a radix sort by 16-bit digits, the lowest first."""
    order = np.argsort(symbols.astype(np.uint16), kind="stable").astype(dtype, copy=False)
    for shift in range(16, 8 * symbols.dtype.itemsize, 16):
        digit = (symbols >> symbols.dtype.type(shift)).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def _sort_slice(keys: IntArray, values: AnyIntArray) -> tuple[IntArray, AnyIntArray]:
    """Keys in rising order, and the values in the same order."""
    bits = max(1, int(len(keys) - 1).bit_length())
    if int(keys.max()).bit_length() + bits <= 63:
        packed = (keys << bits) | np.arange(len(keys))
        packed.sort()  # vectorised for 64-bit integers: several times as fast as an argsort
        return packed >> bits, values[packed & ((1 << bits) - 1)]
    order = np.argsort(keys)
    return keys[order], values[order]
