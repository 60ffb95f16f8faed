"""One variant on one task: lag after lag, each from fresh weights, until one is not solved.

Shapes: T time steps, B sequences, I input size, W width of the stack, A answers, C outputs.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from nextword.config import MemoryParams
from nextword.models.stack import RecurrentStack
from nextword.probes.memory.flow import gradient_norms
from nextword.probes.memory.tasks import TASKS, Batch, Task
from nextword.probes.memory.variants import VARIANTS

CLIP_NORM = 1.0
"""Gradients of a larger norm are scaled down to it."""
CHECK_STEPS = 20
"""A run is checked after each so many updates, on fresh sequences where the last batches meet the criterion."""
EVALUATION_SEQUENCES = 1000
"""Fresh sequences of every evaluation."""
FLOW_SEQUENCES = 4
"""Sequences on which the gradient is measured."""


class Reader(nn.Module):
    """A recurrent stack with a linear read-out of its last steps.

    Args:
        variant: name in ``VARIANTS``.
        task: what it reads and answers.
        hidden_size: H of every layer.
    """

    def __init__(self, variant: str, task: Task, hidden_size: int) -> None:
        super().__init__()
        self.stack = RecurrentStack(VARIANTS[variant].params(task.num_inputs, hidden_size))
        self.stack.initialize()
        self.output = nn.Linear(self.stack.width, task.num_outputs)

    def forward(self, x_TBI: Tensor, answers: int) -> Tensor:
        """What it says at the last ``answers`` steps, (A, B, C)."""
        read = self.stack(x_TBI, self.stack.zero_state(x_TBI.shape[1]))
        return cast(Tensor, self.output(read.y_TBW[-answers:]))


def train_variant(
    params: MemoryParams, task_name: str, variant: str, learning_rate: float, seed: int
) -> dict[str, Any]:
    """Train ``variant`` on ``task_name`` at rising lags.

    A seed fixes the initialisation, and the sequences of a task at a lag: those are the same for every variant.

    Returns:
        ``runs`` by lag (see :func:`train`); ``longest_lag``, 0 where none was solved; ``num_parameters``; ``flow``: the
        gradient norms (lags, sequences) on sequences of the longest lag, ``initial``, and ``trained`` of the network
        of the longest lag solved, or else of the first.
    """
    task = TASKS[task_name]
    runs: list[dict[str, Any]] = []
    kept: Reader | None = None
    for lag in params.lags:
        model = fresh(params, task, variant, seed)
        random = np.random.default_rng([seed, list(TASKS).index(task_name), lag])
        run = train(model, task, lag, learning_rate, random, params)
        runs.append({"lag": lag, **run})
        if kept is None or run["solved"]:
            kept = model
        if not run["solved"]:
            break
    assert kept is not None
    random = np.random.default_rng([seed, list(TASKS).index(task_name)])
    x_TBI = task.draw(random, max(params.lags), FLOW_SEQUENCES).x_TBI
    flow = {
        "initial": gradient_norms(fresh(params, task, variant, seed).stack, x_TBI),
        "trained": gradient_norms(kept.stack, x_TBI),
    }
    longest = max((run["lag"] for run in runs if run["solved"]), default=0)
    return {
        "runs": runs,
        "longest_lag": longest,
        "num_parameters": sum(p.numel() for p in kept.parameters()),
        "flow": flow,
    }


def fresh(params: MemoryParams, task: Task, variant: str, seed: int) -> Reader:
    """An untrained network; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reader(variant, task, params.hidden_size)


def train(
    model: Reader, task: Task, lag: int, learning_rate: float, random: np.random.Generator, params: MemoryParams
) -> dict[str, Any]:
    """Train at one lag with Adam and clipped gradients, no longer than until it is solved.

    Returns:
        ``solved``; ``steps``, updates made; ``loss`` and ``metric`` on fresh sequences; ``diverged``, whether loss or
        gradient became infinite or not a number, which ends the run before the update.
    """
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    recent: list[float] = []
    loss, value, step, diverged = math.inf, math.nan, 0, False
    while step < params.steps:
        batch = task.draw(random, lag, params.batch_size)
        output = model(batch.x_TBI, len(batch.answer_AB))
        error = task.loss(output, batch.answer_AB)
        optimizer.zero_grad()
        error.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM))
        if not math.isfinite(float(error.detach()) + norm):
            diverged = True
            break
        optimizer.step()
        step += 1
        recent.append(task.measure(output.detach(), batch.answer_AB))
        last = step == params.steps
        if last or (step % CHECK_STEPS == 0 and task.solved(float(np.mean(recent[-CHECK_STEPS:])))):
            loss, value = evaluate(model, task, task.draw(random, lag, EVALUATION_SEQUENCES))
            if task.solved(value):
                break
    solved = not diverged and task.solved(value)
    return {
        "solved": solved,
        "steps": step,
        "loss": loss if math.isfinite(loss) else None,
        "metric": value if math.isfinite(value) else None,
        "diverged": diverged or not math.isfinite(loss),
    }


@torch.inference_mode()
def evaluate(model: Reader, task: Task, batch: Batch) -> tuple[float, float]:
    """Loss and metric on a batch."""
    output = model(batch.x_TBI, len(batch.answer_AB))
    return float(task.loss(output, batch.answer_AB)), task.measure(output, batch.answer_AB)
