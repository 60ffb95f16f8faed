"""Tables of the memory tasks and of the cures for vanishing gradients."""

from __future__ import annotations

from typing import Any

from nextword.report.probes.cells import (
    flat_half_life,
    flat_interval,
    flat_proportion,
    half_life_cell,
    halving_cell,
    interval_cell,
    missing_cell,
    section,
    short,
)
from nextword.report.probes.experiments import MemoryFile, MemoryTask, MemoryVariant
from nextword.report.section import Section
from nextword.report.tables import Cell, Table, count, interval, percent

TASKS = {
    "copy": "copy",
    "adding": "adding problem",
    "temporal_order": "temporal order",
    "brackets": "bracket agreement",
}
"""Readable names."""


def memory_sections(report: MemoryFile) -> list[Section]:
    """Longest lags solved, and how far gradients reach."""
    return [
        section("memory", "memory", _lag_table(report), _lag_records(report)),
        section("memory", "cures", _cure_table(report), _cure_records(report)),
    ]


def memory_sentences(report: MemoryFile) -> list[str]:
    """The variant that remembers longest on each task, and the plain one."""
    parts = []
    for name, task in report.tasks.items():
        best = max((v.longest_lag.all_seeds for v in task.variants.values()), default=0)
        first = [v.label for v in task.variants.values() if v.longest_lag.all_seeds == best > 0]
        parts.append(
            f"{TASKS.get(name, name)} {best}: {' / '.join(first)}" if first else f"{TASKS.get(name, name)}: none"
        )
    return [f"Longest lag that all seeds solved, by task, and who did: {'; '.join(parts)}."] if parts else []


def variant_names(report: MemoryFile) -> dict[str, str]:
    """Label of every variant by its name."""
    return {name: variant.label for task in report.tasks.values() for name, variant in task.variants.items()}


def _lag_table(report: MemoryFile) -> Table:
    labels = variant_names(report)
    best = {
        name: max((v.longest_lag.all_seeds for v in task.variants.values()), default=0)
        for name, task in report.tasks.items()
    }
    rows = tuple(
        (
            Cell(label),
            *(_lag_cell(task.variants.get(name), best[task_name]) for task_name, task in report.tasks.items()),
        )
        for name, label in labels.items()
    )
    headings = ("network", *(TASKS.get(name, name) for name in report.tasks))
    return Table("Memory: longest lag solved", headings, rows, _lag_notes(report))


def _lag_cell(variant: MemoryVariant | None, best: int) -> Cell:
    """The longest lag that all seeds solved, and the success at the next one."""
    if variant is None:
        return missing_cell()
    longest = variant.longest_lag.all_seeds
    beyond = next((s for s in variant.success if s.lag > longest), None)
    under = ""
    if beyond is not None:
        under = f"(at {beyond.lag}: {beyond.count} of {beyond.of} {interval(beyond.low, beyond.high, percent)})"
    return Cell(count(longest) if longest else "none", under, bold=longest == best > 0, number=True)


def _lag_notes(report: MemoryFile) -> tuple[str, ...]:
    rates = ", ".join(f"{rate:g}" for rate in report.learning_rates)
    chances = "; ".join(
        f"{TASKS.get(name, name)} {_criterion(task)}, chance {short(task.chance.metric)}"
        for name, task in report.tasks.items()
    )
    return (
        f"The longest lag that all {len(report.seeds)} seeds solved, of {', '.join(map(str, report.lags))}; below it "
        "how many seeds solved the next one, with Wilson's 95% interval (Wilson 1927). A lag counts as solved where "
        "all shorter ones are. Bold: the longest of a task.",
        f"The same budget for each network: H = {report.hidden_size} in every layer (for one LSTM, the H with which it "
        f"has about the GRU's number of parameters), {report.steps} updates a lag and seed with {report.batch_size} "
        "fresh sequences each (fewer where the lag is solved before), Adam with clipped "
        f"gradients, learning rates {rates} tried with the first seed and the one that got furthest taken for all.",
        f"Solved: {chances} (the best answer without memory). Copy, adding problem and temporal order are of "
        "Hochreiter & Schmidhuber (1997), the last two as in Le, Jaitly & Hinton (2015) and Pascanu, Mikolov & "
        "Bengio (2013); bracket agreement is Linzen, Dupoux & Goldberg's (2016) agreement at a distance as a Dyck "
        "language. The lag is in blank steps for copy, in steps between the brackets for bracket agreement, else the "
        "length of the sequence.",
    )


def _criterion(task: MemoryTask) -> str:
    if task.metric == "accuracy":
        return f"accuracy at least {task.criterion:.0%}"
    return f"{task.metric.replace('_', ' ')} below {task.criterion:g}"


def _cure_table(report: MemoryFile) -> Table:
    longest = max(report.lags)
    body: list[tuple[Cell | None, ...]] = []
    for name, label in variant_names(report).items():
        of_tasks = [
            (task_name, task.variants[name]) for task_name, task in report.tasks.items() if name in task.variants
        ]
        for place, (task_name, variant) in enumerate(of_tasks):
            initial, trained = variant.flow.initial, variant.flow.trained
            body.append((
                Cell(label, bold=True, rows=len(of_tasks)) if place == 0 else None,
                Cell(TASKS.get(task_name, task_name)),
                half_life_cell(initial.half_life, longest),
                half_life_cell(trained.half_life, longest),
                halving_cell(initial.half_life),
                halving_cell(trained.half_life),
                interval_cell(initial.growth),
                interval_cell(trained.growth),
                Cell(count(variant.num_parameters), number=True),
            ))  # fmt: skip
    headings = (
        "network",
        "task",
        "half-life at the start",
        "half-life, trained",
        "halves in, at the start",
        "halves in, trained",
        "growth a step, at the start",
        "growth a step, trained",
        "parameters",
    )
    return Table("Cures for vanishing gradients", headings, tuple(body), _cure_notes(report))


def _cure_notes(report: MemoryFile) -> tuple[str, ...]:
    return (
        "Spectral norm of d y_T / d S_k on the tasks' own sequences of the longest lag, exact in float64: what the "
        "stack hands on at the last step, its connection across layers included, by the states of all layers after "
        "step k. Trained: the network of the longest lag it solved, else of the first. Medians over sequences of all "
        "seeds.",
        "Half-life: steps back to half of the norm at lag 0; halves in: steps in which it halves on average after "
        "the first one; both with the 95% percentile interval over resampled sequences. Growth: factor of the norm "
        "from one step to the next by least squares, mean over seeds with the 95% t-interval; below 1 it vanishes, "
        f"above 1 it explodes. {len(report.seeds)} seeds; equal hidden size but for one LSTM, so the numbers of "
        "parameters differ.",
        "Cures of the notes: ReLU; an identity recurrent matrix (Le, Jaitly & Hinton 2015); a residual through time, "
        "h_t = F(h_{t-1}, x_t) + h_{t-1}; residual and highway connections across two layers, beside a plain "
        "stack of two; LSTM and GRU.",
    )


def _lag_records(report: MemoryFile) -> list[dict[str, Any]]:
    """One record a task, variant and lag."""
    return [
        {"task": task_name, "variant": name, "label": variant.label, "learning_rate": variant.learning_rate}
        | {"longest_lag_all_seeds": variant.longest_lag.all_seeds, "longest_lag_any_seed": variant.longest_lag.any_seed}
        | {"lag": success.lag}
        | flat_proportion("success", success)
        for task_name, task in report.tasks.items()
        for name, variant in task.variants.items()
        for success in variant.success
    ]


def _cure_records(report: MemoryFile) -> list[dict[str, Any]]:
    """One record a task, variant and weights."""
    return [
        {"task": task_name, "variant": name, "label": variant.label, "num_parameters": variant.num_parameters}
        | {"weights": weights, "num_sequences": flow.num_sequences}
        | flat_half_life("half_life", flow.half_life)
        | flat_interval("growth", flow.growth)
        for task_name, task in report.tasks.items()
        for name, variant in task.variants.items()
        for weights, flow in (("initial", variant.flow.initial), ("trained", variant.flow.trained))
    ]
