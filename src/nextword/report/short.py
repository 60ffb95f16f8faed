"""The comparison in one screen of Markdown, for a README or for MLflow's note."""

from __future__ import annotations

from collections.abc import Sequence

from nextword.report.collect import Reports
from nextword.report.finding import Finding, counts_text
from nextword.report.leaderboard import Row, best_ngram
from nextword.report.schema import PROTOCOLS
from nextword.report.tables import Cell, Table, count, estimate_cell, markdown

GROUP = "main"
"""Group of the models that are shown; all where it is empty."""


def short_form(
    reports: Reports,
    rows: Sequence[Row],
    headline: Sequence[str],
    compared: Sequence[Finding],
    claims: Sequence[Finding],
) -> str:
    """Headline, leaderboard of group ``main`` with the best n-gram model, and the verdicts counted.

    Args:
        reports: for the params.
        rows: the leaderboard, best first.
        headline: sentences.
        compared: findings of the table of GRU against LSTM.
        claims: findings on the other claims of the notes.
    """
    best = best_ngram(reports.ngrams)
    shown = [row for row in rows if row.group == GROUP] or [row for row in rows if row.family == "neural"]
    shown = [row for row in rows if row in shown or row.name == best]
    headings = ("model", *(f"test perplexity, {protocol}" for protocol in PROTOCOLS), "parameters")
    body = tuple(
        (
            Cell(row.name),
            *(estimate_cell(row.figure("perplexity", protocol)) for protocol in PROTOCOLS),
            Cell(count(row.num_parameters), number=True),
        )
        for row in shown
    )
    verdicts = {"GRU against LSTM": compared, "Other claims of the notes": claims}
    counted = [f"- {name}: {counts_text(found)}." for name, found in verdicts.items() if found]
    lines = [*(f"- {sentence}" for sentence in headline), "", markdown(Table("Leaderboard", headings, body), level=3)]
    return "\n".join([*lines, *counted]) + "\n"
