"""Plots of the NNLM's window and of the sparsity of n-grams."""

from __future__ import annotations

import math
from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nextword.report.palette import Looks
from nextword.report.plots import Plot
from nextword.report.probes.experiments import SparsityFile, WindowFile
from nextword.report.probes.schema import Interval
from nextword.report.probes.sparsity import part_label, smoothings
from nextword.report.probes.window import window_models
from nextword.report.style import legend, log2_axis, log_axis, new_figure, settings


def sparsity_plots(report: SparsityFile) -> Iterator[Plot]:
    """What is unseen, and the perplexity of the last smoothing, by order for each part of train."""
    about = f"{report.num_documents} documents of valid; parts of train are whole documents in one random order. "
    yield Plot(
        "sparsity_size", "Sparsity by order and size of the corpus",
        "Share of the n-grams of valid that a part of train lacks. " + about, _unseen(report), "ngrams",
    )  # fmt: skip
    smoothed = next((name for name in reversed(smoothings(report)) if name != "mle"), None)
    if smoothed is not None:
        yield Plot(
            "smoothing_size", f"Perplexity with smoothing: {smoothed.replace('_', ' ')}",
            "Valid perplexity by order for each part of train, each line alone; without smoothing all orders above 1 "
            f"are infinite. Bars: 95% t-interval over documents. {about}",
            _smoothed(report, smoothed), "ngrams",
        )  # fmt: skip


def _unseen(report: SparsityFile) -> Figure:
    looks = Looks(tuple(map(part_label, report.parts)))
    with settings():
        figure, axes = new_figure()
        for part in report.parts:
            label = part_label(part)
            points = [(row.order, 100 * row.unseen_share) for row in part.orders if row.unseen_share is not None]
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, color=looks.colour(label), marker=looks.marker(label), label=label)
        axes.set_ylabel("unseen n-grams, per cent")
        axes.set_ylim(0, 100)
        _orders(axes)
        legend(axes)
    return figure


def _smoothed(report: SparsityFile, smoothing: str) -> Figure:
    looks = Looks(tuple(map(part_label, report.parts)))
    with settings():
        figure, axes = new_figure()
        for part in report.parts:
            label = part_label(part)
            points = [
                (order.order, model.perplexity)
                for order in part.orders
                for model in order.models
                if model.smoothing == smoothing and model.perplexity.mean is not None
            ]
            _bars(axes, points, label, looks)
        axes.set_ylabel("valid perplexity")
        log_axis(axes)
        _orders(axes)
        legend(axes)
    return figure


def window_plots(report: WindowFile) -> Iterator[Plot]:
    """Perplexity and parameters against the window."""
    models = window_models(report)
    if models:
        yield Plot(
            "window", "NNLM: what a wider window gives and costs",
            f"Each trained on the same {report.train_tokens:,} tokens, once. Bars: 95% t-interval over the "
            f"{report.num_documents} documents of valid. Dashed: models without a window, trained on the same.",
            _window(report), "ngrams",
        )  # fmt: skip


def _window(report: WindowFile) -> Figure:
    models = window_models(report)
    others = [model for model in report.models if model.window is None]
    looks = Looks(("nnlm", *(model.name for model in others)))
    with settings():
        figure, axes = new_figure(height=4.9)
        axes.remove()
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        places = [model.window for model in models if model.window is not None]
        points = [
            (window, model.perplexity)
            for window, model in zip(places, models, strict=True)
            if model.perplexity.mean is not None
        ]
        _bars(upper, points, "nnlm", looks)
        for model in others:
            if model.perplexity.mean is not None:
                colour = looks.colour(model.name)
                upper.axhline(model.perplexity.mean, color=colour, linestyle="--", linewidth=1.3, label=model.name)
            lower.axhline(model.parameters.total / 1e6, color=looks.colour(model.name), linestyle="--", linewidth=1.3)
        upper.set_ylabel("valid perplexity")
        lower.plot(places, [model.parameters.total / 1e6 for model in models], marker="o", color=looks.colour("nnlm"))
        lower.set_ylabel("parameters, millions")
        lower.set_ylim(0, 1.15 * max(model.parameters.total for model in report.models) / 1e6)
        lower.set_xlabel("window in tokens")
        log2_axis(lower, places)
        legend(upper)
    return figure


def _bars(axes: Axes, points: list[tuple[int, Interval]], label: str, looks: Looks) -> None:
    """A line through means with their intervals."""
    if not points:
        return
    rows = [(x, i.mean, i.low, i.high) for x, i in points if i.mean is not None]
    below = [math.nan if low is None else mean - low for _, mean, low, _ in rows]
    above = [math.nan if high is None else high - mean for _, mean, _, high in rows]
    axes.errorbar(
        [x for x, *_ in rows], [mean for _, mean, *_ in rows], yerr=[below, above], capsize=3, elinewidth=1.0,
        color=looks.colour(label), marker=looks.marker(label), label=label,
    )  # fmt: skip


def _orders(axes: Axes) -> None:
    axes.set_xlabel("order")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
