"""A short training inside this process: no files, no checkpoints; for searches and experiments of many small runs."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from nextword.config import TrainParams
from nextword.models.language_model import LanguageModel
from nextword.text.ids import Ids
from nextword.text.streams import Columns
from nextword.training.data import Window, place
from nextword.training.fit import resolve_precision
from nextword.training.module import READ_LATE, LanguageModelModule, Numbers


@dataclass(frozen=True)
class Brief:
    """What came of it."""

    steps: int
    tokens: int
    """Tokens trained on, repeats counted."""
    seconds: float
    diverged_at: int | None
    """The step before whose update loss or gradient was not finite; training ended there."""
    train_nats: tuple[float, ...]
    """Nats a target over each pass through the text, while it was trained on; the last pass may be a part."""


def train_briefly(
    model: LanguageModel,
    ids: Ids,
    train: TrainParams,
    learning_rate: float,
    steps: int | None = None,
    on_pass: Callable[[int], None] | None = None,
    starts: NDArray[np.int64] | None = None,
) -> Brief:
    """Train ``model`` where it lies, as stage ``train`` does: same windows, optimiser, schedule, clipping, precision.

    Windows are all of bptt steps, whatever ``random_bptt`` says.

    float16 is taken as bfloat16 (:func:`product_type`).

    Args:
        model: its weights are changed; left in training mode.
        ids: (N,) the text.
        train: batch, bptt, optimiser, schedule, clipping, precision.
        learning_rate: peak of the schedule, which spans all steps.
        steps: updates; past the end of the text it begins anew. None: one pass.
        on_pass: called with the number of passes done (from 1) after each whole one.
        starts: (num_documents + 1,) where the documents begin, and the end; None where all is one text.

    Raises:
        ValueError: the text is shorter than a batch.
    """
    columns = Columns(ids, train.batch_size, train.bptt, starts=starts)
    total = len(columns) if steps is None else steps
    device = model.output.weight.device
    low = product_type(train.precision, device.type)
    whole = train.model_copy(update={"accumulate": 1, "precision": str(low).removeprefix("torch.")})
    module = LanguageModelModule(model.train(), whole, learning_rate, total, 1)
    plan = module.configure_optimizers()
    optimizer, schedule = plan["optimizer"], plan["lr_scheduler"]
    (windows,) = place([columns], device)
    updates, sizes, nats, passes, finite = Updates(model, optimizer, train.clip_norm), list[int](), [], 0, True
    started = time.perf_counter()
    with warnings.catch_warnings():
        # Of the sums that the module keeps; here a loss that is not a number is a result.
        warnings.filterwarnings("ignore", "Encountered `nan` values")
        while len(sizes) < total and finite:
            module.on_train_epoch_start()
            for number in range(len(columns)):
                if len(sizes) == total:
                    break
                window = windows[number].to(device)
                loss = window_loss(module, window, number, low)
                if not (finite := updates(loss)):
                    break
                if schedule["interval"] == "step":
                    schedule["scheduler"].step()
                sizes.append(window.tokens.numel())
            else:
                passes += 1
                if on_pass is not None:
                    on_pass(passes)
                    model.train()
            sum_nats, targets = module.train_sums()
            nats.append(sum_nats / targets)
    finite = updates.settle() and finite
    steps = updates.done
    return Brief(steps, sum(sizes[:steps]), time.perf_counter() - started, None if finite else steps, tuple(nats))


def product_type(precision: str, device: str) -> torch.dtype:
    """Type of the matrix products; float16 is taken as bfloat16, since there is no loss scaling here."""
    return torch.float32 if resolve_precision(precision, device) == "float32" else torch.bfloat16


def window_loss(module: LanguageModelModule, window: Window, number: int, low: torch.dtype) -> Tensor:
    """The loss that is differentiated, of the window of that number in a pass, with matrix products in ``low``."""
    with torch.autocast(window.tokens.device.type, low, enabled=low != torch.float32):
        return module.training_step(window, number)


class Updates:
    """Steps of an optimiser; none where the loss or the norm of its gradient is not finite.

    On devices that are ahead of their process the numbers of a step are read once the next one is under way, and the
    fused optimiser passes over a step of its own accord: nothing waits for the device.
    """

    def __init__(self, model: LanguageModel, optimizer: Optimizer, clip_norm: float | None) -> None:
        self.done = 0
        """Steps that are known to have been finite."""
        self.optimizer = optimizer
        self._model, self._clip = model, clip_norm or math.inf
        self._unread: Numbers | None = None

    def __call__(self, loss: Tensor) -> bool:
        """One step; False where it, or on such a device the one before it, was not finite."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)
        finite = loss.detach().isfinite() & norm.isfinite()
        late = loss.device.type in READ_LATE
        if late:
            self.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
        numbers = Numbers(finite)
        if not self.settle():
            return False
        self._unread = numbers
        if late or self.settle():
            self.optimizer.step()
            return True
        return False

    def settle(self) -> bool:
        """Read what is not read yet; False where that step was not finite."""
        if self._unread is None:
            return True
        (finite,), self._unread = self._unread.read(), None
        self.done += int(finite)
        return bool(finite)
