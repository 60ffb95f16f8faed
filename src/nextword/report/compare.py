"""Make ``reports/compare/`` from the reports of the earlier stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from nextword.config import Params
from nextword.evaluation.statistics import Estimate
from nextword.files import write_json
from nextword.paths import IDS
from nextword.report.bidirectional import (
    Pair,
    bidirectional_pairs,
    bidirectional_records,
    bidirectional_table,
    bidirectional_tree,
)
from nextword.report.collect import Reports, collect
from nextword.report.combinations import combinations_section
from nextword.report.gru_vs_lstm import Comparison, compare_gru_lstm, comparison_section
from nextword.report.leaderboard import (
    Row,
    best_ngram,
    leaderboard,
    leaderboard_records,
    leaderboard_table,
    leaderboard_tree,
)
from nextword.report.page import Picture, render_page
from nextword.report.probes.sections import probe_sections, probe_summary
from nextword.report.provenance import origin
from nextword.report.schema import PROTOCOLS
from nextword.report.section import CHAPTERS, Section
from nextword.report.short import short_form
from nextword.report.tables import finite, markdown, number, write_csv
from nextword.report.textbook import textbook_findings, textbook_section
from nextword.report.tuning import tuning_section
from nextword.report.variant_claims import ABLATION, RNN_VARIANTS
from nextword.report.variants import compare_variants
from nextword.report.variants_table import variants_records, variants_summary, variants_table, variants_tree

_LONGEST_LIST = 6


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
    """Flat records by name of the table: ``leaderboard``, ``gru_vs_lstm`` and those of what else there is."""
    markdown: str = field(repr=False)
    """All tables and the summary, as in report.md."""
    short: str = field(repr=False)
    """One screen of it, as in summary.md: it fits into MLflow's note."""
    figures: dict[str, Path] = field(default_factory=dict)
    """SVG files by name."""

    @property
    def page(self) -> Path:
        """The self-contained page."""
        return self.folder / "report.html"


def compare(
    params: Params, reports: Path = Path("reports"), commit: str | None = None, ids: Path = IDS
) -> ComparisonResult:
    """Compare exactly the models that ``params`` names; write ``reports/compare/`` and ``reports/metrics.json``.

    The same reports, params and commit give the same files, byte for byte: every verdict follows from them.

    Args:
        params: names the models; nothing else in the folder is read.
        reports: holds ngram.json, tune/, train/, evaluate/, nats/, probe/, experiments/, corpus.json, ids.json, runs/.
        commit: of the project now, for the page's head; each run names its own.
        ids: folder that ``encode`` wrote: where documents and lines begin.

    Raises:
        ValueError: a report is missing or broken, or the models were not scored on the same targets.
    """
    from nextword.report.combinations import combinations_plot  # these bring matplotlib
    from nextword.report.forest import forest_plot
    from nextword.report.plots import draw_plots
    from nextword.report.probes.plots import probe_plots
    from nextword.report.style import settings, svg
    from nextword.report.tuning import tuning_plots

    collected = collect(params, reports, ids)
    rows = leaderboard(collected)
    comparison = compare_gru_lstm(collected)
    variants = [found for family in (ABLATION, RNN_VARIANTS) if (found := compare_variants(collected, family))]
    pairs = bidirectional_pairs(collected)
    findings = textbook_findings(collected)
    claims = textbook_section(collected, findings)
    sections = [
        comparison_section(collected, comparison),
        claims,
        Section(
            "leaderboard",
            leaderboard_table(collected, rows),
            leaderboard_records(rows),
            leaderboard_tree(collected, rows),
            "models",
            ("ngram", "train@*", "evaluate@*"),
        ),
        *(
            Section(
                found.family.name,
                variants_table(found),
                variants_records(found),
                variants_tree(found),
                sources=tuple(f"{stage}@{row.model.name}" for row in found.rows for stage in ("train", "evaluate")),
            )
            for found in variants
        ),
    ]
    sections += [found for found in (combinations_section(collected), tuning_section(collected)) if found is not None]
    if pairs:
        table, records = bidirectional_table(collected, pairs), bidirectional_records(pairs)
        sources = tuple(f"{stage}@{name}" for name in collected.bidirectional for stage in ("train", "evaluate"))
        sections.append(Section("bidirectional", table, records, bidirectional_tree(collected, pairs), sources=sources))
    sections += probe_sections(collected)
    headline = _headline(collected, rows)
    summary = (
        *headline,
        *comparison.summary,
        claims.tree["summary"],
        *map(variants_summary, variants),
        *probe_summary(collected),
    )

    folder = reports / "compare"
    folder.mkdir(parents=True, exist_ok=True)
    pictures, figures = [], {}
    plots = chain(
        forest_plot(collected, comparison),
        draw_plots(collected, rows),
        combinations_plot(collected),
        tuning_plots(collected),
        probe_plots(collected),
    )
    for plot in plots:
        with settings():
            text = svg(plot.figure)
        figures[plot.name] = folder / f"{plot.name}.svg"
        figures[plot.name].write_text(text, encoding="utf-8")
        pictures.append(Picture(plot.name, plot.title, plot.caption, text, plot.chapter, plot.sources))

    for section in sections:
        made_from = origin(section.sources, collected, commit).record
        write_json(folder / f"{section.name}.json", finite(section.tree | {"origin": made_from}))
        write_csv(folder / f"{section.name}.csv", section.records)
        (folder / f"{section.name}.md").write_text(markdown(section.table), encoding="utf-8")
    metrics = _metrics(rows, pairs)
    write_json(reports / "metrics.json", finite(_nested(metrics)))
    whole = _markdown(summary, sections)
    (folder / "report.md").write_text(whole, encoding="utf-8")
    short = short_form(collected, rows, headline, comparison.findings, findings)
    (folder / "summary.md").write_text(short, encoding="utf-8")
    page = render_page(collected, summary, sections, pictures, commit)
    (folder / "report.html").write_text(page, encoding="utf-8")
    flat = {section.name: section.records for section in sections}
    return ComparisonResult(folder, tuple(rows), comparison, "\n".join(summary), metrics, flat, whole, short, figures)


def _headline(reports: Reports, rows: list[Row]) -> list[str]:
    """Who leads, and where the n-grams stand, under either protocol."""
    sentences = [_reading(reports)]
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
            + (f"{_these(better)}." if better else "no neural model is below it.")
        )
    return sentences


def _reading(reports: Reports) -> str:
    rule, documents = reports.params.compare, reports.nats.corpus["test"].num_documents
    level = f"{100 * rule.confidence:g}%"
    matched = f" {rule.lstm_matched} is the LSTM with the GRU's number of parameters." if rule.lstm_matched else ""
    return (
        "Perplexity: lower is better. Stateful: the state is carried through a document; reset: each line alone. [low, "
        f"high] of a model: {level} t-interval over its seeds; of a ratio of perplexities: {level} over seeds and the "
        f"{documents} document(s) of test.{matched}"
    )


def _these(names: list[str]) -> str:
    many = len(names) > _LONGEST_LIST
    return f"{len(names)} neural models are below it" if many else f"these are below it: {', '.join(names)}"


def _reset(row: Row) -> float:
    estimate = row.figure("perplexity", "reset")
    return float("inf") if estimate is None else estimate.mean


def _metrics(rows: list[Row], pairs: list[Pair]) -> dict[str, float]:
    """Figures of the rows that the tables show; what is infinite or absent is left out."""
    metrics: dict[str, float] = {}
    shown = [(row, "perplexity") for row in rows if row.in_table]
    shown += [(pair.bidirectional, "pseudo_perplexity") for pair in pairs]
    for row, name in sorted(shown, key=lambda pair: pair[0].name):
        figures: dict[str, Estimate | None] = {f"test_{name}_{p}": row.figure("perplexity", p) for p in PROTOCOLS}
        if name == "perplexity":
            figures["test_bits_per_byte"] = row.figure("bits_per_byte")
        figures["training_seconds"] = row.training_seconds
        for figure, estimate in figures.items():
            if estimate is not None and estimate.mean != float("inf"):
                metrics[f"{row.name}/{figure}"] = estimate.mean
    return metrics


def _nested(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    tree: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        model, figure = name.split("/")
        tree.setdefault(model, {})[figure] = value
    return tree


def _markdown(summary: tuple[str, ...], sections: list[Section]) -> str:
    lines = ["# Comparison of language models", "", *(f"- {sentence}" for sentence in summary), ""]
    for chapter, title in CHAPTERS.items():
        tables = [section.table for section in sections if section.chapter == chapter]
        lines += [f"## {title}", "", *(markdown(table, level=3) for table in tables)] if tables else []
    return "\n".join(lines)
