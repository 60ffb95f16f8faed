"""Averaged SGD that starts to average when the valid loss stops falling (NT-ASGD).

Source: Merity, Keskar & Socher, Regularizing and Optimizing LSTM Language Models (2018), section 3, algorithm 1, with a
check of the valid loss at each epoch's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from nextword.training.hooks import own_step_hooks


def stopped_falling(losses: Sequence[float], interval: int) -> bool:
    """Whether the last loss is worse than the best of those more than ``interval`` checks before it."""
    return losses[-1] > min(losses[: -1 - interval], default=losses[-1])


@own_step_hooks
class NonmonotoneAveraging(Callback):
    """Averages the weights after each step from the trigger on, and validates, so also saves, the average.

    Training itself goes on from the weights of SGD. Must stand after whatever saves the weights when a validation ends.

    Args:
        interval: see :func:`stopped_falling`.
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self.losses: list[float] = []
        """Valid loss by check, up to the trigger."""
        self.averaging = False
        self.mean: list[Tensor] = []
        """The mean of the weights of ``count`` steps, by parameter."""
        self.count = 0

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {key: getattr(self, key) for key in ("losses", "averaging", "mean", "count")}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: D102
        for key, value in state.items():
            setattr(self, key, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """A checkpoint is read to CPU, wherever training goes on."""
        self.mean = [
            mean.to(parameter.device) for mean, parameter in zip(self.mean, pl_module.parameters(), strict=False)
        ]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: D102
        if not self.averaging or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        weights = [parameter.detach() for parameter in pl_module.parameters()]
        self.count += 1
        if self.count == 1:
            self.mean = [weight.clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.mean, weights, 1.0 / self.count)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        self._swap(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:  # noqa: D102
        self._swap(pl_module)
        if not self.averaging:
            self.losses.append(float(trainer.callback_metrics["valid_nats_per_target"]))
            self.averaging = stopped_falling(self.losses, self.interval)

    def _swap(self, pl_module: Any) -> None:
        if self.count:
            for place, parameter in enumerate(pl_module.parameters()):
                self.mean[place], parameter.data = parameter.data, self.mean[place]
