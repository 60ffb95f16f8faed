"""Make ``reports/compare/`` from the reports of the earlier stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nextword.config import Params
from nextword.evaluation.statistics import Estimate
from nextword.files import write_json
from nextword.report.collect import Reports, collect
from nextword.report.gru_vs_lstm import (
    Comparison,
    compare_gru_lstm,
    comparison_records,
    comparison_table,
    comparison_tree,
)
from nextword.report.leaderboard import (
    Row,
    best_ngram,
    leaderboard,
    leaderboard_records,
    leaderboard_table,
    leaderboard_tree,
)
from nextword.report.page import Picture, render_page
from nextword.report.schema import PROTOCOLS
from nextword.report.tables import Table, finite, markdown, number, write_csv


@dataclass(frozen=True)
class ComparisonResult:
    """What the comparison found and where it wrote it."""

    folder: Path
    rows: tuple[Row, ...]
    """The leaderboard, best first, with the orders that the table does not show."""
    comparison: Comparison
    summary: str
    """Sentences made from the figures, a paragraph a line."""
    metrics: dict[str, float]
    """Flat, for tracking: ``lstm/test_perplexity_stateful``."""
    tables: dict[str, list[dict[str, Any]]] = field(repr=False)
    """Flat records: ``leaderboard`` and ``gru_vs_lstm``."""
    markdown: str = field(repr=False)
    """Both tables and the summary, as in report.md."""
    figures: dict[str, Path] = field(default_factory=dict)
    """SVG files by name."""

    @property
    def page(self) -> Path:
        """The self-contained page."""
        return self.folder / "report.html"


def compare(params: Params, reports: Path = Path("reports"), commit: str | None = None) -> ComparisonResult:
    """Compare exactly the models that ``params`` names; write ``reports/compare/`` and ``reports/metrics.json``.

    The same reports, params and commit give the same files, byte for byte.

    Args:
        params: names the models; nothing else in the folder is read.
        reports: holds ngram.json, train/, evaluate/, corpus.json, ids.json and runs/.
        commit: of the project, for the page's head.

    Raises:
        ValueError: a report is missing or broken, or the models were not scored on the same targets.
    """
    from nextword.report.plots import draw_plots  # brings matplotlib
    from nextword.report.style import settings, svg

    collected = collect(params, reports)
    rows = leaderboard(collected)
    comparison = compare_gru_lstm(collected)
    tables = {
        "leaderboard": leaderboard_table(collected, rows),
        "gru-vs-lstm": comparison_table(comparison),
    }
    records = {"leaderboard": leaderboard_records(rows), "gru_vs_lstm": comparison_records(comparison)}
    summary = (*_headline(collected, rows), *comparison.summary)

    folder = reports / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    pictures, figures = [], {}
    for plot in draw_plots(collected, rows):
        with settings():
            text = svg(plot.figure)
        figures[plot.name] = folder / f"{plot.name}.svg"
        figures[plot.name].write_text(text, encoding="utf-8")
        pictures.append(Picture(plot.name, plot.title, plot.caption, text))

    write_json(folder / "leaderboard.json", finite(leaderboard_tree(collected, rows)))
    write_json(folder / "gru_vs_lstm.json", finite(comparison_tree(comparison)))
    metrics = _metrics(rows)
    write_json(reports / "metrics.json", finite(_nested(metrics)))
    for name, table in (("leaderboard", tables["leaderboard"]), ("gru_vs_lstm", tables["gru-vs-lstm"])):
        write_csv(folder / f"{name}.csv", records[name])
        (folder / f"{name}.md").write_text(markdown(table), encoding="utf-8")
    whole = _markdown(summary, tables)
    (folder / "report.md").write_text(whole, encoding="utf-8")
    page = render_page(collected, summary, tables, pictures, commit)
    (folder / "report.html").write_text(page, encoding="utf-8")
    return ComparisonResult(folder, tuple(rows), comparison, "\n".join(summary), metrics, records, whole, figures)


def _headline(reports: Reports, rows: list[Row]) -> list[str]:
    """Who leads, and where the n-grams stand, under either protocol."""
    sentences = []
    for protocol in PROTOCOLS:
        scored = [
            (estimate.mean, row)
            for row in rows
            if row.family == "neural" and (estimate := row.figure("perplexity", protocol))
        ]
        if scored:
            value, row = min(scored, key=lambda pair: pair[0])
            sentences.append(f"Least test perplexity of a neural model, {protocol}: {row.name}, {number(value)}.")
    name = best_ngram(reports.ngrams)
    best = next((row for row in rows if row.name == name), None)
    if best is not None:
        better = [row.name for row in rows if row.family == "neural" and _reset(row) < best.rank_perplexity]
        sentences.append(
            f"Best n-gram model by valid: {best.kind.replace('_', ' ')}, order {best.order}, test perplexity "
            f"{number(best.rank_perplexity)} (reset); under the same protocol "
            + (f"these are below it: {', '.join(better)}." if better else "no neural model is below it.")
        )
    return sentences


def _reset(row: Row) -> float:
    estimate = row.figure("perplexity", "reset")
    return float("inf") if estimate is None else estimate.mean


def _metrics(rows: list[Row]) -> dict[str, float]:
    """Figures of the rows that the table shows; what is infinite or absent is left out."""
    metrics: dict[str, float] = {}
    for row in sorted((row for row in rows if row.in_table), key=lambda row: row.name):
        figures: dict[str, Estimate | None] = {f"test_perplexity_{p}": row.figure("perplexity", p) for p in PROTOCOLS}
        figures |= {"test_bits_per_byte": row.figure("bits_per_byte"), "training_seconds": row.training_seconds}
        for name, estimate in figures.items():
            if estimate is not None and estimate.mean != float("inf"):
                metrics[f"{row.name}/{name}"] = estimate.mean
    return metrics


def _nested(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    tree: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        model, figure = name.split("/")
        tree.setdefault(model, {})[figure] = value
    return tree


def _markdown(summary: tuple[str, ...], tables: dict[str, Table]) -> str:
    head = ["# Comparison of language models", "", *(f"- {sentence}" for sentence in summary), ""]
    return "\n".join([*head, *(markdown(table) for table in tables.values())])
