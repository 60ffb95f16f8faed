"""Plots of the use of context."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextword.report.collect import Reports
from nextword.report.palette import INK, Looks
from nextword.report.plots import Plot, named
from nextword.report.probes.context import TREATMENTS
from nextword.report.probes.schema import Context, Treated
from nextword.report.style import figure_legend, legend, log2_axis, new_figure, new_panels, settings


def context_plots(reports: Reports) -> Iterator[Plot]:
    """Loss with the context cut off, for each group; with the far part shuffled or thinned out, for the first group."""
    groups: dict[str, dict[str, Context]] = {}
    chance: dict[str, list[str]] = {}
    for name, probe in reports.probes.models.items():
        if probe.context is None:
            continue
        group, nats = reports.params.models[name].group, probe.context.document.nats.mean
        if nats is None or nats > math.log(probe.embeddings.vocab_size):
            chance.setdefault(group, []).append(name)
        else:
            groups.setdefault(group, {})[name] = probe.context
    for place, (group, models) in enumerate(groups.items()):
        left_out = f" Worse than a uniform guess and left out: {', '.join(chance[group])}." if group in chance else ""
        targets = max(context.num_targets for context in models.values())
        shown = group if len(groups) > 1 else ""
        yield Plot(
            *named("context", "What cutting the context off costs", shown),
            "Increase of the loss where the model sees the last n tokens alone, against the whole document; the same "
            f"{targets} targets throughout, first seed. Bands: 95% bootstrap over targets.{left_out}",
            _truncated(models), "context",
        )  # fmt: skip
        if place == 0:
            longest = max(length for context in models.values() for length in context.lengths)
            yield Plot(
                *named("far_context", "What the far context is used for", shown),
                f"Increase of the loss where of the last {longest} tokens those before the last n are in random "
                "order, or the half of them with the more frequent (rarer) types is left out; against these tokens "
                f"as they are. {targets} targets; bands: 95% bootstrap.{left_out}",
                _far(models), "context",
            )  # fmt: skip


def _truncated(models: dict[str, Context]) -> Figure:
    looks = Looks(tuple(models))
    with settings():
        figure, axes = new_figure(height=3.9)
        for name, context in models.items():
            _line(axes, context.truncated, name, looks)
        log2_axis(axes, sorted({row.length for context in models.values() for row in context.truncated}))
        axes.axhline(0, color=INK[0], linewidth=0.8)
        axes.set_xlabel("tokens of context left")
        axes.set_ylabel("increase of the loss, nats")
        legend(axes)
    return figure


def _far(models: dict[str, Context]) -> Figure:
    looks = Looks(tuple(models))
    lengths = sorted({row.length for context in models.values() for row in context.shuffled})
    with settings():
        figure, panels = new_panels([f"far context: {text}" for text in TREATMENTS.values()], height=6.6)
        for axes, treatment in zip(panels, TREATMENTS, strict=True):
            for name, context in models.items():
                _line(axes, getattr(context, treatment), name, looks)
            axes.axhline(0, color=INK[0], linewidth=0.8)
            axes.set_ylabel("increase, nats")
        if lengths:
            log2_axis(panels[-1], lengths)
        panels[-1].set_xlabel("tokens next to the target that stay as they are")
        figure_legend(figure, panels[-1])
    return figure


def _line(axes: Axes, rows: Sequence[Treated], name: str, looks: Looks) -> None:
    points = [(r.length, r.increase) for r in rows if r.increase.mean is not None]
    if not points:
        return
    xs = [x for x, _ in points]
    low, mean, high = (
        [math.nan if (value := getattr(i, key)) is None else value for _, i in points]
        for key in ("low", "mean", "high")
    )
    colour = looks.colour(name)
    axes.fill_between(xs, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(xs, mean, looks.dash(name), color=colour, marker=looks.marker(name), label=name, linewidth=1.5)
