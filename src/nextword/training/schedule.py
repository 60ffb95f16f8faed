"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from nextword.config import ScheduleParams, TrainParams


def build_optimizer(parameters: Iterable[nn.Parameter], params: TrainParams, learning_rate: float) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD, also under NT-ASGD; weight decay falls on matrices, not on biases.

    In float16 not the fused ones: they divide by the loss scale only when they step, after gradients are clipped.
    """
    parameters = [p for p in parameters if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = params.precision != "float16"
    if params.optimizer == "adamw":
        return AdamW(groups, lr=learning_rate, fused=fused)
    return SGD(groups, lr=learning_rate, momentum=params.momentum, fused=fused)


def build_scheduler(
    optimizer: Optimizer, params: ScheduleParams, learning_rate: float, steps_per_epoch: int, epochs: int
) -> dict[str, Any]:
    """A learning-rate scheduler in the form that Lightning takes.

    constant; one_cycle (Smith & Topin 2019); cosine after a linear warm-up (Loshchilov & Hutter 2017); plateau (on the
    valid loss); decay: constant, then multiplied by ``factor`` at the start of each epoch from ``decay_from_epoch``
    on (Zaremba et al. 2014).
    """
    steps = steps_per_epoch * epochs
    if params.kind == "plateau":
        plateau = ReduceLROnPlateau(optimizer, factor=params.factor, patience=params.patience)
        return {"scheduler": plateau, "interval": "epoch", "monitor": "valid_nats_per_target"}
    if params.kind == "one_cycle" and steps > 2:  # fewer have no room to rise and fall
        rise = max(params.warmup, 2 / steps)  # the peak is the second step's at the earliest
        one_cycle = OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=rise, cycle_momentum=False)
        return {"scheduler": one_cycle, "interval": "step"}

    warm = max(1, round(params.warmup * steps))

    def multiplier(step: int) -> float:
        if params.kind == "cosine":
            rise = min(1.0, (step + 1) / warm)
            return rise * 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm)))
        if params.kind == "decay":
            return params.factor ** max(0, step // steps_per_epoch + 2 - params.decay_from_epoch)
        return 1.0

    return {"scheduler": LambdaLR(optimizer, multiplier), "interval": "step"}
