"""Plots of the n-gram stage: perplexity and sparsity by order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nextword.report.palette import MUTED, PAPER, Looks
from nextword.report.schema import NgramEntry, NgramFile
from nextword.report.style import legend, log_axis, new_figure, settings
from nextword.report.tables import INFINITE

_SHARES = {
    "unseen_share": "n-grams of test that train lacks",
    "unseen_context_share": "targets whose context train lacks",
    "zero_probability_share": "targets with count 0 after their context",
}


def ngram_order_figure(report: Mapping[str, Any]) -> Figure:
    """Test perplexity against order, a line a smoothing.

    Args:
        report: ``reports/ngram.json``.
    """
    entries = NgramFile.model_validate(report).models
    return draw_orders(entries, tuple(dict.fromkeys(entry.smoothing for entry in entries.values())))


def sparsity_figure(report: Mapping[str, Any]) -> Figure:
    """Shares of test that train does not cover, against order.

    Args:
        report: ``reports/ngram.json``.
    """
    return draw_sparsity(NgramFile.model_validate(report).orders)


def draw_orders(entries: Mapping[str, NgramEntry], smoothings: tuple[str, ...]) -> Figure:
    """Perplexity by order; infinite ones hollow and at the top, without a line to them that would show a value.

    Args:
        entries: any number of smoothings and orders.
        smoothings: in the order in which they take colours.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for entry in sorted(entries.values(), key=lambda entry: entry.order):
        perplexity = entry.splits["test"]["reset"].perplexity
        points.setdefault(entry.smoothing, []).append((entry.order, math.inf if perplexity is None else perplexity))
    finite = [y for line in points.values() for _, y in line if math.isfinite(y)]
    highest = max(finite, default=10.0)
    top, looks = highest * 2.2, Looks(smoothings)
    with settings():
        figure, axes = new_figure(height=4.0)
        for smoothing, line in points.items():
            colour, marker = looks.colour(smoothing), looks.marker(smoothing)
            ys = [y if math.isfinite(y) else math.nan for _, y in line]
            axes.plot([x for x, _ in line], ys, color=colour, marker=marker, label=smoothing.replace("_", " "))
            infinite = [x for x, y in line if math.isinf(y)]
            axes.plot(infinite, [top] * len(infinite), ":", color=colour, marker=marker, markerfacecolor=PAPER[0])
        _orders(axes)
        axes.set_ylabel("test perplexity (reset)")
        log_axis(axes, limit=highest * 1.3)
        if len(finite) < sum(map(len, points.values())):
            axes.annotate(
                INFINITE, (0, top), (-6, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
                ha="right", va="center", fontsize=13, color=MUTED[0],
            )  # fmt: skip
        legend(axes)
    return figure


def draw_sparsity(orders: Mapping[int, Mapping[str, Any]]) -> Figure:
    """Shares by order; those that the report lacks are left out."""
    looks = Looks(tuple(_SHARES))
    with settings():
        figure, axes = new_figure()
        for key, label in _SHARES.items():
            known = [(order, 100 * row[key]) for order, row in orders.items() if row.get(key) is not None]
            if known:
                xs, ys = zip(*known, strict=True)
                axes.plot(xs, ys, color=looks.colour(key), marker=looks.marker(key), label=label)
        _orders(axes)
        axes.set_ylabel("per cent")
        axes.set_ylim(0, 100)
        legend(axes, columns=1)
    return figure


def _orders(axes: Axes) -> None:
    axes.set_xlabel("order")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
