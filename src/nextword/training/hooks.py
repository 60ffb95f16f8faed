"""Less of what Lightning does around each step: hooks that nobody has, and a profile that nobody reads.

It enters some forty hooks a step, most of them empty, each with a note to its profiler; for small models that took
longer than the optimiser (benchmarks/RECORD.md).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import lightning.pytorch as pl
from lightning.pytorch.profilers import PassThroughProfiler

T = TypeVar("T")
STEP_HOOKS = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step",
)  # fmt: skip


def own_step_hooks(owner: type[T]) -> type[T]:
    """Decorate a module or a callback: the hooks of a step that its class does not define are None, so passed over."""
    for name in STEP_HOOKS:
        if name not in vars(owner):
            setattr(owner, name, None)
    return owner


class NoProfiler(PassThroughProfiler):
    """Keeps no times, and makes no context for each."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]  # noqa: D102
        return self._nothing


def no_answer_to_signals(trainer: pl.Trainer) -> None:
    """Leave signals to :class:`nextword.training.checkpoint.Checkpoints`.

    At SIGTERM Lightning (2.6) would leave training before anything is saved. Several processes would ask each other for
    it before each step, which waits for the device.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
