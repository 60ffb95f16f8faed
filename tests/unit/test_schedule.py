"""Learning rates by hand, epoch by epoch."""

import warnings

import pytest
import torch
from torch import nn

from nextword.config import ScheduleParams, TrainParams
from nextword.training.schedule import build_optimizer, build_scheduler

STEPS, EPOCHS, PEAK = 10, 6, 0.8


def rates(**params: object) -> list[float]:
    """The rate with which each step is taken."""
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2, 2))], TrainParams(optimizer="sgd"), PEAK)
    scheduler = build_scheduler(optimizer, ScheduleParams(**params), PEAK, STEPS, EPOCHS)["scheduler"]
    taken = []
    for _ in range(STEPS * EPOCHS):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return taken


def test_constant() -> None:
    assert rates(kind="constant") == [PEAK] * STEPS * EPOCHS


def test_decay_as_zaremba_small() -> None:
    """Four epochs at the full rate, then half of the rate before at each epoch."""
    by_epoch = rates(kind="decay", factor=0.5, decay_from_epoch=5)[::STEPS]
    assert by_epoch == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.2])


def test_one_cycle_rises_to_the_peak_and_falls() -> None:
    taken = rates(kind="one_cycle", warmup=0.2)
    top = taken.index(max(taken))
    assert max(taken) == pytest.approx(PEAK) and abs(top - 0.2 * STEPS * EPOCHS) <= 1
    assert taken[:top] == sorted(taken[:top]) and taken[top:] == sorted(taken[top:], reverse=True)
    assert taken[0] < PEAK / 10 and taken[-1] < PEAK / 1000


def test_cosine_rises_in_the_warmup_and_ends_near_zero() -> None:
    taken = rates(kind="cosine", warmup=0.1)
    assert taken[0] == pytest.approx(PEAK / 6) and max(taken) == pytest.approx(PEAK)
    half = 6 + (STEPS * EPOCHS - 6) // 2
    assert taken[half] == pytest.approx(PEAK / 2, rel=1e-6) and taken[-1] < PEAK / 100


def test_plateau_halves_after_epochs_without_gain() -> None:
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2, 2))], TrainParams(optimizer="sgd"), PEAK)
    built = build_scheduler(optimizer, ScheduleParams(kind="plateau", factor=0.5, patience=1), PEAK, STEPS, EPOCHS)
    assert built["monitor"] == "valid_nats_per_target" and built["interval"] == "epoch"
    taken = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for loss in (5.0, 4.0, 4.0, 4.0, 4.0, 4.0):
            built["scheduler"].step(loss)
            taken.append(optimizer.param_groups[0]["lr"])
    assert taken == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.2])


def test_weight_decay_falls_on_matrices_alone() -> None:
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    groups = build_optimizer(parameters, TrainParams(weight_decay=0.1), PEAK).param_groups
    assert [(group["weight_decay"], [p.dim() for p in group["params"]]) for group in groups] == [(0.1, [2]), (0.0, [1])]


@pytest.mark.parametrize("steps", range(1, 8))
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.9])
def test_one_cycle_of_few_steps(steps: int, warmup: float) -> None:
    optimizer = build_optimizer([nn.Parameter(torch.zeros(2, 2))], TrainParams(optimizer="sgd"), PEAK)
    scheduler = build_scheduler(optimizer, ScheduleParams(kind="one_cycle", warmup=warmup), PEAK, steps, 1)["scheduler"]
    taken = []
    for _ in range(steps):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert 0 < max(taken) <= PEAK * (1 + 1e-9)
