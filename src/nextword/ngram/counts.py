"""What is known of a text's n-grams: counts of all orders, as sorted integer arrays.

The k-grams are kept in lexicographic order, so a k-gram is known by its rank, and the rank follows from the rank of
its (k-1)-gram prefix and its last word::

    code_k = rank_{k-1}(w_1 .. w_{k-1}) * (V + 1) + w_k        rank_k = position of code_k among the sorted codes

``V`` is the vocabulary size; the symbol ``V`` is ``<s>``, which stands before each line, is never predicted, and, being
the largest, puts all n-grams that start with it at the end of each table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]
AnyIntArray = npt.NDArray[np.integer[Any]]

_BLOCK = 1 << 17
"""N-grams worked on at once: a block and its temporaries stay in a core's cache."""


@dataclass(frozen=True, eq=False)
class OrderCounts:
    """The k-gram types of one order k, sorted; T of them, and T' of order k - 1.

    Order 1 is dense: one row an id and a last one for ``<s>`` (count 0), under the one empty context.
    """

    codes: IntArray
    """(T,) rank of the context * (V + 1) + word, strictly rising."""
    counts: AnyIntArray
    """(T,) occurrences."""
    suffixes: AnyIntArray
    """(T,) rank, in order k - 1, of the k-gram without its first word."""
    starts: AnyIntArray
    """(T' + 1,) the k-grams of context r are rows ``starts[r]`` to ``starts[r + 1]``."""
    first_bos: int
    """Row of the first k-gram that starts with ``<s>``; all rows after it do too."""

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def fan_out(self) -> IntArray:
        """(T',) number of different words seen after each context, N1+(h .)."""
        return np.diff(self.starts).astype(np.int64)

    def sum_by_context(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum ``values`` (T,) over the words of each context: (T',), zero where a context has none."""
        dtype = np.float64 if values.dtype.kind == "f" else np.int64
        sums = np.zeros(len(self.starts) - 1, dtype=dtype)
        filled = self.starts[1:] > self.starts[:-1]
        if filled.any():
            sums[filled] = np.add.reduceat(values, self.starts[:-1][filled], dtype=dtype)
        return sums

    def spread(self, by_context: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Repeat a value a context (T',) for each of its words: (T,)."""
        return np.repeat(by_context, self.fan_out)

    def blocks(self) -> Iterator[tuple[slice, slice, OrderCounts]]:
        """Cut at context boundaries: slices of the contexts and of the rows, and the counts of that part alone."""
        first, num_contexts = 0, len(self.starts) - 1
        while first < num_contexts:
            # The limit has the type of the array: for another one NumPy would copy the array each time.
            limit = self.starts[first] + self.starts.dtype.type(_BLOCK)
            end = int(np.searchsorted(self.starts, limit, side="right")) - 1
            contexts = slice(first, min(max(first + 1, end), num_contexts))
            rows = slice(int(self.starts[contexts.start]), int(self.starts[contexts.stop]))
            yield (
                contexts,
                rows,
                OrderCounts(
                    self.codes[rows],
                    self.counts[rows],
                    self.suffixes[rows],
                    self.starts[contexts.start : contexts.stop + 1] - self.starts[contexts.start],
                    max(0, self.first_bos - rows.start),
                ),
            )
            first = contexts.stop


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """Counts of orders 1 to ``max_order``; ``counts[k]`` is order k."""

    orders: tuple[OrderCounts, ...]
    vocab_size: int
    eos_id: int
    num_tokens: int
    last_words: tuple[int, ...]
    """The n-gram that ``lmplz`` meets last, up to ``max_order`` words; see :mod:`nextword.ngram.kneser_ney`."""

    @property
    def max_order(self) -> int:
        """Highest order counted."""
        return len(self.orders)

    @property
    def bos(self) -> int:
        """The symbol ``<s>``, one above the largest id."""
        return self.vocab_size

    def __getitem__(self, order: int) -> OrderCounts:
        return self.orders[order - 1]

    def continuation(self, order: int) -> AnyIntArray:
        """Adjusted counts of Kneser & Ney (1995), (T,): the number of different words seen before each n-gram.

        N-grams that start with ``<s>`` have nothing before them and keep their count (KenLM, Heafield et al. 2013).
        Needs the counts of ``order`` + 1.
        """
        return self._continuations[order - 1]

    @cached_property
    def _continuations(self) -> list[AnyIntArray]:
        adjusted = []
        for below, above in zip(self.orders, self.orders[1:], strict=False):
            left: AnyIntArray = np.zeros(len(below), dtype=below.counts.dtype)
            np.add.at(left, above.suffixes, left.dtype.type(1))
            left[below.first_bos :] = below.counts[below.first_bos :]
            adjusted.append(left)
        return adjusted


def check_ids(ids: AnyIntArray, vocab_size: int) -> None:
    """Raise ValueError unless ``ids`` are integers in [0, vocab_size)."""
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids must be a 1-D integer array; got {ids.ndim}-D {ids.dtype}")
    if len(ids) and not (ids.min() >= 0 and ids.max() < vocab_size):
        wrong = ids.max() if ids.min() >= 0 else ids.min()
        raise ValueError(
            f"id {wrong} is not in the vocabulary of {vocab_size} ids (0 to {vocab_size - 1}); "
            "encode the text with the tokenizer the model was made with"
        )
