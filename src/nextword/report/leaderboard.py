"""All models in one table, scored on the same targets of test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.collect import Neural, Reports
from nextword.report.schema import PROTOCOLS, Metrics, NgramEntry, Protocol
from nextword.report.tables import Cell, Table, count, estimate_cell, exp, flat_estimate, number, percent, seeds_cell

METRICS = (
    "perplexity",
    "perplexity_without_oov",
    "bits_per_byte",
    "perplexity_per_word",
    "top1_accuracy",
    "top5_accuracy",
)
"""Figures of test in every row, by their names in the reports."""
LOGARITHMIC = frozenset({"perplexity", "perplexity_without_oov", "perplexity_per_word"})
"""Averaged over seeds as logarithms: nats are what is measured."""
HIGHER_IS_BETTER = frozenset({"top1_accuracy", "top5_accuracy"})


@dataclass(frozen=True)
class Row:
    """One model, or one smoothing at one order."""

    name: str
    family: str
    """``neural`` or ``n-gram``."""
    group: str
    """Group of the model in params.yaml; ``n-gram`` for an n-gram model."""
    kind: str
    """Kind of the model; of an n-gram model its smoothing."""
    order: int | None
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    protocol: Protocol
    """The protocol of :attr:`rank_perplexity`: stateful where the model was scored so."""
    test: dict[Protocol, dict[str, Estimate | None]]
    """Figures of test by protocol and name."""
    valid_perplexity: Estimate | None
    """Under :attr:`protocol`."""
    num_parameters: int | None
    training_seconds: Estimate | None
    num_infinite: int = 0
    """Targets of test to which the model gives probability zero."""
    in_table: bool = True
    """False for the orders of a smoothing that valid did not choose."""

    @property
    def rank_perplexity(self) -> float:
        """Test perplexity by which the rows are sorted."""
        estimate = self.test.get(self.protocol, {}).get("perplexity")
        return math.inf if estimate is None else estimate.mean

    def figure(self, name: str, protocol: Protocol | None = None) -> Estimate | None:
        """A figure of test under ``protocol``, else under the row's own."""
        return self.test.get(protocol or self.protocol, {}).get(name)


def leaderboard(reports: Reports) -> list[Row]:
    """All rows, best first: stateful test perplexity where a model has it, else reset.

    A bidirectional model has none: its pseudo-perplexity is not a probability of the text.
    """
    confidence = reports.params.compare.confidence
    chosen = {entry.smoothing: name for name, entry in best_orders(reports.ngrams).items()}
    rows = [
        neural_row(model, reports.params.models[name].group, confidence)
        for name, model in reports.left_to_right.items()
    ]
    rows += [_ngram_row(name, entry, chosen[entry.smoothing] == name) for name, entry in reports.ngrams.items()]
    return sorted(rows, key=lambda row: row.rank_perplexity)


def best_orders(ngrams: Mapping[str, NgramEntry]) -> dict[str, NgramEntry]:
    """For each smoothing the order with the least perplexity on valid (never on test); ties go to the lower order."""
    best: dict[str, tuple[tuple[float, int, int], str]] = {}
    for name, entry in ngrams.items():
        metrics = entry.splits["valid"]["reset"]
        key = (metrics.log_perplexity, metrics.num_infinite, entry.order)
        if entry.smoothing not in best or key < best[entry.smoothing][0]:
            best[entry.smoothing] = (key, name)
    return {name: ngrams[name] for _, name in best.values()}


def best_ngram(ngrams: Mapping[str, NgramEntry]) -> str | None:
    """Name of the n-gram model with the least perplexity on valid; None where all are infinite or there is none."""
    finite = {name: entry.splits["valid"]["reset"].log_perplexity for name, entry in best_orders(ngrams).items()}
    name = min(finite, key=lambda name: finite[name], default=None)
    return None if name is None or math.isinf(finite[name]) else name


def estimate_metric(metrics: Mapping[int, Metrics], name: str, confidence: float) -> Estimate | None:
    """Mean of one figure over seeds with its interval; of perplexities the geometric mean. None where absent."""
    values = [
        exp(scores.log_perplexity) if name == "perplexity" else getattr(scores, name) for scores in metrics.values()
    ]
    if not values or any(value is None for value in values):
        return None
    if any(math.isinf(value) for value in values):
        return Estimate(math.inf, None, None, len(values))
    if name not in LOGARITHMIC:
        return mean_interval(values, confidence)
    return exp_estimate(mean_interval([math.log(value) for value in values], confidence))


def exp_estimate(estimate: Estimate) -> Estimate:
    """An estimate of logarithms, taken back."""
    low, high = (None if limit is None else exp(limit) for limit in (estimate.low, estimate.high))
    return Estimate(exp(estimate.mean), low, high, estimate.count)


def neural_row(model: Neural, group: str, confidence: float) -> Row:
    """The row of a neural model: means over its finished seeds."""
    scores = {protocol: model.metrics("test", protocol) for protocol in PROTOCOLS}
    protocol: Protocol = "stateful" if scores["stateful"] or not scores["reset"] else "reset"
    seconds = [math.log(value) for value in model.speed("seconds").values() if value > 0]
    return Row(
        name=model.name,
        family="neural",
        group=group,
        kind=model.train.kind,
        order=None,
        seeds=model.seeds,
        diverged=model.diverged,
        protocol=protocol,
        test={
            p: {name: estimate_metric(scores[p], name, confidence) for name in METRICS} for p in PROTOCOLS if scores[p]
        },
        valid_perplexity=estimate_metric(model.metrics("valid", protocol), "perplexity", confidence),
        num_parameters=model.train.num_parameters.total,
        training_seconds=exp_estimate(mean_interval(seconds, confidence)) if seconds else None,
    )


def _ngram_row(name: str, entry: NgramEntry, in_table: bool) -> Row:
    test = entry.splits["test"]["reset"]
    return Row(
        name=name,
        family="n-gram",
        group="n-gram",
        kind=entry.smoothing,
        order=entry.order,
        seeds=(),
        diverged=(),
        protocol="reset",
        test={"reset": {metric: estimate_metric({0: test}, metric, 0.95) for metric in METRICS}},
        valid_perplexity=estimate_metric({0: entry.splits["valid"]["reset"]}, "perplexity", 0.95),
        num_parameters=entry.num_parameters,
        training_seconds=None if entry.seconds is None else mean_interval([entry.seconds]),
        num_infinite=test.num_infinite,
        in_table=in_table,
    )


def leaderboard_records(rows: list[Row]) -> list[dict[str, Any]]:
    """Flat records of all rows, the same keys in each, for CSV."""
    records = []
    for row in rows:
        record: dict[str, Any] = {
            "name": row.name,
            "family": row.family,
            "group": row.group,
            "kind": row.kind,
            "order": row.order,
            "in_table": str(row.in_table).lower(),
            "seeds": " ".join(map(str, row.seeds)),
            "diverged": " ".join(map(str, row.diverged)),
            "ranked_by": row.protocol,
            "num_parameters": row.num_parameters,
            "num_infinite": row.num_infinite,
        }
        record |= flat_estimate("training_seconds", row.training_seconds)
        record |= flat_estimate("valid_perplexity", row.valid_perplexity)
        for protocol in PROTOCOLS:
            for name in METRICS:
                record |= flat_estimate(f"test_{name}_{protocol}", row.figure(name, protocol))
        records.append(record)
    return records


def leaderboard_tree(reports: Reports, rows: list[Row]) -> dict[str, Any]:
    """The leaderboard as written to JSON."""
    return {
        "num_targets": reports.num_targets,
        "confidence": reports.params.compare.confidence,
        "notes": list(_notes(reports, rows)),
        "rows": [asdict(row) for row in rows],
    }


@dataclass(frozen=True)
class Column:
    """One column of the table: where its figures come from and how they read."""

    heading: str
    value: Callable[[Row], Estimate | None]
    form: Callable[[float | None], str]
    best: Callable[..., float] | None = None
    """min or max: the best figure is bold; None where no figure is the better one."""


def _columns() -> list[Column]:
    columns = [
        Column("test perplexity, stateful", lambda row: row.figure("perplexity", "stateful"), number, min),
        Column("test perplexity, reset", lambda row: row.figure("perplexity", "reset"), number, min),
    ]
    headings = {
        "perplexity_without_oov": ("without OOV", number),
        "bits_per_byte": ("bits a byte", number),
        "perplexity_per_word": ("per word", number),
        "top1_accuracy": ("top-1", percent),
        "top5_accuracy": ("top-5", percent),
    }
    for name, (heading, form) in headings.items():
        best = max if name in HIGHER_IS_BETTER else min
        columns.append(Column(heading, lambda row, name=name: row.figure(name), form, best))  # type: ignore[misc]
    return [*columns, Column("training seconds", lambda row: row.training_seconds, _seconds)]


def _seconds(value: float | None) -> str:
    return "<0.01" if value is not None and 0 <= value < 0.01 else number(value, 3)


def leaderboard_table(reports: Reports, rows: list[Row]) -> Table:
    """The rows that are shown: every neural model, every smoothing at its best order."""
    shown = [row for row in rows if row.in_table]
    columns = _columns()
    winners = [_winner(column, shown) for column in columns]
    body = []
    for row in shown:
        cells = [_label(row)]
        for column, winner in zip(columns, winners, strict=True):
            estimate = column.value(row)
            bold = estimate is not None and column.form(estimate.mean) == winner
            cells.append(estimate_cell(estimate, column.form, bold=bold))
        body.append((*cells, Cell(count(row.num_parameters), number=True), seeds_cell(row.seeds, row.diverged)))
    headings = ("model", *(column.heading for column in columns), "parameters", "seeds")
    return Table("Leaderboard", headings, tuple(body), _notes(reports, rows))


def _winner(column: Column, rows: list[Row]) -> str | None:
    estimates = [estimate for row in rows if (estimate := column.value(row)) is not None]
    finite = [estimate.mean for estimate in estimates if math.isfinite(estimate.mean)]
    return column.form(column.best(finite)) if column.best and finite else None


def _label(row: Row) -> Cell:
    if row.family == "neural":
        return Cell(row.name, "" if row.group == "main" else f"({row.group})")
    infinite = f"({count(row.num_infinite)} targets with probability 0)" if row.num_infinite else ""
    return Cell(f"{row.kind} {row.order}", infinite)


def _notes(reports: Reports, rows: list[Row]) -> tuple[str, ...]:
    level = f"{100 * reports.params.compare.confidence:g}%"
    notes = [
        f"All rows score the same {count(reports.num_targets)} targets of test, each once.",
        "Rows are sorted by test perplexity: stateful where the model was scored so, else reset. The two columns are "
        "different protocols: stateful carries the state across the lines of a document, reset starts each line anew. "
        "n-gram models never look across a line, so theirs is reset; to compare like with like, read the reset column. "
        "Columns right of the two, up to top-5, are under the protocol by which the row is sorted.",
        f"[low, high] is the {level} t-interval over seeds; no brackets: one seed, or nothing random. Perplexities and "
        "seconds are averaged as logarithms (geometric mean), seconds over the seeds with as many threads as most. "
        "Bold: best of the column.",
    ]
    if any(row.family == "n-gram" for row in rows):
        notes.append(
            "Of each smoothing the order with the least perplexity on valid is shown; all orders are in the JSON and "
            "CSV files. Their seconds are for estimating."
        )
    if any(row.group not in ("main", "n-gram") for row in rows):
        notes.append(
            "In brackets below a model: its group, where that is not main. Models of one group compare; from group to "
            "group sizes and settings may differ."
        )
    if reports.bidirectional:
        notes.append(f"Not here but in a table of their own, as bidirectional: {', '.join(reports.bidirectional)}.")
    if diverged := [row.name for row in rows if row.diverged]:
        notes.append(f"Diverged seeds are left out of every mean: {', '.join(diverged)}.")
    return tuple(notes)
