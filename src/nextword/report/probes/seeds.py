"""Figures of the probes by seed: what claims about models are decided on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from nextword.report.collect import Reports
from nextword.report.probes.schema import Context, Gradients

Part = TypeVar("Part")
Values = Mapping[int, float]
"""By seed."""


def gradients_by_seed(reports: Reports, name: str) -> dict[int, Gradients]:
    """Of the finished seeds of a model; empty where it has none, or carries no state."""
    probe, finished = reports.probes.models[name], reports.neural[name].finished
    return {one.seed: one.gradients for one in probe.seeds if one.gradients is not None and one.seed in finished}


def contexts_by_seed(reports: Reports, name: str) -> dict[int, Context]:
    """Of the finished seeds of a model; empty where it has none, or is not read from left to right."""
    probe, finished = reports.probes.models[name], reports.neural[name].finished
    return {one.seed: one.context for one in probe.seeds if one.context is not None and one.seed in finished}


def figures(found: Mapping[int, Part], figure: Callable[[Part], float | None]) -> dict[int, float]:
    """A figure of each seed; infinite where its report has ``null``."""
    values = {seed: figure(part) for seed, part in found.items()}
    return {seed: math.inf if value is None else value for seed, value in values.items()}


def stack_growth(gradients: Gradients) -> float | None:
    """Factor of the norm of d h_t / d S_k a token, trained."""
    return gradients.trained.stack.growth


def far_worth(context: Context) -> float | None:
    """Nats a target that the words beyond the longest length are worth."""
    return max(context.truncated, key=lambda row: row.length).increase.mean
