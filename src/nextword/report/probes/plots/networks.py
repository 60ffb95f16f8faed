"""Plots of what LSTM and GRU can hold and of how fast they train."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.palette import DASHES, INK, Looks
from nextword.report.plots import Plot
from nextword.report.probes.capacity import LABELS, bits_of, over_seeds, real_runs
from nextword.report.probes.networks import CapacityFile, ThroughputFile
from nextword.report.probes.throughput import geometric_mean, point_of
from nextword.report.style import legend, log2_axis, log_axis, new_figure, settings


def capacity_plots(report: CapacityFile, confidence: float = 0.95) -> Iterator[Plot]:
    """Bits of random text memorised, and the gap between valid and train against the size of the corpus."""
    bars = f"Bars: {100 * confidence:g}% t-interval over seeds."
    yield Plot(
        "bits", "Random text by heart",
        f"Bits memorised after {report.random.epochs} epochs against the length of the text; dashed: all of it. {bars}",
        _bits(report, confidence), "training",
    )  # fmt: skip
    yield Plot(
        "gap", "Overfitting against the size of the corpus",
        f"Valid less train in nats a target after {report.real.seen_tokens:,} tokens of training without "
        f"regularisation on parts of train. {bars}",
        _gap(report, confidence), "training",
    )  # fmt: skip


def throughput_plots(report: ThroughputFile, confidence: float = 0.95) -> Iterator[Plot]:
    """Tokens a second against the batch size."""
    what = "threads" if report.device == "cpu" else "GPUs"
    yield Plot(
        "throughput", "Training speed against batch size",
        f"Whole training steps on {report.device}, {report.precision}; dashed lines are of more {what}. Bars: "
        f"{100 * confidence:g}% t-interval over turns, on logarithms.",
        _speed(report, confidence), "training",
    )  # fmt: skip


def _bits(report: CapacityFile, confidence: float) -> Figure:
    looks, text = Looks(tuple(report.networks)), report.random
    with settings():
        figure, axes = new_figure()
        everything = [n * math.log2(text.vocabulary) for n in text.lengths]
        axes.plot(text.lengths, everything, "--", color=INK[0], linewidth=1.3, label="all of the text")
        for name in report.networks:
            found = [mean_interval(list(bits_of(report, name, n).values()), confidence) for n in text.lengths]
            _line(axes, text.lengths, found, LABELS.get(name, name), looks.colour(name), looks.marker(name))
        axes.set_xlabel("tokens of random text")
        axes.set_ylabel("bits memorised")
        log2_axis(axes, list(text.lengths))
        log_axis(axes)
        legend(axes)
    return figure


def _gap(report: CapacityFile, confidence: float) -> Figure:
    looks, sizes = Looks(tuple(report.networks)), report.real.sizes
    with settings():
        figure, axes = new_figure()
        for name in report.networks:
            found = [over_seeds(real_runs(report, name, n), "gap", confidence) for n in sizes]
            _line(axes, sizes, found, LABELS.get(name, name), looks.colour(name), looks.marker(name))
        axes.axhline(0.0, color=INK[0], linewidth=0.8)
        axes.set_xlabel("tokens of train")
        axes.set_ylabel("valid less train, nats a target")
        log2_axis(axes, list(sizes))
        legend(axes)
    return figure


def _speed(report: ThroughputFile, confidence: float) -> Figure:
    looks = Looks(tuple(report.networks))
    counts = sorted({point.devices for point in report.points})
    batches = sorted({point.batch_size for point in report.points})
    with settings():
        figure, axes = new_figure()
        for name in report.networks:
            for place, devices in enumerate(counts):
                points = [point_of(report, name, batch, devices) for batch in batches]
                found = [
                    None if point is None else geometric_mean(point.tokens_per_second, confidence) for point in points
                ]
                label = LABELS.get(name, name) if place == 0 else ""
                style = DASHES[place % len(DASHES)]
                _line(axes, batches, found, label, looks.colour(name), looks.marker(name), style)
        axes.set_xlabel("batch size")
        axes.set_ylabel("tokens a second")
        log2_axis(axes, batches)
        log_axis(axes)
        legend(axes)
    return figure


def _line(
    axes: Axes,
    places: Sequence[int],
    found: Sequence[Estimate | None],
    label: str,
    colour: str,
    marker: str,
    style: str = "-",
) -> None:
    """A line through means with their intervals; an end below zero, which a logarithmic axis lacks, is cut there."""
    rows = [(x, e.mean, e.low, e.high) for x, e in zip(places, found, strict=True) if e is not None]
    if not rows:
        return
    below = [math.nan if low is None else max(0.0, mean - low) for _, mean, low, _ in rows]
    above = [math.nan if high is None else max(0.0, high - mean) for _, mean, _, high in rows]
    axes.errorbar(
        [x for x, *_ in rows], [mean for _, mean, *_ in rows], yerr=[below, above], fmt=style, capsize=3,
        elinewidth=1.0, color=colour, marker=marker, label=label or None,
    )  # fmt: skip
