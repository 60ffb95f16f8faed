"""Ids as time-major batches: contiguous columns for training, whole segments for evaluation.

Shapes: T time steps, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


class Columns:
    """A stream of ids cut into ``batch_size`` columns of equal length, read window by window.

    Column c of the global batch starts at token ``c * (num_tokens // batch_size)``; window k holds its tokens
    ``k * bptt`` to ``(k + 1) * bptt`` (but see :meth:`cut_anew`), so that a state carried from window to window reads
    each column as one text.
    At most ``batch_size - 1`` tokens at the end are in no column. Process ``rank`` of ``world_size`` reads its own
    share of the columns; nothing but the windows in use is in memory.

    Args:
        ids: (num_tokens,).
        batch_size: columns over all processes.
        bptt: T, time steps in a window; the last one may be shorter.
        rank: which process this is.
        world_size: number of processes; divides ``batch_size``.
        starts: (num_documents + 1,) offsets of the documents in ``ids``, sorted, the last one being the end; None where
            all is one text.

    Raises:
        ValueError: the stream is too short for so many columns, or ``batch_size`` does not divide.
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        bptt: int,
        rank: int = 0,
        world_size: int = 1,
        starts: NDArray[np.int64] | None = None,
    ) -> None:
        if batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} does not divide by {world_size} devices; take a multiple of it")
        self.length = len(ids) // batch_size
        if self.length < 1:
            raise ValueError(
                f"train has {len(ids)} tokens, fewer than batch_size {batch_size}; "
                "take a smaller batch_size or more text"
            )
        local = batch_size // world_size
        self.columns = ids[: self.length * batch_size].reshape(batch_size, self.length)[
            rank * local : (rank + 1) * local
        ]
        self.bptt = bptt
        self.cuts = np.minimum(np.arange(-(-self.length // bptt) + 1) * bptt, self.length)
        """Where the windows begin in each column, and the end of the last one."""
        first, end = rank * local * self.length, (rank + 1) * local * self.length
        starts = np.empty(0, np.int64) if starts is None else starts
        own = starts[slice(*np.searchsorted(starts, (first, end)))]
        column, step = np.divmod(own - first, self.length)
        order = np.argsort(step, kind="stable")
        self._document_columns, self._document_steps = column[order], step[order]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.cuts) - 1

    def cut_anew(self, *seed: int) -> None:
        """Draw other lengths of the windows, of which there are as many; the same ones from the same ``seed``.

        19 of 20 are drawn from N(bptt, 5), the others from N(bptt / 2, 5), none below 5 steps; then all are stretched
        alike to fill the columns. Source: Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models
        (2018), section 5, which draws on until the text ends.
        """
        random = np.random.default_rng(seed)
        mean = np.where(random.random(len(self)) < 0.95, self.bptt, self.bptt / 2)
        ends = np.cumsum(np.maximum(5.0, random.normal(mean, 5.0)))
        self.cuts[1:] = np.rint(ends * (self.length / ends[-1]))

    def begins(self, number: int) -> NDArray[np.bool_] | None:
        """In which columns a document begins within window ``number``, (B,); None where none does."""
        start, end = np.searchsorted(self._document_steps, self.cuts[number : number + 2])
        if start == end:
            return None
        found = np.zeros(len(self.columns), np.bool_)
        found[self._document_columns[start:end]] = True
        return found

    def __getitem__(self, number: int) -> NDArray[np.int64]:
        """Window ``number``, (T, B) with this process's columns."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        start, end = self.cuts[number : number + 2]
        return np.ascontiguousarray(self.columns[:, start:end].T, dtype=np.int64)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the windows in order."""
        return (self[number] for number in range(len(self)))


SEGMENT_STEPS = 256
"""Time steps in a window of segments; no figure depends on it."""


class SegmentWindow(NamedTuple):
    """A window over several segments (lines or documents) side by side."""

    tokens: NDArray[np.int64]  # (T, B), zero where a segment has ended
    place: NDArray[np.int64]  # (T, B), place of each token in the corpus, -1 where a segment has ended
    first: bool  # the segments begin here: start from the initial state


def segment_windows(
    ids: Ids, starts: NDArray[np.int64], batch_size: int, steps: int, rank: int = 0, world_size: int = 1
) -> Iterator[SegmentWindow]:
    """Every token of every segment exactly once, whatever the batch size, the window or the number of processes.

    Args:
        ids: (num_tokens,).
        starts: (num_segments + 1,) offsets of the segments, the last one being the end.
        batch_size: B, segments side by side. They are taken in order of length, so that little is padding.
        steps: T at most.
        rank: which process this is; it reads every ``world_size``-th group of segments.
        world_size: number of processes.
    """
    lengths = np.diff(starts)
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    for group in groups[rank::world_size]:
        for offset in range(0, int(lengths[group[0]]), steps):
            left = lengths[group] - offset
            height = min(steps, int(left[0]))
            step = np.arange(height)[:, None]
            place = np.where(step < left[None, :], starts[group][None, :] + offset + step, -1)
            tokens = np.where(place >= 0, ids[np.maximum(place, 0)], 0).astype(np.int64)
            yield SegmentWindow(tokens, place, offset == 0)
