"""Truncated back-propagation through time over contiguous streams, as a LightningModule and a LightningDataModule.

Shapes: T time steps, B batch (the columns of this process).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.aggregation import SumMetric

from nextword.config import TrainParams
from nextword.models.language_model import LanguageModel, detach, map_tensors
from nextword.text.ids import EncodedCorpus
from nextword.text.streams import SEGMENT_STEPS, Columns, SegmentWindow, segment_windows
from nextword.training.checkpoint import tensors
from nextword.training.schedule import build_optimizer, build_scheduler

NATS_GRID = 2.0**-20
"""Spacing of the sums of nats of valid, a window's sum being rounded to it."""


class Diverged(Exception):
    """Loss or gradient became infinite or not a number; raised before the optimiser step that would spread it."""

    def __init__(self, step: int, loss: float, grad_norm: float, recent_grad_norms: list[float]) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm} at step {step}")
        self.report = {
            "step": step,
            "loss": loss if math.isfinite(loss) else None,
            "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
            "recent_grad_norms": recent_grad_norms,
        }


class LanguageModelModule(pl.LightningModule):
    """Trains one model; the state is carried from window to window and detached (truncated BPTT).

    Args:
        model: the language model.
        params: optimizer, schedule, clipping.
        learning_rate: peak of the schedule.
        steps_per_epoch: windows in an epoch.
        epochs: that the schedule spans.
    """

    def __init__(
        self, model: LanguageModel, params: TrainParams, learning_rate: float, steps_per_epoch: int, epochs: int
    ) -> None:
        super().__init__()
        self.model, self.train_params, self.learning_rate = model, params, learning_rate
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs
        self.states: list[Any] = [None] * params.accumulate
        """One for each part of the columns."""
        self.train_nats, self.train_targets = SumMetric(), SumMetric()
        self.valid_nats, self.valid_targets = SumMetric(), SumMetric()
        for metric in (self.train_nats, self.train_targets, self.valid_nats, self.valid_targets):
            metric.set_dtype(torch.float64)
        self.num_clipped = 0
        self.num_steps = 0
        self.recent_grad_norms: list[float] = []
        self._loss = torch.tensor(math.nan)
        self._steps = params.bptt
        """T of the window at hand."""
        self._restored: dict[str, Any] | None = None
        """What this process goes on from."""

    def training_step(self, tokens_TB: Tensor, batch_idx: int) -> Tensor:  # noqa: D102
        parts = len(self.states)
        part = batch_idx % parts
        if batch_idx < parts:
            self.states[part] = self.model.initial_state(tokens_TB.shape[1])
        nats, penalty, state = self.model.training_loss(tokens_TB, self.states[part])
        self.states[part] = detach(state)
        self.train_nats.update(nats.detach())
        self.train_targets.update(tokens_TB.numel())
        self._steps, targets = len(tokens_TB), tokens_TB.numel()
        share = tokens_TB.shape[1] if self.train_params.loss_scale == "per_stream" else targets
        loss = nats / share if penalty is None else nats / share + penalty * (targets / share)
        self._loss = loss.detach() / parts + (self._loss if part else 0.0)
        return loss

    def configure_gradient_clipping(  # noqa: D102
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        clip = self.train_params.clip_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if clip is None else clip))
        loss = float(self._loss)
        mixed_half = self.trainer.precision == "16-mixed"  # its loss scaler skips steps with infinite gradients itself
        if not math.isfinite(loss) or not (math.isfinite(norm) or mixed_half):
            raise Diverged(self.num_steps, loss, norm, self.recent_grad_norms[-20:])
        self.num_steps += 1
        self.num_clipped += clip is not None and norm > clip
        self.recent_grad_norms = [*self.recent_grad_norms[-19:], norm]
        if self.train_params.random_bptt:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self._steps / self.train_params.bptt)

    def on_train_epoch_start(self) -> None:  # noqa: D102
        self.train_nats.reset()
        self.train_targets.reset()

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self.valid_nats.reset()
        self.valid_targets.reset()
        self._valid_state: Any = None

    def validation_step(self, window: SegmentWindow, batch_idx: int) -> None:  # noqa: D102
        tokens = torch.from_numpy(window.tokens).to(self.device)
        kept = torch.from_numpy(window.place >= 0).to(self.device)
        if window.first:
            self._valid_state = self.model.initial_state(tokens.shape[1])
        if not self.model.left_to_right:  # its right context ends with the window here; evaluation gives it all
            self._valid_state = self._valid_state._replace(lengths=kept.sum(0))
        with torch.autocast(self.device.type, enabled=False):
            log_prob, self._valid_state = self.model.score(tokens, self._valid_state)
        # Multiples of NATS_GRID add up without rounding: the same sum in any order, on any number of devices.
        nats = torch.round(-log_prob[kept].double().sum() / NATS_GRID) * NATS_GRID
        self.valid_nats.update(torch.where(nats.isnan(), math.inf, nats))  # a state that overflowed predicts nothing
        self.valid_targets.update(kept.sum())

    def on_validation_epoch_end(self) -> None:  # noqa: D102
        self.log("valid_nats_per_target", self.valid_nats.compute() / self.valid_targets.compute(), sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        own = {
            "state": list(tensors(self.states)),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "sums": [metric.sum_value for metric in (self.train_nats, self.train_targets)],
        }
        everywhere = [own]
        if self.trainer.world_size > 1:
            everywhere = [own] * self.trainer.world_size
            torch.distributed.all_gather_object(everywhere, own)
        checkpoint["processes"] = everywhere
        checkpoint["counts"] = {
            "num_clipped": self.num_clipped, "num_steps": self.num_steps, "recent_grad_norms": self.recent_grad_norms,
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:  # noqa: D102
        self._restored = checkpoint["processes"][self.trainer.global_rank]
        for key, value in checkpoint["counts"].items():
            setattr(self, key, value)

    def on_train_start(self) -> None:
        """Last of all before training goes on: nothing draws a random number after it."""
        if self._restored is None:
            return
        own, self._restored = self._restored, None
        columns = self.trainer.train_dataloader.windows.columns  # type: ignore[union-attr]
        like = [self.model.initial_state(len(columns))] * len(self.states)
        saved = iter(own["state"])
        self.states = map_tensors(lambda tensor: next(saved).to(tensor.device), like)
        for metric, value in zip((self.train_nats, self.train_targets), own["sums"], strict=True):
            metric.update(value.to(self.device))
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None:
            torch.cuda.set_rng_state(own["random_cuda"])

    def configure_optimizers(self) -> Any:  # noqa: D102
        optimizer = build_optimizer(self.model.parameters(), self.train_params, self.learning_rate)
        scheduler = build_scheduler(
            optimizer, self.train_params.schedule, self.learning_rate, self.steps_per_epoch, self.epochs
        )
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class _Loader:
    """What Lightning iterates: windows of this process as tensors, from the one that a checkpoint names.

    Where gradients are accumulated, each window comes in parts of its columns, one after the other. With a ``seed`` the
    windows are cut anew in each epoch, alike in all processes.
    """

    def __init__(self, parts: list[Columns], seed: int | None = None) -> None:
        self.parts, self.seed = parts, seed
        self.next, self.epoch = 0, 0

    @property
    def windows(self) -> Columns:
        """Of the first part; all are of one shape."""
        return self.parts[0]

    def __len__(self) -> int:
        return len(self.windows) * len(self.parts)

    def __iter__(self) -> Iterator[Tensor]:
        if self.next == len(self):  # one that was left goes on
            self.next, self.epoch = 0, self.epoch + 1
        if self.seed is not None:
            for columns in self.parts:
                columns.cut_anew(self.seed, self.epoch)
        while self.next < len(self):
            window, part = divmod(self.next, len(self.parts))
            self.next += 1
            yield torch.from_numpy(self.parts[part][window])

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
        ids, params, parts = self.corpus["train"].ids, self.params, self.params.accumulate
        shares = range(rank * parts, (rank + 1) * parts)
        columns = [Columns(ids, params.batch_size, params.bptt, share, world_size * parts) for share in shares]
        return _Loader(columns, self.seed if params.random_bptt else None)

    def val_dataloader(self) -> Any:  # noqa: D102
        valid = self.corpus["valid"]
        return _SegmentLoader(valid.ids, valid.document_starts, self.evaluation_batch, *self._place())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: D102
        return batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch
