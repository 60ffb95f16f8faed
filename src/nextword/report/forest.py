"""Forest plots: every difference of LSTM and GRU that has an interval, as a ratio."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nextword.report.claims import EXPRESSIVE_POWER, MEMORY, PERFORMANCE
from nextword.report.collect import Reports
from nextword.report.finding import Finding
from nextword.report.gru_vs_lstm import Comparison
from nextword.report.pairwise import Pair
from nextword.report.palette import INK, MUTED, Looks
from nextword.report.plots import Plot
from nextword.report.style import figure_legend, new_figure, settings
from nextword.report.tables import exp

_SPREAD = 0.6
"""Share of a row's height over which its pairs are spread."""
_RATIOS = (
    0.001,
    0.01,
    0.03,
    0.1,
    0.25,
    0.5,
    0.7,
    0.8,
    0.9,
    0.95,
    1.0,
    1.05,
    1.1,
    1.2,
    1.4,
    2.0,
    4.0,
    10.0,
    30.0,
    100.0,
)


def forest_plot(reports: Reports, comparison: Comparison) -> Iterator[Plot]:
    """Draw perplexities, speeds and lags. Save them inside :func:`nextword.report.style.settings`."""
    found = [
        (pair, finding)
        for pair, finding in comparison.found
        if finding.scale == "ratio" and finding.difference is not None and finding.difference.low is not None
    ]
    level = f"{100 * reports.params.compare.confidence:g}%"
    caption = (
        f"LSTM / GRU with the {level} interval, a mark for each pair. The line is equality; where the interval crosses "
        "it, neither is shown to be higher. Higher is worse for perplexities, seconds and memory, better for the rest."
    )
    groups: dict[str, list[tuple[Pair, Finding]]] = {"perplexity": [], "memory": [], "speed": []}
    for pair, finding in found:
        memory, perplexity = finding.claim == MEMORY, finding.claim in (PERFORMANCE, EXPRESSIVE_POWER)
        groups["memory" if memory else "perplexity" if perplexity else "speed"].append((pair, finding))
    margin = reports.params.compare.margin
    band = f" The band is the practical margin of {100 * margin:g}%: within it perplexities are called comparable."
    step = " That of a longest lag reaches a step between the lags tried to either side at the least."
    for name, title, more in (
        ("perplexity", "Perplexity of LSTM / GRU", band),
        ("speed", "Speed and memory of LSTM / GRU", ""),
        ("memory", "Memory of LSTM / GRU", step),
    ):
        if rows := groups[name]:
            with settings():
                figure = _draw(rows, comparison.pairs)
            sources = tuple(dict.fromkeys(stage for _, finding in rows for stage in finding.sources))
            yield Plot(f"forest_{name}", title, caption + more, figure, "comparison", sources)


def _draw(found: Sequence[tuple[Pair, Finding]], pairs: Sequence[Pair]) -> Figure:
    texts = _texts({finding.key: finding.measured for _, finding in found})
    labels = list(texts)
    names = [f"{pair.lstm.name} / {pair.gru.name}" for pair in pairs]
    looks = Looks(tuple(names))
    shown = sum(any(own is pair for own, _ in found) for pair in pairs)
    margin = max(finding.margin for _, finding in found)
    figure, axes = new_figure(height=1.6 + len(labels) * (0.16 + 0.12 * shown))
    if margin:
        axes.axvspan(math.exp(-margin), math.exp(margin), color=MUTED[0], alpha=0.15, linewidth=0)
    axes.axvline(1.0, color=INK[0], linewidth=1.0)
    for index, (pair, name) in enumerate(zip(pairs, names, strict=True)):
        offset = _SPREAD * ((index + 0.5) / len(pairs) - 0.5)
        gaps = [(labels.index(one.key), one.difference) for own, one in found if own is pair]
        points = [
            (place + offset, exp(gap.mean), exp(gap.low), exp(gap.high))
            for place, gap in gaps
            if gap is not None and gap.low is not None and gap.high is not None
        ]
        if points:
            places, means, lows, highs = zip(*points, strict=True)
            errors = [[m - low for m, low in zip(means, lows, strict=True)],
                      [high - m for m, high in zip(means, highs, strict=True)]]  # fmt: skip
            axes.errorbar(
                means, places, xerr=errors, fmt=looks.marker(name), color=looks.colour(name), label=name, capsize=2,
                linewidth=1.2,
            )  # fmt: skip
    axes.set_yticks(range(len(labels)), list(texts.values()))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("LSTM / GRU")
    figure_legend(figure, axes)
    return figure


def _texts(measured: Mapping[str, str]) -> dict[str, str]:
    """What was measured, by key, up to its first comma; up to the second where that says the same of two."""
    parts = {key: text.split(", ") for key, text in measured.items()}
    starts = Counter(first for first, *_ in parts.values())
    return {key: ", ".join(words[: 1 + (starts[words[0]] > 1)]) for key, words in parts.items()}


def _ticks(low: float, high: float) -> list[float]:
    """Ratios within the limits, from 1 outwards, none nearer to the one before than a seventh of the axis."""
    room = math.log(high / low) / 7.0
    kept: list[float] = []
    for ratio in sorted(_RATIOS, key=lambda value: abs(math.log(value))):
        if low <= ratio <= high and all(abs(math.log(ratio / other)) >= room for other in kept):
            kept.append(ratio)
    return kept
