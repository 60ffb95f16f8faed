"""Truncated back-propagation through time over contiguous streams, as a LightningModule.

Shapes: T time steps, B batch (the columns of this process).
"""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torchmetrics.aggregation import SumMetric

from nextword.config import TrainParams
from nextword.models.language_model import LanguageModel, detach, map_tensors
from nextword.text.streams import SegmentWindow
from nextword.training.checkpoint import tensors
from nextword.training.data import Window
from nextword.training.hooks import own_step_hooks
from nextword.training.schedule import build_optimizer, build_scheduler

NATS_GRID = 2.0**-20
"""Spacing of the sums of nats of valid, a window's sum being rounded to it."""
READ_LATE = {"cuda"}
"""Devices that are ahead of this process: what came of a step is read while they work on the next one."""


class Diverged(Exception):
    """Loss or gradient became infinite or not a number; raised before the optimiser step that would spread it."""

    def __init__(self, step: int, loss: float, grad_norm: float, recent_grad_norms: list[float | None]) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm} at step {step}")
        self.report = {
            "step": step,
            "loss": loss if math.isfinite(loss) else None,
            "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
            "recent_grad_norms": recent_grad_norms,
        }


@own_step_hooks
class LanguageModelModule(pl.LightningModule):
    """Trains one model; the state is carried from window to window and detached (truncated BPTT).

    Where a document begins within a window, its column is read from an empty state from the first step of the window
    on: what stands before the document in the window is short, and no engine can empty a state in mid-window. Without
    it a model hardly meets the empty state from which evaluation reads each document (benchmarks/RECORD.md).

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
        self.train_nats, self.train_targets = SumMetric(nan_strategy="disable"), SumMetric()
        self.valid_nats, self.valid_targets = SumMetric(), SumMetric()
        for metric in (self.valid_nats, self.valid_targets):
            metric.set_dtype(torch.float64)
        self.own_nats, self.own_targets = torch.zeros((), dtype=torch.float64), 0
        """Of the epoch so far, in this process; on the device, so that no step waits for them."""
        self.num_clipped = 0
        self.num_steps = 0
        self.recent_grad_norms: list[float | None] = []
        """None where it was not finite, and float16's loss scaler passed over the step."""
        self._loss = torch.tensor(math.nan)
        self._steps = params.bptt
        """T of the window at hand."""
        self._unread: Numbers | None = None
        """Loss and gradient norm of the last step, where they are read late."""
        self._restored: dict[str, Any] | None = None
        """What this process goes on from."""

    def training_step(self, window: Window, batch_idx: int) -> Tensor:  # noqa: D102
        tokens_TB, begins_B = window
        parts = len(self.states)
        part = batch_idx % parts
        if batch_idx < parts:
            self.states[part] = self.model.initial_state(tokens_TB.shape[1])
        elif begins_B is not None:
            self.states[part] = self.model.emptied(self.states[part], begins_B)
        nats, penalty, state = self.model.training_loss(tokens_TB, self.states[part])
        self.states[part] = detach(state)
        self._steps, targets = len(tokens_TB), tokens_TB.numel()
        self.own_nats = self.own_nats + nats.detach()
        self.own_targets += targets
        share = tokens_TB.shape[1] if self.train_params.loss_scale == "per_stream" else targets
        loss = nats / share if penalty is None else nats / share + penalty * (targets / share)
        self._loss = loss.detach() / parts + (self._loss if part else 0.0)
        return loss

    def configure_gradient_clipping(  # noqa: D102
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        clip = self.train_params.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if clip is None else clip)
        if self.train_params.random_bptt:
            gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, self._steps / self.train_params.bptt)
        # The loss scaler of 16-mixed reads the gradients at once, and skips steps with infinite ones itself.
        late = self.device.type in READ_LATE and self.trainer.precision != "16-mixed"
        if late:
            # Fused optimisers leave weights and state as they are where this is 1: nothing spreads till it is known.
            optimizer.found_inf = 1.0 - (self._loss.isfinite() & norm.isfinite()).float()
        numbers = Numbers(self._loss, norm)
        self.settle()
        self._unread = numbers
        if not late:
            self.settle()

    def settle(self) -> None:
        """Count the last step, unless that is done.

        Raises:
            Diverged: its loss or its gradient was not finite.
        """
        if self._unread is None:
            return
        loss, norm = self._unread.read()
        self._unread = None
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.trainer.precision == "16-mixed"):
            raise Diverged(self.num_steps, loss, norm, self.recent_grad_norms[-20:])
        clip = self.train_params.clip_norm
        self.num_steps += 1
        self.num_clipped += clip is not None and norm > clip
        self.recent_grad_norms = [*self.recent_grad_norms[-19:], norm if math.isfinite(norm) else None]

    def train_sums(self) -> tuple[float, float]:
        """Nats and targets of the epoch so far, over all processes; each of them must ask."""
        for metric, own in ((self.train_nats, self.own_nats), (self.train_targets, self.own_targets)):
            metric.set_dtype(torch.float64)  # here: where its module was moved, it takes float32 again
            metric.reset()
            metric.update(float(own))
        return float(self.train_nats.compute()), float(self.train_targets.compute())

    def on_train_epoch_start(self) -> None:  # noqa: D102
        self.own_nats, self.own_targets = torch.zeros((), dtype=torch.float64), 0

    def on_validation_epoch_start(self) -> None:  # noqa: D102
        self.settle()
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
        self.settle()
        own = {
            "state": [tensor.cpu() for tensor in tensors(self.states)],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "sums": [self.own_nats.cpu(), self.own_targets],
        }  # from CPU: what is on a GPU would be read back there by every process
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
            if self.trainer.world_size > 1:  # or the same column of each process would have the same dropout
                mixed = np.random.SeedSequence([torch.initial_seed(), self.trainer.global_rank])
                torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0]))
            return
        # Else Lightning would pass over a plateau schedule at the end of this epoch.
        self.trainer.fit_loop._restarting = False
        own, self._restored = self._restored, None
        columns = self.trainer.train_dataloader.windows.columns  # type: ignore[union-attr]
        like = [self.model.initial_state(len(columns))] * len(self.states)
        saved = iter(own["state"])
        self.states = map_tensors(lambda tensor: next(saved).to(tensor.device), like)
        self.own_nats, self.own_targets = own["sums"]
        torch.set_rng_state(own["random"])
        if own["random_cuda"] is not None:
            torch.cuda.set_rng_state(own["random_cuda"])

    def configure_optimizers(self) -> Any:  # noqa: D102
        optimizer = build_optimizer(self.model.parameters(), self.train_params, self.learning_rate)
        scheduler = build_scheduler(
            optimizer, self.train_params.schedule, self.learning_rate, self.steps_per_epoch, self.epochs
        )
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class Numbers:
    """Numbers of a step, on their way from the device; nothing waits for them until they are read."""

    def __init__(self, *numbers: Tensor) -> None:
        self._numbers: Any = numbers
        self._copied: torch.cuda.Event | None = None
        if numbers[0].is_cuda:
            self._numbers = torch.stack(numbers).to("cpu", non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(numbers[0].device))

    def read(self) -> list[float]:
        """The numbers; waits until they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return [float(number) for number in self._numbers]
