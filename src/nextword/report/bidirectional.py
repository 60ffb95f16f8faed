"""Bidirectional models, apart from all others: what they have is a pseudo-perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextword.report.collect import Reports
from nextword.report.leaderboard import Row, neural_row
from nextword.report.schema import PROTOCOLS
from nextword.report.tables import DASH, Cell, Table, count, estimate_cell, flat_estimate, seeds_cell


@dataclass(frozen=True)
class Pair:
    """A bidirectional model and the left-to-right one that is most like it."""

    bidirectional: Row
    counterpart: Row | None


def bidirectional_pairs(reports: Reports) -> list[Pair]:
    """All bidirectional models in the order of params.yaml."""
    confidence = reports.params.compare.confidence

    def row(name: str) -> Row:
        return neural_row(reports.neural[name], reports.params.models[name].group, confidence)

    pairs = []
    for name in reports.bidirectional:
        other = _counterpart(reports, name)
        pairs.append(Pair(row(name), None if other is None else row(other)))
    return pairs


def _counterpart(reports: Reports, name: str) -> str | None:
    """Of the left-to-right models of the same kind one of the same group, if any; of those the one set most alike."""
    models = reports.params.models
    settings = models[name].model_dump()

    def likeness(other: str) -> tuple[bool, int]:
        theirs = models[other].model_dump()
        return theirs["group"] == settings["group"], sum(theirs[key] == value for key, value in settings.items())

    same_kind = [other for other in reports.left_to_right if models[other].kind == models[name].kind]
    return max(same_kind, key=likeness, default=None)


def bidirectional_table(reports: Reports, pairs: list[Pair]) -> Table:
    """A row a bidirectional model, the figures of its counterpart to the right."""
    headings = (
        "model", *(f"pseudo-perplexity of test, {p}" for p in PROTOCOLS), "parameters", "seeds",
        "left-to-right model", *(f"its perplexity (another task), {p}" for p in PROTOCOLS), "its parameters",
    )  # fmt: skip
    body = tuple(
        (
            Cell(row.name, f"({row.kind})" if row.kind != row.name else ""),
            *(estimate_cell(row.figure("perplexity", p)) for p in PROTOCOLS),
            Cell(count(row.num_parameters), number=True),
            seeds_cell(row.seeds, row.diverged),
            Cell(DASH if other is None else other.name),
            *(estimate_cell(other.figure("perplexity", p) if other else None) for p in PROTOCOLS),
            Cell(count(other.num_parameters if other else None), number=True),
        )
        for row, other in ((pair.bidirectional, pair.counterpart) for pair in pairs)
    )
    return Table("Bidirectional models: pseudo-perplexity", headings, body, _notes(reports))


def _notes(reports: Reports) -> tuple[str, ...]:
    return (
        "Pseudo-perplexity: each word is predicted from the words on both sides of it, never from itself. The product "
        "of these probabilities is not the probability of the text, so the figure is no perplexity: it ranks nowhere "
        "among the other models, and no ratio to their figures is given.",
        "Beside each model stands the left-to-right model of the same kind that is most like it, which predicts a word "
        "from the words before it alone. The two figures are of different tasks: the first says how well a gap is "
        "filled, the second how well a text is continued.",
        "reset: each line alone, both sides within it. stateful: the whole document on both sides.",
        f"[low, high] is the {100 * reports.params.compare.confidence:g}% t-interval over seeds.",
    )


def bidirectional_records(pairs: list[Pair]) -> list[dict[str, Any]]:
    """Flat records, the same keys in each, for CSV and JSON."""
    records = []
    for pair in pairs:
        row, other = pair.bidirectional, pair.counterpart
        record: dict[str, Any] = {
            "name": row.name,
            "kind": row.kind,
            "group": row.group,
            "seeds": " ".join(map(str, row.seeds)),
            "diverged": " ".join(map(str, row.diverged)),
            "num_parameters": row.num_parameters,
        }
        for p in PROTOCOLS:
            record |= flat_estimate(f"test_pseudo_perplexity_{p}", row.figure("perplexity", p))
        record |= {
            "counterpart": other.name if other else None,
            "counterpart_num_parameters": other.num_parameters if other else None,
        }
        for p in PROTOCOLS:
            record |= flat_estimate(f"counterpart_perplexity_{p}", other.figure("perplexity", p) if other else None)
        records.append(record)
    return records


def bidirectional_tree(reports: Reports, pairs: list[Pair]) -> dict[str, Any]:
    """The table as written to JSON."""
    return {
        "confidence": reports.params.compare.confidence,
        "notes": list(_notes(reports)),
        "rows": bidirectional_records(pairs),
    }
