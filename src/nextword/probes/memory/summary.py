"""All variants on all tasks."""

from __future__ import annotations

import math
from typing import Any

from nextword.config import MemoryParams
from nextword.pool import run_jobs
from nextword.probes.memory.flow import summarize_flow
from nextword.probes.memory.tasks import TASKS
from nextword.probes.memory.training import train_variant
from nextword.probes.memory.variants import VARIANTS
from nextword.probes.proportion import proportion
from nextword.stage import Progress

Chain = dict[str, Any]
"""What :func:`train_variant` returns."""


def memory_tasks(params: MemoryParams, workers: int = 1, progress: Progress | None = None) -> dict[str, Any]:
    """Train every variant on every task at the same budget: updates, tries of the learning rate, sequences.

    The first seed tries all learning rates; the one with the longest lag solved (among equals, the least loss on its
    last lag) is taken for all seeds. A lag counts as solved by a seed where it and all shorter ones are.

    Args:
        params: tasks, lags, sizes, budget.
        workers: processes, one thread each; the results do not depend on their number.
        progress: called with the number of trainings done and of all.

    Returns:
        The budget (``lags``, ``hidden_size``, ``batch_size``, ``steps``, ``learning_rates``, ``seeds``), and ``tasks``
        by name: ``metric``, ``criterion``, ``chance`` (``loss``, ``metric``) and ``variants`` by name:

        - ``label``, ``keys`` (of ModelParams), ``num_parameters``, ``learning_rate``;
        - ``tries``: ``learning_rate``, ``longest_lag``, ``loss`` (of its last lag) of the first seed;
        - ``longest_lag``: ``by_seed``, ``all_seeds``, ``any_seed`` (0 where no lag was solved);
        - ``success``: ``lag``, ``count``, ``of``, ``rate``, ``low``, ``high`` (Wilson) for every lag;
        - ``runs``: ``seed``, ``lag``, ``solved``, ``steps``, ``loss``, ``metric``, ``diverged`` of every lag trained;
        - ``flow``: ``initial`` and ``trained``, see :func:`nextword.probes.memory.flow.summarize_flow`.
    """
    cells = [(task, variant) for task in params.tasks for variant in VARIANTS]
    first, *others = params.seeds
    tries = [(*cell, rate) for cell in cells for rate in params.learning_rates]
    total = len(tries) + len(cells) * len(others)

    def report(start: int) -> Progress:
        return lambda done, _: progress(start + done, total) if progress is not None else None

    found = run_jobs(train_variant, [(params, *one, first) for one in tries], workers, report(0))
    chains = dict(zip(tries, found, strict=True))
    best = {cell: max(params.learning_rates, key=lambda rate: _reach(chains[*cell, rate])) for cell in cells}
    jobs = [(params, *cell, best[cell], seed) for cell in cells for seed in others]
    more = iter(run_jobs(train_variant, jobs, workers, report(len(tries))))
    tasks: dict[str, Any] = {name: _describe(name) | {"variants": {}} for name in params.tasks}
    for task, variant in cells:
        rate = best[task, variant]
        of_rates = {rate: chains[task, variant, rate] for rate in params.learning_rates}
        by_seed = [of_rates[rate], *(next(more) for _ in others)]
        tasks[task]["variants"][variant] = _summarize(params, variant, rate, of_rates, by_seed)
    budget = params.model_dump(mode="json", exclude={"tasks"})
    return budget | {"tasks": tasks}


def _describe(name: str) -> dict[str, Any]:
    task = TASKS[name]
    return {"metric": task.metric, "criterion": task.criterion, "chance": task.chance()}


def _reach(chain: Chain) -> tuple[int, float]:
    loss = chain["runs"][-1]["loss"]
    return chain["longest_lag"], -math.inf if loss is None else -loss


def _summarize(
    params: MemoryParams, variant: str, rate: float, of_rates: dict[float, Chain], by_seed: list[Chain]
) -> dict[str, Any]:
    longest = [chain["longest_lag"] for chain in by_seed]
    return {
        "label": VARIANTS[variant].label,
        "keys": VARIANTS[variant].keys,
        "num_parameters": by_seed[0]["num_parameters"],
        "learning_rate": rate,
        "tries": [
            {"learning_rate": tried, "longest_lag": chain["longest_lag"], "loss": chain["runs"][-1]["loss"]}
            for tried, chain in of_rates.items()
        ],
        "longest_lag": {"by_seed": longest, "all_seeds": min(longest), "any_seed": max(longest)},
        "success": [
            {"lag": lag, **proportion(sum(lag <= reached for reached in longest), len(longest))} for lag in params.lags
        ],
        "runs": [
            {"seed": seed, **run} for seed, chain in zip(params.seeds, by_seed, strict=True) for run in chain["runs"]
        ],
        "flow": {
            weights: summarize_flow([chain["flow"][weights] for chain in by_seed]) for weights in ("initial", "trained")
        },
    }
