"""Checkpoints of a run in training, from which it goes on bit for bit after whatever stopped it.

A checkpoint holds weights, optimiser, schedule, loops, the hidden state of every process, random-number generators, the
sums of the epoch, and what the callbacks keep. It is written beside the last one and takes its place when it is whole
and on the disk; the last but one is kept too. One that cannot be read, or is of other parameters or data, is passed
over.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from nextword.training.hooks import own_step_hooks
from nextword.training.worker import STOPPED

LATEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
AGREE_STEPS, AGREE_SECONDS = 20, 1.0
"""With several processes: steps between two agreements on what to do, fewer where those would take longer."""
SAVE_SHARE = 0.02
"""Of the time, at most, goes into checkpoints."""

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The run was told to stop, by the signal of this number; all is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = int(number)


@own_step_hooks
class Checkpoints(Callback):
    """Saves every so often, and when told to stop: by SIGTERM, or by SIGUSR1, SLURM's notice before its end.

    Must be the last callback: it saves what the others have just done. It saves between two windows of an epoch, never
    after its last one, which validation follows.

    Args:
        folder: of the run.
        fingerprint: of parameters and data.
        seconds: between two checkpoints; more where they are slow (``SAVE_SHARE``). 0: after each step at any cost.
    """

    def __init__(self, folder: Path, fingerprint: str, seconds: float) -> None:
        self.folder, self.fingerprint, self.seconds = folder, fingerprint, seconds
        self.told = 0
        """Number of the first signal to stop."""
        self.interval = seconds
        """Between the last checkpoint and the next one."""
        self._saved = time.monotonic()
        self._agree = Agreement()

    def listen(self) -> None:
        """Take the signals that tell a run to stop. Ctrl-C is the stage's: it tells its workers itself."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.told = self.told or number

        for number in STOPPED:
            signal.signal(number, on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def find(self, processes: int) -> Path | None:
        """The newest checkpoint of this run by so many processes that can be read."""
        for name in (LATEST, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except Exception as error:  # whatever is wrong with a file, training begins from the one before it
                logger.warning("%s cannot be read (%s): passed over", path, str(error).splitlines()[0])
                continue
            if content.get("fingerprint") != self.fingerprint:
                continue
            if len(content["processes"]) == processes:
                return path
            logger.warning("%s is of %d processes, not %d: passed over", path, len(content["processes"]), processes)
        return None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        checkpoint["fingerprint"] = self.fingerprint

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        if batch_idx + 1 >= trainer.num_training_batches:
            return
        due = time.monotonic() - self._saved >= self.interval
        *told, due = self._agree(trainer, batch_idx, *(self.told == number for number in STOPPED), due)
        if not (due or any(told)):
            return
        self.save(trainer)
        for number, by_it in zip(STOPPED, told, strict=True):
            if by_it:
                raise Stopped(number)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        if trainer.world_size == 1 and self.told:
            raise Stopped(self.told)  # the last checkpoint stands

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint; in all processes at once, and none goes on before it is written."""
        started = time.monotonic()
        trainer.save_checkpoint(self.folder / LATEST)
        self._saved = time.monotonic()
        if self.seconds:
            self.interval = max(self.seconds, (self._saved - started) / SAVE_SHARE)

    def clear(self) -> None:
        """Remove what a finished run has no use for."""
        for name in (LATEST, PREVIOUS, f"{LATEST}.part"):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Give back the signals that :meth:`Checkpoints.listen` takes."""
    handlers = {number: signal.getsignal(number) for number in (*STOPPED, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Agreement:
    """Wishes of any process, known to all of them after the same step; asked after whole steps alone.

    One process is asked after each, several after some, so that few steps wait for each other, yet about once a second.
    """

    def __init__(self) -> None:
        self._steps = self._left = 1
        self._asked = time.perf_counter()

    def __call__(self, trainer: pl.Trainer, batch_idx: int, *wishes: bool) -> list[bool]:
        """The wishes, False where they are not asked for."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return [False] * len(wishes)
        if trainer.world_size == 1:
            return list(wishes)
        self._left -= 1
        if self._left:
            return [False] * len(wishes)
        now = time.perf_counter()
        of_each = [*wishes, (now - self._asked) / self._steps]
        of_all = torch.tensor(of_each, dtype=torch.float32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(of_all, torch.distributed.ReduceOp.MAX)
        *wanted, seconds = of_all.tolist()
        self._asked, self._steps = now, max(1, min(AGREE_STEPS, int(AGREE_SECONDS / seconds)))
        self._left = self._steps
        return [bool(wish) for wish in wanted]


class KillSafeIO(TorchCheckpointIO):
    """Writes a checkpoint beside the last one, which becomes the last but one when the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: D102
        latest = Path(path)
        part = latest.with_name(f"{latest.name}.part")
        try:
            content = io.BytesIO()  # Lightning would go by the temporary folder, where a kill leaves its file
            torch.save(checkpoint, content)
            with part.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if latest.exists():
                os.replace(latest, latest.with_name(PREVIOUS))
            os.replace(part, latest)
        except OSError as error:  # a full disk costs the checkpoint, not the training
            part.unlink(missing_ok=True)
            logger.warning("no checkpoint: %s", error)


def tensors(state: Any) -> Iterator[torch.Tensor]:
    """The tensors of a state of a model, in order."""
    if isinstance(state, torch.Tensor):
        yield state
    else:
        for part in state:
            yield from tensors(part)
