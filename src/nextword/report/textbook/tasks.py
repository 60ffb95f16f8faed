"""The memory tasks as evidence. Every seed runs every task, so the two are crossed: neither is counted twice.

Shapes: S seeds, T tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nextword.evaluation.bootstrap import Crossed, crossed_difference
from nextword.evaluation.statistics import Estimate, at_least
from nextword.report.finding import Claim, Finding, Reading, Side
from nextword.report.probes.experiments import MemoryFile, MemoryVariant
from nextword.report.textbook.evidence import Evidence, measured

Floats = NDArray[np.float64]
HALF = 0.5
"""The level against which a share of tasks solved is set."""


def by_task(
    report: MemoryFile, names: Sequence[str], values: Callable[[MemoryVariant], Sequence[float]]
) -> list[Floats] | None:
    """(S, T) of each network, of the tasks for which all of them have a finite value of every seed.

    Args:
        report: of the memory stage.
        names: of networks.
        values: of a network on a task, one a seed.

    Returns:
        None without such a task.
    """
    variants = [[task.variants[name] for name in names] for task in report.tasks.values()
                if all(name in task.variants for name in names)]  # fmt: skip
    found = np.array([[values(variant) for variant in of_task] for of_task in variants], dtype=np.float64)
    found = found[np.isfinite(found).all(axis=(1, 2))] if found.size else found
    return [found[:, number].T for number in range(len(names))] if found.size else None


def lags_solved(lags: Sequence[int]) -> Callable[[MemoryVariant], list[float]]:
    """How many of the lags each seed solved."""
    return lambda variant: [float(sum(lag <= reached for lag in lags)) for reached in variant.longest_lag.by_seed]


def log_growth(weights: Literal["initial", "trained"]) -> Callable[[MemoryVariant], list[float]]:
    """Logarithm of the factor by which the gradient's norm grows a step, by seed; infinite where it has none."""

    def growth(variant: MemoryVariant) -> list[float]:
        flow = variant.flow.initial if weights == "initial" else variant.flow.trained
        return [math.log(factor) if factor else math.inf for factor in flow.growth.by_seed]

    return growth


def across_tasks(
    evidence: Evidence, a_ST: Floats, b_ST: Floats, *, step: float = 0.0, b_exact: bool = False
) -> Crossed:
    """Mean difference over other tasks and other seeds; at least ``step`` to either side.

    Args:
        evidence: for the confidence.
        a_ST: (S, T) of one network; seeds of the two sides are draws of their own, tasks are paired.
        b_ST: the same of the other, or (1, T) where ``b_exact``.
        step: of the scale, where values are counts: equal ones are not known to be equal more closely than that.
        b_exact: ``b`` is known.
    """
    rule = evidence.reports.params.compare
    sizes_T = np.ones(a_ST.shape[1])
    gap = crossed_difference(a_ST, b_ST, sizes_T, rule.confidence, rule.resamples, b_exact=b_exact)
    return at_least(gap, step)


def longest_lag_finding(evidence: Evidence, key: str, claim: Claim, name: str, reading: Reading) -> Finding | None:
    """Share of tasks and seeds in which a network solves the longest lag, against half of them.

    The smallest step is a task more or less, for all seeds: 1 / T.

    Returns:
        None where the memory stage did not run the network.
    """
    report = evidence.reports.probes.memory
    longest = max(report.lags)
    sides = by_task(
        report, [name], lambda variant: [float(reached >= longest) for reached in variant.longest_lag.by_seed]
    )
    if sides is None:
        return None
    hits_ST = sides[0]
    level_ST = np.full((1, hits_ST.shape[1]), HALF)
    gap = across_tasks(evidence, hits_ST, level_ST, step=1.0 / hits_ST.shape[1], b_exact=True)
    label = next(task.variants[name].label for task in report.tasks.values() if name in task.variants)
    return measured(
        key, claim, f"share of {hits_ST.shape[1]} memory tasks and {len(hits_ST)} seeds that solve a lag of {longest}",
        Side(label, average(hits_ST)), Side("half", average(level_ST)), reading, gap, ("memory",),
        condition="tasks crossed with seeds", note="read as: fewer than half",
    )  # fmt: skip


def average(values_ST: Floats) -> Estimate:
    """Mean over tasks and seeds, without an interval: that of the difference decides."""
    return Estimate(float(values_ST.mean()), None, None, values_ST.size)


def geometric(logarithms_ST: Floats) -> Estimate:
    """The same of logarithms, taken back."""
    return Estimate(math.exp(float(logarithms_ST.mean())), None, None, logarithms_ST.size)
