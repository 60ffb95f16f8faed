"""The plots of the comparison. Each function takes the reports and gives a figure, or None where it has no data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextword.report.collect import Neural, Reports
from nextword.report.leaderboard import Row, best_ngram
from nextword.report.ngram_plots import draw_orders, draw_sparsity, ngram_order_figure, sparsity_figure
from nextword.report.palette import INK, PAPER, Looks
from nextword.report.style import legend, log_axis, new_figure, settings
from nextword.report.tables import exp, number

__all__ = ["Plot", "draw_plots", "named", "ngram_order_figure", "sparsity_figure"]


@dataclass(frozen=True)
class Plot:
    """A figure with its file name (no suffix) and what it shows."""

    name: str
    title: str
    caption: str
    figure: Figure
    chapter: str
    """Key of :data:`nextword.report.section.CHAPTERS`."""
    sources: tuple[str, ...] = ()
    """Stages from which it came, as :func:`nextword.report.provenance.stages_of` reads them."""


@dataclass(frozen=True)
class Material:
    """What every plot is drawn from."""

    reports: Reports
    rows: list[Row]
    models: dict[str, Neural]
    """Those to draw: all, or those of one group."""
    looks: Looks
    """Of the names of models, or of their groups."""
    by_group: bool = False
    """Whether a model's colour is that of its group."""

    def key(self, name: str) -> str:
        """What gives a model its colour: its name, or its group."""
        return self.reports.params.models[name].group if self.by_group else name


Draw = Callable[[Material], Figure | None]
MOST = 3.0
"""Perplexities of more than so many times the least one leave the others no room: their axis ends there."""


def draw_plots(reports: Reports, rows: list[Row]) -> Iterator[Plot]:
    """Draw all plots that the reports have data for. Save them inside :func:`nextword.report.style.settings`."""
    groups: dict[str, dict[str, Neural]] = {}
    for name, model in reports.left_to_right.items():
        groups.setdefault(reports.params.models[name].group, {})[name] = model
    several = len(groups) > 1
    names = tuple(groups if several else reports.left_to_right)
    whole = Material(reports, rows, reports.left_to_right, Looks(names), by_group=several)
    parts = {group: Material(reports, rows, models, Looks(tuple(models))) for group, models in groups.items()}
    for chapter, name, title, caption, draw, by_group, stages in _PLOTS:
        for group, material in (parts if by_group and several else {"": whole}).items():
            with settings():
                figure = draw(material)
            if figure is not None:
                sources = [f"{s}{model}" for s in stages if s.endswith("@") for model in material.models]
                sources += [stage for stage in stages if not stage.endswith("@")]
                yield Plot(*named(name, title, group), caption, figure, chapter, tuple(sources))


def named(name: str, title: str, group: str) -> tuple[str, str]:
    """Name and title of a plot of a group of models; ``group`` is empty where it stands for none."""
    return name if group in ("", "main") else f"{name}_{group}", f"{title}: {group}" if group else title


def _leaderboard(material: Material) -> Figure | None:
    rows = [row for row in material.rows if row.family == "neural" and math.isfinite(row.rank_perplexity)][::-1]
    if not rows:
        return None
    figure, axes = new_figure(height=1.5 + (0.36 if len(rows) <= 10 else 0.28) * len(rows))
    limit = MOST * min(row.rank_perplexity for row in rows)
    clear = {"facecolor": PAPER[0], "edgecolor": "none", "pad": 1.0}
    for place, row in enumerate(rows):
        estimate = row.figure("perplexity")
        assert estimate is not None
        key = material.key(row.name)
        axes.barh(place, estimate.mean, height=0.62, color=material.looks.colour(key), alpha=0.85)
        if estimate.low is not None and estimate.high is not None:
            error = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
            axes.errorbar(estimate.mean, place, xerr=error, color=INK[0], capsize=3, linewidth=1.2)
        right = estimate.high if estimate.high is not None else estimate.mean
        reset = row.figure("perplexity", "reset")
        if row.protocol == "stateful" and reset is not None:
            label = "neural model, reset" if place == len(rows) - 1 else ""
            axes.plot(reset.mean, place, "D", markerfacecolor=PAPER[0], markeredgecolor=INK[0], label=label)
            right = max(right, reset.mean)
        beyond = estimate.mean > limit
        axes.annotate(
            number(estimate.mean, 3) + " \u2192" * beyond, (min(right, limit), place), (-48 if beyond else 7, 0),
            textcoords="offset points", va="center", bbox=clear,
        )  # fmt: skip
    for group in material.looks.names if material.by_group else ():
        axes.barh(0, 0, color=material.looks.colour(group), alpha=0.85, label=f"group {group}")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    _ngram_line(axes, material, vertical=True)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test perplexity")
    axes.margins(x=0.12)
    axes.set_xlim(0, min(axes.get_xlim()[1], 1.12 * limit))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    legend(axes, columns=1 if material.by_group else 0)
    return figure


def _learning_curve(against: str) -> Draw:
    def draw(material: Material) -> Figure | None:
        figure, axes = new_figure()
        ends = [getattr(row, against) for m in material.models.values() for r in m.runs.values() for row in r.history]
        scale, unit = _unit(max(ends, default=0)) if against == "tokens" else (1.0, "")
        title = f"tokens seen{unit}" if against == "tokens" else "training seconds"
        shown: list[float] = []
        for name, model in material.models.items():
            colour, label = material.looks.colour(name), name
            for run in model.runs.values():
                points = [(getattr(row, against) / scale, row.valid_perplexity) for row in run.history]
                points = [(x, y) for x, y in points if y is not None]
                if points:
                    xs, ys = zip(*points, strict=True)
                    style = material.looks.dash(name)
                    axes.plot(xs, ys, style, color=colour, alpha=0.8, linewidth=1.3, marker=".", label=label)
                    shown, label = [*shown, *ys], f"_{name}"
                    if run.status == "diverged":
                        axes.plot(xs[-1], ys[-1], "x", color=colour, markersize=9, markeredgewidth=2)
        axes.set_xlabel(title)
        axes.set_ylabel("valid perplexity")
        if shown:
            guess = max(min(shown), material.reports.ids["vocab_size"])
            axes.set_ylim(0.95 * min(shown), 1.05 * min(max(shown), guess))
        log_axis(axes)
        axes.set_xlim(left=0)
        legend(axes)
        return figure if shown else None

    return draw


def _ngram_orders(material: Material) -> Figure | None:
    reports = material.reports
    return draw_orders(reports.ngrams, reports.params.ngram.smoothings) if reports.ngrams else None


def _sparsity(material: Material) -> Figure | None:
    return draw_sparsity(material.reports.orders) if material.reports.orders else None


def _by_frequency(material: Material) -> Figure | None:
    """Perplexity over the n-gram model's in each bucket: the buckets lie too far apart for one axis."""
    best = best_ngram(material.reports.ngrams)
    if best is None:
        return None
    base = _buckets(material.reports.ngrams[best].splits["test"]["reset"].by_frequency)
    places = {bucket: place for place, bucket in enumerate(base)}
    figure, axes = new_figure(height=3.7)
    axes.axhline(1.0, color=INK[0], linestyle="--", linewidth=1.3, label=_readable(material, best))
    for name, model in material.models.items():
        runs = [_buckets(metrics.by_frequency) for metrics in model.metrics("test", "reset").values()]
        nats = {
            bucket: math.fsum(run[bucket] for run in runs) / len(runs) for bucket in _common(runs) if bucket in base
        }
        if nats:
            ratios = [exp(value - base[bucket]) for bucket, value in nats.items()]
            dash, colour, marker = material.looks.dash(name), material.looks.colour(name), material.looks.marker(name)
            axes.plot([places[bucket] for bucket in nats], ratios, dash, color=colour, marker=marker, label=name)
    labels = [f"{bucket}\n({number(exp(nats), 3)})" for bucket, nats in base.items()]
    axes.set_xticks(range(len(base)), labels)
    axes.set_xlabel("times the target occurs in train (perplexity of the n-gram model)")
    axes.set_ylabel("test perplexity / the n-gram model's")
    legend(axes)
    return figure if base else None


def _parameters(material: Material) -> Figure | None:
    rows = [row for row in material.rows if row.family == "neural" and row.num_parameters]
    rows = [row for row in rows if math.isfinite(row.rank_perplexity)]
    if not rows:
        return None
    figure, axes = new_figure()
    scale, unit = _unit(max(row.num_parameters or 0 for row in rows))
    frontier, labelled = _frontier(rows) if material.by_group else set(), set()
    for row in rows:
        estimate = row.figure("perplexity")
        assert estimate is not None and row.num_parameters is not None
        key = material.key(row.name)
        error = None
        if estimate.low is not None and estimate.high is not None:
            error = [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
        axes.errorbar(
            row.num_parameters / scale, estimate.mean, yerr=error, capsize=3, markersize=7, linestyle="none",
            color=material.looks.colour(key), marker=material.looks.marker(key), label="_" if key in labelled else key,
        )  # fmt: skip
        labelled.add(key)
        if row.name in frontier:
            place = (row.num_parameters / scale, estimate.mean)
            axes.annotate(row.name, place, (-6, -9), textcoords="offset points", ha="right", fontsize=8)
    _ngram_line(axes, material, vertical=False)
    axes.set_xlabel(f"parameters{unit}")
    axes.set_ylabel("test perplexity")
    axes.margins(x=0.15, y=0.12)
    least = min(row.rank_perplexity for row in rows)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0.8 * least), min(high, MOST * least))
    legend(axes)
    return figure


def _frontier(rows: list[Row]) -> set[str]:
    """Names of the models than which none as large, or larger by up to 2%, is better."""

    def beaten(row: Row) -> bool:
        assert row.num_parameters is not None
        limit = 1.02 * row.num_parameters
        return any(
            other.rank_perplexity < row.rank_perplexity and (other.num_parameters or 0) <= limit for other in rows
        )

    return {row.name for row in rows if not beaten(row)}


_SCORES = ("train@", "evaluate@", "ngram")
_PLOTS: tuple[tuple[str, str, str, str, Draw, bool, tuple[str, ...]], ...] = (
    ("models", "leaderboard", "Test perplexity",
     "Bars: mean over seeds with the t-interval, under the protocol that ranks the model. Dashed: the best n-gram "
     "model, chosen on valid, each line scored alone (reset). The axis ends at three times the least; an arrow leads "
     "beyond.", _leaderboard, False, _SCORES),
    ("models", "parameters", "Perplexity against parameters",
     "All trained parameters, embeddings included; mean over seeds with the t-interval. Where colours are groups, "
     "those models are named than which none of at most their size (and 2%) is better. Models of more than three times "
     "the least perplexity are left out.", _parameters, False, _SCORES),
    ("training", "learning_tokens", "Learning curves by tokens",
     "One line a seed; a cross marks where a seed diverged. The axis ends at a uniform guess.",
     _learning_curve("tokens"), True, ("train@",)),
    ("training", "learning_seconds", "Learning curves by time",
     "The same over the seconds spent in training.", _learning_curve("seconds"), True, ("train@",)),
    ("ngrams", "ngram_orders", "n-gram perplexity by order",
     "Unsmoothed counts (mle) give some targets of test probability zero: their perplexity is infinite, drawn hollow "
     "at the top.", _ngram_orders, False, ("ngram",)),
    ("ngrams", "sparsity", "Sparsity by order",
     "What test holds and train does not. A count of 0 after a context is probability zero for unsmoothed counts.",
     _sparsity, False, ("ngram",)),
    ("training", "frequency", "Perplexity by word frequency",
     "Targets of test in groups by how often they occur in train, each line scored alone (reset); below 1 the model is "
     "better than the best n-gram model. Mean over seeds.", _by_frequency, True, ("evaluate@", "ngram")),
)  # fmt: skip
"""Chapter, name, title, caption, how it is drawn, whether a figure a group, and the stages (of a model: ``train@``)."""


def _unit(largest: float) -> tuple[float, str]:
    """What to divide an axis by, and how its title says so."""
    for scale, name in ((1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")):
        if largest >= scale:
            return scale, name
    return 1.0, ""


def _buckets(buckets: Sequence[Any]) -> dict[str, float]:
    return {row.bucket: row.nats_per_target for row in buckets if row.nats_per_target is not None}


def _common(runs: Sequence[dict[str, float]]) -> list[str]:
    return [bucket for bucket in (runs[0] if runs else {}) if all(bucket in run for run in runs)]


def _readable(material: Material, ngram: str) -> str:
    entry = material.reports.ngrams[ngram]
    return f"{entry.smoothing.replace('_', ' ')} {entry.order}"


def _ngram_line(axes: Axes, material: Material, *, vertical: bool) -> None:
    best = best_ngram(material.reports.ngrams)
    if best is None:
        return
    value = material.reports.ngrams[best].splits["test"]["reset"].perplexity
    if value is not None:
        line = axes.axvline if vertical else axes.axhline
        line(
            value, color=INK[0], linestyle="--", linewidth=1.3, label=f"{_readable(material, best)}: {number(value, 3)}"
        )
