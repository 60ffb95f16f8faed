"""Plots of gradient flow: norms against the lag on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from nextword.report.collect import Reports
from nextword.report.palette import INK, Looks
from nextword.report.plots import Plot, named
from nextword.report.probes.plots.norms import PANELS, SMALLEST, visible
from nextword.report.probes.schema import Flow, Gradients, HalfLife, Norm, floats
from nextword.report.style import figure_legend, log_axis, new_panels, settings

BOUND_ROOM = 10.0
"""A bound is drawn up to about so many times the largest norm."""

_GRADIENTS = (
    "Median norm of d h_t / d S_k over the positions, against the lag t-k: h of the top layer by all that the model "
    "remembers; a straight line is exponential decay, the fine line is at a half, and below {smallest:g} no line is "
    "drawn. {count} positions of {split}, first seed. "
)


def gradient_plots(reports: Reports) -> Iterator[Plot]:
    """All cells together, each group with its spread, the way through the LSTM's cell state, dE/dW by distance."""
    found = {name: p.gradients for name, p in reports.probes.models.items() if p.gradients is not None}
    if not found:
        return
    first = next(iter(found))
    count, split = found[first].trained.stack.positions, reports.probes.models[first].split
    about = _GRADIENTS.format(smallest=SMALLEST, count=count, split=split)
    cells: dict[str, Gradients] = {}
    groups: dict[str, dict[str, Gradients]] = {}
    for name, gradients in found.items():
        params = reports.params.models[name]
        if params.num_layers == 1 and params.recurrent_init == "uniform":
            cells.setdefault(params.kind, gradients)
        groups.setdefault(params.group, {})[name] = gradients
    sources = tuple(f"probe@{name}" for name in found)
    yield Plot(
        "half_lives", "Gradient half-lives",
        "Tokens in which the median norm of d h_t / d S_k falls to half, in all and on average after its first step; "
        f"arrows: beyond {found[first].trained.max_lag} tokens, the longest lag measured, or it does not fall. Bars: "
        f"95% over {count} positions of {split}; first seed.", _half_lives(found), "gradients", sources,
    )  # fmt: skip
    if len(cells) > 1:
        yield Plot(
            "cells", "Gradient against lag: all cells",
            about + "One layer each, the first model of its kind.", _norms(cells, spread=False), "gradients",
        )  # fmt: skip
    for group, models in groups.items():
        yield Plot(
            *named("gradients", "Gradient against lag", group if len(groups) > 1 else ""),
            f"{about}Bands: 10% to 90% of the positions. Dotted: the notes' bound (β_W β_h)^lag of RNNs of one "
            "layer, in the colour of the model; it leaves the picture where it is far above.",
            _norms(models, spread=True), "gradients", tuple(f"probe@{name}" for name in models),
        )  # fmt: skip
    with_c = {name: g for name, g in found.items() if g.trained.layers[-1].c is not None}
    lstm = reports.params.compare.lstm if reports.params.compare.lstm in with_c else next(iter(with_c), None)
    if lstm is not None:
        yield Plot(
            "cell_state", f"Paths through time: {lstm}",
            "Median norms by lag in the top layer. d c_t / d c_k is the notes' way past the vanishing gradient; "
            "through c alone it is the largest product of forget gates. d h_t / d h_k goes through the gates only, "
            "c_k held "
            f"fixed. Bands: 10% to 90% of {count} positions.", _paths(with_c[lstm]), "gradients", (f"probe@{lstm}",),
        )  # fmt: skip
    yield Plot(
        "weight_gradients", "dE/dW by distance",
        "Median norm of the part of one token's dE_t / dW that goes through step k: what the loss learns of a word so "
        f"many tokens before. Top layer, {count} positions.", _weights(cells or found), "gradients",
    )  # fmt: skip


Life = tuple[float | None, float | None, float | None]
"""Tokens with their interval; None is beyond what was measured."""


def _half_lives(models: dict[str, Gradients]) -> Figure:
    """A row a model, at the start and trained beside each other; one panel in all, one after the first step."""
    looks, longest = Looks(PANELS), max(gradients.trained.max_lag for gradients in models.values())
    read: dict[str, Callable[[HalfLife], Life]] = {
        "half-life": lambda life: (life.tokens, life.low, life.high),
        "after the first step": lambda life: (life.halving_tokens, life.halving_low, life.halving_high),
    }
    with settings():
        figure, panels = new_panels(tuple(read), height=1.6 + 0.27 * len(models), columns=2)
        for axes, values in zip(panels, read.values(), strict=True):
            for place, gradients in enumerate(reversed(models.values())):
                flows = zip(PANELS, (gradients.initial, gradients.trained), (0.15, -0.15), strict=True)
                for name, flow, shift in flows:
                    _life(axes, values(flow.stack.half_life), place + shift, name, looks, longest)
            axes.set_xscale("log")
            axes.set_yticks(range(len(models)), list(models)[::-1])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("tokens")
        for name in PANELS:
            panels[0].plot([], [], looks.marker(name), color=looks.colour(name), label=name)
        figure_legend(figure, panels[0])
    return figure


def _life(axes: Axes, life: Life, y: float, name: str, looks: Looks, end: float) -> None:
    """A mark with its bar; an arrow at ``end`` for what lies beyond, and a bar that goes on to there."""
    tokens, low, high = life
    beyond = tokens is None or tokens > end
    x = end if tokens is None or beyond else tokens
    axes.plot(x, y, ">" if beyond else looks.marker(name), color=looks.colour(name))
    if low is not None and low < end:
        axes.plot([low, end if high is None else min(high, end)], [y, y], color=looks.colour(name), linewidth=1.2)


def _norms(models: dict[str, Gradients], spread: bool) -> Figure:
    looks = Looks(tuple(models))
    with settings():
        figure, panels = new_panels(PANELS)
        for axes, weights in zip(panels, ("initial", "trained"), strict=True):
            for name, gradients in models.items():
                flow: Flow = getattr(gradients, weights)
                _line(axes, flow.stack, name, looks, spread)
                axes.set_ylabel("norm of d h_t / d S_k")
        _scale(panels)
        if spread:
            for axes, weights in zip(panels, ("initial", "trained"), strict=True):
                for name, gradients in models.items():
                    _bound(axes, getattr(gradients, weights), looks.colour(name))
        _finish(figure, panels)
    return figure


def _paths(gradients: Gradients) -> Figure:
    looks = Looks(("d c_t / d c_k", "d c_t / d c_k, through c alone", "d h_t / d h_k, c_k fixed", "d h_t / d S_k"))
    with settings():
        figure, panels = new_panels(PANELS)
        for axes, flow in zip(panels, (gradients.initial, gradients.trained), strict=True):
            top = flow.layers[-1]
            for name, norm in zip(looks.names, (top.c, top.c_direct, top.h, flow.stack), strict=True):
                if norm is not None:
                    _line(axes, norm, name, looks, spread=True)
            axes.set_ylabel("norm")
        _scale(panels)
        _finish(figure, panels)
    return figure


def _weights(models: dict[str, Gradients]) -> Figure:
    looks = Looks(tuple(models))
    with settings():
        figure, panels = new_panels(PANELS)
        for axes, weights in zip(panels, ("initial", "trained"), strict=True):
            for name, gradients in models.items():
                _line(axes, getattr(gradients, weights).layers[-1].loss_by_weights, name, looks, spread=False)
            axes.set_ylabel("norm of its part of dE/dW")
        _scale(panels)
        _finish(figure, panels, half=False)
    return figure


def _line(axes: Axes, norm: Norm, name: str, looks: Looks, spread: bool) -> None:
    low, median, high = (visible(norm.quantiles[q]) for q in ("0.1", "0.5", "0.9"))
    colour, crowded = looks.colour(name), len(looks.names) > 5
    axes.plot(norm.lags, median, looks.dash(name), color=colour, label=name, linewidth=1.6)
    if spread:
        axes.fill_between(norm.lags, low, high, color=colour, alpha=0.07 if crowded else 0.15, linewidth=0)


def _bound(axes: Axes, flow: Flow, colour: str) -> None:
    """Drawn within the axes alone, which the norms have set."""
    bound = flow.layers[0].bound
    if bound is None or len(flow.layers) > 1:
        return
    limit = axes.get_ylim()[1]
    points = [(lag, v) for lag, v in zip(bound.lags, floats(bound.values), strict=True) if SMALLEST < v < limit]
    # One more point, so that a bound that leaves the picture is seen to leave it.
    beyond = next((lag for lag, v in zip(bound.lags, floats(bound.values), strict=True) if v >= limit), None)
    if beyond is not None:
        points.append((beyond, limit))
    axes.plot([x for x, _ in points], [y for _, y in points], ":", color=colour, linewidth=1.4)


def _scale(panels: list[Axes]) -> None:
    """One logarithmic axis for all panels, with room above the norms for bounds."""
    axes = panels[0]
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * BOUND_ROOM)
    log_axis(axes)


def _finish(figure: Figure, panels: list[Axes], half: bool = True) -> None:
    for axes in panels if half else ():
        axes.axhline(0.5, color=INK[0], linewidth=0.8, linestyle=(0, (1, 3)))
    panels[-1].set_xlabel("lag t-k in tokens")
    panels[-1].set_xlim(left=0)
    figure_legend(figure, panels[-1])
