"""Learning curves: when a model reached a loss, and what it had reached by a time.

Between two validations the logarithm of the best perplexity so far is taken to change evenly with time; before the
first, from that of a uniform guess on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

from nextword.report.collect import Neural
from nextword.report.schema import TrainRun


def best_so_far(run: TrainRun, chance: float) -> list[tuple[float, float]]:
    """(seconds, logarithm of the best valid perplexity so far), from a uniform guess at 0 seconds on."""
    scored = [(epoch.seconds, math.log(epoch.valid_perplexity)) for epoch in run.history if epoch.valid_perplexity]
    times, losses = zip((0.0, chance), *scored, strict=True)
    return list(zip(times, accumulate(losses, min), strict=True))


def first_seconds(run: TrainRun, target: float, chance: float) -> float | None:
    """When the best logarithm of valid perplexity came down to ``target``; None where it never did."""
    for (start, high), (end, low) in pairwise(best_so_far(run, chance)):
        if low <= target < high:
            return start + (end - start) * (high - target) / (high - low)
    return None


def loss_at(run: TrainRun, seconds: float, chance: float) -> float:
    """Logarithm of the best valid perplexity by ``seconds``."""
    curve = best_so_far(run, chance)
    for (start, high), (end, low) in pairwise(curve):
        if start <= seconds <= end and end > start:
            return high + (low - high) * (seconds - start) / (end - start)
    return curve[-1][1]


def reachable(models: Sequence[Neural]) -> dict[int, float]:
    """By seed that all models finished: the lowest logarithm of valid perplexity that each of them reached."""
    best = {seed: [_best(model, seed) for model in models] for seed in _common(models)}
    return {seed: max(values) for seed, values in best.items() if max(values) < math.inf}


def shortest(models: Sequence[Neural]) -> dict[int, float]:
    """By seed that all models finished: the seconds after which the first of them was through."""
    last = {seed: [model.runs[seed].history[-1:] for model in models] for seed in _common(models)}
    return {seed: min(rows[0].seconds for rows in ends) for seed, ends in last.items() if all(ends)}


def _best(model: Neural, seed: int) -> float:
    return min((math.log(row.valid_perplexity) for row in model.runs[seed].history if row.valid_perplexity),
               default=math.inf)  # fmt: skip


def _common(models: Sequence[Neural]) -> list[int]:
    through = [model.finished for model in models if model.finished]  # one that always diverged reaches nothing
    return [seed for seed in (through[0] if through else ()) if all(seed in seeds for seeds in through)]
