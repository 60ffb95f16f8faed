"""Maps of the most frequent words."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nextword.report.collect import Reports
from nextword.report.palette import INK, SERIES
from nextword.report.plots import Plot
from nextword.report.probes.embeddings import shown_models
from nextword.report.probes.schema import WordMap
from nextword.report.style import new_figure, settings

SIDE = 5.4
"""Inches."""
LETTERS = 8.0
"""Size of the words in points."""


def embedding_plots(reports: Reports) -> Iterator[Plot]:
    """A map for each model that is shown."""
    for name, probe in shown_models(reports.probes.models).items():
        found = probe.embeddings.map
        if found.words:
            yield Plot(f"map_{name}", f"Map of words: {name}", _caption(found), draw_map(found), "embeddings")


def _caption(found: WordMap) -> str:
    text = f"The {len(found.words)} most frequent words of train in two dimensions. "
    if found.method == "tsne":
        text += "t-SNE of cosine distances (van der Maaten & Hinton 2008): neighbours count, not distances."
        if found.trustworthiness is not None:
            text += f" {found.trustworthiness:.0%} of neighbourhoods kept (trustworthiness)."
    else:
        text += "The first two principal components of the embeddings of length one"
        text += "." if found.explained_share is None else f", {found.explained_share:.0%} of their variance."
    return text + " First seed. Where words would overlap, the rarer one is a dot."


def draw_map(found: WordMap) -> Figure:
    """A dot for each word, and the word beside it where there is room."""
    with settings():
        figure, axes = new_figure(SIDE, SIDE * 0.92)
        xs, ys = [word.x for word in found.words], [word.y for word in found.words]
        width, height = (max(values) - min(values) or 1.0 for values in (xs, ys))
        axes.set_xlim(min(xs) - 0.06 * width, max(xs) + 0.13 * width)
        axes.set_ylim(min(ys) - 0.05 * height, max(ys) + 0.05 * height)
        labelled = _labels(axes, found, 1.19 * width / (SIDE * 72), 1.1 * height / (SIDE * 0.92 * 72))
        axes.scatter(
            xs, ys, s=[6 if word.word in labelled else 3 for word in found.words], color=SERIES[0][0], linewidths=0
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure


def _labels(axes: Axes, found: WordMap, x_point: float, y_point: float) -> set[str]:
    """Write words beside their dots, the most frequent first, where they cover no other; those that are written.

    Args:
        axes: of the map.
        found: the map.
        x_point: a typographic point in units of the data, across.
        y_point: the same, upwards.
    """
    taken: list[tuple[float, float, float, float]] = []
    labelled = set()
    for word in sorted(found.words, key=lambda word: -word.count):
        length, half = x_point * (LETTERS * 0.58 * len(word.word) + 5), y_point * LETTERS * 0.6
        for side in ("left", "right"):  # where the dot is, seen from the word
            left = word.x if side == "left" else word.x - length
            box = (left, word.y - half, left + length, word.y + half)
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                continue
            taken.append(box)
            labelled.add(word.word)
            axes.annotate(
                word.word, (word.x, word.y), (3 if side == "left" else -3, 0), textcoords="offset points", ha=side,
                va="center", fontsize=LETTERS, color=INK[0],
            )  # fmt: skip
            break
    return labelled
