"""What the search of learning rate and dropout found, and what a search of another size would have."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nextword.evaluation.search import expected_best
from nextword.report.collect import Reports
from nextword.report.palette import Looks
from nextword.report.plots import Plot
from nextword.report.schema import TuneBudget, TuneFile
from nextword.report.section import Section
from nextword.report.style import legend, log2_axis, log_axis, new_figure, settings
from nextword.report.tables import DASH, Cell, Table, count, exp, number

_SIZES = (1, 2, 4, 8)
"""Sizes of search that the table tells of."""
_EDGE = 0.1
"""Share of the range of learning rates, on logarithms, at either end, in which the best tells of a narrow range."""
_ABOUT = (
    "Expected best of n: mean over all choices of n of the trials, of the logarithm of perplexity (order statistics "
    "without replacement: Dodge et al. 2019, as corrected by Tang et al. 2020)."
)


def tuning_section(reports: Reports) -> Section | None:
    """Budget, best settings and expected best, a row a searched model; None where none was searched."""
    searched = _searched(reports)
    if not searched:
        return None
    trees = {name: _tree(file, budget) for name, (file, budget) in searched.items()}
    records = [
        {key: value for key, value in tree.items() if key != "expected_best"}
        | {f"expected_best_of_{size}": tree["expected_best"].get(size) for size in _SIZES}
        for tree in trees.values()
    ]
    table = _table(reports, searched, trees)
    return Section("tuning", table, records, {"models": trees}, "training", _sources(searched))


def tuning_plots(reports: Reports) -> Iterator[Plot]:
    """Expected best valid perplexity against trials, and valid perplexity against learning rate."""
    searched = _searched(reports)
    drawable = {name: file for name, (file, _) in searched.items() if any(map(math.isfinite, file.values_at(0)))}
    if not drawable:
        return
    looks = Looks(tuple(searched))
    tokens = count(next(iter(searched.values()))[1].tokens_by_rung[0])
    about = f"Every trial trained on {tokens} tokens: the first rung, where all have the same and none was chosen. "
    yield Plot(
        "tuning_expected", "Expected valid perplexity against trials of the search", about + _ABOUT,
        _expected(drawable, looks), "training", _sources(drawable),
    )  # fmt: skip
    yield Plot(
        "tuning_trials", "Valid perplexity against learning rate",
        about + "A dot a trial, larger with more dropout; those that diverged are left out. The line marks the "
        "learning rate that was taken.",
        _trials(drawable, looks), "training", _sources(drawable),
    )  # fmt: skip


def _searched(reports: Reports) -> dict[str, tuple[TuneFile, TuneBudget]]:
    return {name: (file, file.budget) for name, file in reports.tuning.items() if file.budget is not None}


def _sources(names: Any) -> tuple[str, ...]:
    return tuple(f"tune@{name}" for name in names)


def _tree(file: TuneFile, budget: TuneBudget) -> dict[str, Any]:
    first, last = file.values_at(0), file.values_at(len(budget.tokens_by_rung) - 1)
    return {
        "model": file.model,
        "trials": budget.trials,
        "tokens_first": budget.tokens_by_rung[0],
        "tokens_last": budget.tokens_by_rung[-1],
        "tokens_in_all": budget.tokens_in_all,
        "diverged": sum(math.isinf(rung.log_perplexity) for trial in file.trials for rung in trial.rungs),
        "learning_rate": file.settings.get("learning_rate"),
        "dropout": file.settings.get("dropout"),
        "valid_perplexity": exp(min(last)),
        "expected_best": {size: exp(expected_best(first, size)) for size in _SIZES if size <= len(first)},
    }


def _table(
    reports: Reports, searched: dict[str, tuple[TuneFile, TuneBudget]], trees: dict[str, dict[str, Any]]
) -> Table:
    sizes = [size for size in _SIZES if any(size in tree["expected_best"] for tree in trees.values())]
    headings = (
        "model", "trials", "tokens a trial", "tokens in all", "learning rate", "dropout", "valid perplexity",
        *(f"expected best of {size}" for size in sizes),
    )  # fmt: skip
    rows = []
    for name, tree in trees.items():
        budget = searched[name][1]
        rows.append((
            Cell(name),
            Cell(count(tree["trials"]), number=True),
            Cell(", ".join(map(count, budget.tokens_by_rung)), number=True),
            Cell(count(tree["tokens_in_all"]), number=True),
            Cell(number(tree["learning_rate"], 3), number=True),
            Cell(DASH if tree["dropout"] is None else f"{tree['dropout']:.3f}", number=True),
            Cell(number(tree["valid_perplexity"]), number=True),
            *(Cell(number(tree["expected_best"].get(size)), number=True) for size in sizes),
        ))  # fmt: skip
    return Table("Search of learning rate and dropout", headings, tuple(rows), _notes(reports, trees))


def _notes(reports: Reports, trees: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    tune = reports.params.tune
    (low, high), (least, most) = tune.learning_rate, tune.dropout
    notes = [
        f"The same {count(tune.trials)} draws for every model: learning rate log-uniform in [{low:g}, {high:g}], "
        f"dropout uniform in [{least:g}, {most:g}], seed {tune.seed}. Successive halving: the better half is trained "
        "anew on twice the tokens. The lowest loss on valid (stateful) of the last rung is taken; its perplexity here "
        "is that of the search, not of the final training, which is longer.",
        f"{_ABOUT} At the first rung.",
    ]
    if diverged := [f"{tree['diverged']} of {name}" for name, tree in trees.items() if tree["diverged"]]:
        notes.append(f"Trainings that diverged, counted as infinite: {', '.join(diverged)}.")
    if lost := [name for name, tree in trees.items() if tree["learning_rate"] is None]:
        notes.append(f"Every setting diverged, so params.yaml's own are kept: {', '.join(lost)}.")
    if at_edge := [name for name, tree in trees.items() if _at_edge(tree["learning_rate"], low, high)]:
        notes.append(
            f"The learning rate taken lies in the outer {_EDGE:.0%} of its range, so a better one may lie beyond: "
            f"{', '.join(at_edge)}."
        )
    if others := [name for name, file in reports.tuning.items() if not file.searched]:
        notes.append(f"With the settings of params.yaml, not searched: {', '.join(others)}.")
    return tuple(notes)


def _at_edge(rate: float | None, low: float, high: float) -> bool:
    if rate is None or low == high:
        return False
    place = math.log(rate / low) / math.log(high / low)
    return min(place, 1 - place) < _EDGE


def _expected(files: dict[str, TuneFile], looks: Looks) -> Figure:
    with settings():
        figure, axes = new_figure()
        most = 1
        for name, file in files.items():
            values = file.values_at(0)
            points = [(size, exp(expected_best(values, size))) for size in range(1, len(values) + 1)]
            points = [(size, value) for size, value in points if math.isfinite(value)]
            most = max(most, len(values))
            xs, ys = zip(*points, strict=True)
            every = max(1, len(points) // 8)
            axes.plot(xs, ys, color=looks.colour(name), marker=looks.marker(name), markevery=every, label=name)
        log2_axis(axes, [2**power for power in range(most.bit_length())])
        axes.set_xlabel("trials")
        axes.set_ylabel("expected valid perplexity of the best")
        log_axis(axes)
        legend(axes)
    return figure


def _trials(files: dict[str, TuneFile], looks: Looks) -> Figure:
    with settings():
        figure, axes = new_figure()
        rates: list[float] = []
        for name, file in files.items():
            colour = looks.colour(name)
            dots = [(t.learning_rate, exp(t.rungs[0].log_perplexity), 12 + 120 * t.dropout) for t in file.trials]
            xs, ys, sizes = zip(*(dot for dot in dots if math.isfinite(dot[1])), strict=True)
            axes.scatter(xs, ys, sizes, color=colour, marker=looks.marker(name), alpha=0.75, label=name)
            if "learning_rate" in file.settings:
                axes.axvline(file.settings["learning_rate"], color=colour, linewidth=1.0, linestyle=":")
            rates += xs
        axes.set_xscale("log")
        axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)
        ticks = [step * 10.0**power for power in range(-7, 3) for step in (1, 2, 5)]
        axes.xaxis.set_major_locator(
            FixedLocator([tick for tick in ticks if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("peak learning rate")
        axes.set_ylabel("valid perplexity")
        log_axis(axes)
        legend(axes)
    return figure
