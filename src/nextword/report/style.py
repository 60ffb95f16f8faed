"""How figures are drawn, and SVG that is the same at every run."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nextword.report.palette import GRID, INK, MUTED, PAPER

_MOST_DECADES = 8
"""Decades of a logarithmic axis that each have a tick; on a longer one every second, third, ... has."""
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nextword",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.parse_math": False,
    "text.color": INK[0],
    "axes.labelcolor": MUTED[0],
    "axes.edgecolor": MUTED[0],
    "axes.facecolor": PAPER[0],
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID[0],
    "grid.linewidth": 0.8,
    "xtick.color": MUTED[0],
    "ytick.color": MUTED[0],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "figure.facecolor": PAPER[0],
}


@contextmanager
def settings() -> Iterator[None]:
    """Draw and save figures inside this."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change what is written
        matplotlib.rcParams.update(_SETTINGS)
        yield


def new_figure(width: float = 5.4, height: float = 3.5) -> tuple[Figure, Axes]:
    """An empty figure of ``width`` by ``height`` inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def new_panels(titles: Sequence[str], height: float = 6.2, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title, row by row; all share both axes."""
    figure = Figure(figsize=(5.4, height), layout="constrained")
    grid = figure.subplots(-(-len(titles) // columns), columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(titles) :]:
        axes.remove()
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title)
    return figure, panels[: len(titles)]


def figure_legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """One legend above all panels of a figure."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def svg(figure: Figure) -> str:
    """The figure as SVG; the same text whenever the figure is the same."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(r"[ \t]+\n", "\n", buffer.getvalue())


def log_axis(axes: Axes, limit: float = math.inf) -> None:
    """Make the y axis logarithmic with plain numbers at some places of each decade.

    Args:
        axes: with everything drawn.
        limit: no number stands above this.
    """
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if low <= 0:  # nothing is drawn
        low, high = 0.1, 1.0
    ticks = _ticks(low, min(high, limit))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick_text(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(low, high)


def log2_axis(axes: Axes, places: Sequence[float]) -> None:
    """Make the x axis logarithmic with a tick at each of ``places``."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _tick_text(value: float) -> str:
    if 10 <= value < 1e6:
        return f"{value:,.0f}"
    if 0.001 <= value < 10:
        return f"{value:g}"
    digits, power = f"{value:e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [power for power in powers if low <= 10.0**power <= high]
    if len(inside) > _MOST_DECADES:
        every = math.ceil(len(inside) / _MOST_DECADES)
        return [10.0**power for power in inside if power % every == 0]
    decades = [10.0**power for power in powers]
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [step * decade for decade in decades for step in steps if low <= step * decade <= high]
        if len(ticks) >= 4:
            return ticks
    return [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if tick > 0]


def legend(axes: Axes, columns: int = 0) -> None:
    """A legend above the axes, where it covers no data; in two columns where it is long."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = columns or (2 if len(labels) > 3 else len(labels))
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, borderaxespad=0.2)
