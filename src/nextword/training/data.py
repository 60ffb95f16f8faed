"""Train as windows of columns and valid as whole documents, as a LightningDataModule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.config import TrainParams
from nextword.text.ids import EncodedCorpus
from nextword.text.streams import SEGMENT_STEPS, Columns, segment_windows

ROOM = 1 / 8
"""Share of a device's free memory that the ids of train may take there."""


class Window(NamedTuple):
    """What is trained on at a time: T tokens of each of B columns."""

    tokens: Tensor
    """(T, B)."""
    begins: Tensor | None = None
    """(B,), columns in which a document begins, on the host until :meth:`to`; None where none does."""

    def to(self, device: torch.device | str) -> Window:
        """The same on a device, which need not be waited for."""
        begins = None if self.begins is None else self.begins.to(device, non_blocking=True)
        return Window(self.tokens.to(device, non_blocking=True), begins)


class OnDevice:
    """Columns whose ids lie on a device, so that no step copies its window to there.

    Args:
        columns: of this process.
        device: takes them once, four bytes each.
    """

    def __init__(self, columns: Columns, device: torch.device) -> None:
        self.columns = columns
        self._ids = torch.from_numpy(np.ascontiguousarray(columns.columns.T, dtype=np.int32)).to(device)

    def __getitem__(self, number: int) -> Window:
        """Window ``number``."""
        start, end = self.columns.cuts[number : number + 2]
        return Window(self._ids[start:end].long(), _begins(self.columns, number))


class OnHost:
    """Columns read window by window; for a GPU into memory from which it copies while the process goes on.

    Args:
        columns: of this process.
        device: where the windows go.
    """

    def __init__(self, columns: Columns, device: torch.device) -> None:
        self.columns, self.pinned = columns, device.type == "cuda"

    def __getitem__(self, number: int) -> Window:
        """Window ``number``."""
        tokens = torch.from_numpy(self.columns[number])
        return Window(tokens.pin_memory() if self.pinned else tokens, _begins(self.columns, number))


def _begins(columns: Columns, number: int) -> Tensor | None:
    begins = columns.begins(number)
    return None if begins is None else torch.from_numpy(begins)


def place(parts: list[Columns], device: torch.device) -> list[OnDevice] | list[OnHost]:
    """The windows of all parts as tensors: on the GPU from the beginning where it has room for them."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if 4 * sum(columns.columns.size for columns in parts) <= ROOM * free:
            return [OnDevice(columns, device) for columns in parts]
    return [OnHost(columns, device) for columns in parts]


class _Loader:
    """What Lightning iterates: windows of this process as tensors, from the one that a checkpoint names.

    Where gradients are accumulated, each window comes in parts of its columns, one after the other. With a ``seed`` the
    windows are cut anew in each epoch, alike in all processes.
    """

    def __init__(self, parts: list[Columns], device: torch.device, seed: int | None = None) -> None:
        self.parts, self.seed = parts, seed
        self._placed = place(parts, device)
        self.next, self.epoch = 0, 0

    @property
    def windows(self) -> Columns:
        """Of the first part; all are of one shape."""
        return self.parts[0]

    def __len__(self) -> int:
        return len(self.windows) * len(self.parts)

    def __iter__(self) -> Iterator[Window]:
        if self.next == len(self):  # one that was left goes on
            self.next, self.epoch = 0, self.epoch + 1
        if self.seed is not None:
            for columns in self.parts:
                columns.cut_anew(self.seed, self.epoch)
        while self.next < len(self):
            window, part = divmod(self.next, len(self.parts))
            self.next += 1
            yield self._placed[part][window]

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next, self.epoch = state["next"], state["epoch"]


class _SegmentLoader:
    def __init__(self, ids: NDArray[Any], starts: NDArray[Any], batch_size: int, rank: int, world_size: int) -> None:
        self.arguments = (ids, starts, batch_size, SEGMENT_STEPS, rank, world_size)

    def __iter__(self) -> Any:
        return segment_windows(*self.arguments)


class StreamDataModule(pl.LightningDataModule):
    """Train as columns (each process its own), valid as whole documents with the state carried across their lines.

    Args:
        corpus: encoded text.
        params: ``batch_size`` (over all processes), ``bptt``, ``random_bptt``.
        evaluation_batch: documents of valid side by side.
        seed: of the run.
    """

    def __init__(self, corpus: EncodedCorpus, params: TrainParams, evaluation_batch: int, seed: int = 0) -> None:
        super().__init__()
        self.corpus, self.params, self.evaluation_batch, self.seed = corpus, params, evaluation_batch, seed

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> Any:  # noqa: D102
        rank, world_size = self._place()
        train, params, parts = self.corpus["train"], self.params, self.params.accumulate
        columns = [
            Columns(train.ids, params.batch_size, params.bptt, share, world_size * parts, starts=train.document_starts)
            for share in range(rank * parts, (rank + 1) * parts)
        ]
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        return _Loader(columns, device, self.seed if params.random_bptt else None)

    def val_dataloader(self) -> Any:  # noqa: D102
        valid = self.corpus["valid"]
        return _SegmentLoader(valid.ids, valid.document_starts, self.evaluation_batch, *self._place())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: D102
        return batch.to(device) if isinstance(batch, Window) else batch
