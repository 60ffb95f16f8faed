"""How often a run saves itself, and how often its processes agree on it."""

import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nextword.training import checkpoint
from nextword.training.checkpoint import AGREE_STEPS, Agreement, Checkpoints


@pytest.mark.parametrize(("seconds", "save_seconds", "interval"), [(20.0, 3.0, 150.0), (20.0, 0.1, 20.0), (0, 3.0, 0)])
def test_slow_checkpoints_are_rare(
    seconds: float, save_seconds: float, interval: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    saves = []

    def save(path: Path) -> None:
        clock[0] += save_seconds
        saves.append(clock[0])

    trainer: Any = SimpleNamespace(
        num_training_batches=10_000, accumulate_grad_batches=1, world_size=1, save_checkpoint=save
    )
    checkpoints = Checkpoints(tmp_path, "same", seconds)
    for step in range(1000):
        clock[0] += 1.0
        checkpoints.on_train_batch_end(trainer, None, None, None, step)
    assert saves[0] == pytest.approx(max(1.0, seconds) + save_seconds)
    gaps = {round(later - save_seconds - earlier, 6) for earlier, later in pairwise(saves)}
    assert len(saves) > 2 and max(1.0, interval) <= min(gaps) and max(gaps) <= max(1.0, interval) + 1.0  # a step


@pytest.mark.parametrize(("step_seconds", "asked_every"), [(0.001, AGREE_STEPS), (0.19, 5), (3.0, 1)])
def test_processes_agree_about_once_a_second(
    step_seconds: float, asked_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda wishes, op: asked.append(wishes.tolist()))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(accumulate_grad_batches=2, world_size=2, strategy=strategy)
    agree, answers = checkpoint.Agreement(), []
    for batch in range(400):
        clock[0] += step_seconds / 2
        answers.append(agree(trainer, batch, True, False))
    steps = [batch // 2 for batch, answer in enumerate(answers) if answer[0]]
    assert len(asked) == len(steps) and all(not second for _, second in answers)
    assert {b - a for a, b in pairwise(steps[1:])} == {asked_every}


def test_the_answer_is_that_of_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_process_wants_the_second(wishes: torch.Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MAX
        wishes[1] = 1.0

    monkeypatch.setattr(torch.distributed, "all_reduce", other_process_wants_the_second)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer: Any = SimpleNamespace(accumulate_grad_batches=1, world_size=2, strategy=strategy)
    assert Agreement()(trainer, 0, False, False, True) == [False, True, True]
