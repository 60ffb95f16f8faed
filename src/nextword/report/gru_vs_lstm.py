"""LSTM against GRU: the notes' claims, what was measured, and a verdict by a rule stated beforehand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nextword.evaluation.statistics import Difference, Estimate, difference, mean_interval
from nextword.report.claims import COMPARABLE, MEASUREMENTS, Measurement, Values
from nextword.report.collect import Neural, Reports
from nextword.report.leaderboard import exp_estimate
from nextword.report.tables import (
    DASH,
    TIMES,
    Cell,
    Table,
    estimate_cell,
    estimate_text,
    flat_estimate,
    interval,
    number,
    ratio_parts,
)

Verdict = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True)
class ComparisonRow:
    """One measurement of the LSTM and one GRU."""

    measurement: Measurement
    gru_name: str
    lstm: Estimate | None
    gru: Estimate | None
    difference: Difference | None
    """LSTM less GRU on the scale of the measurement: of logarithms where it is a ratio."""
    verdict: Verdict
    note: str = ""

    def value_text(self, estimate: Estimate | None) -> str:
        """An estimate as the table shows it."""
        return estimate_text(estimate, self.measurement.form)

    @property
    def difference_parts(self) -> tuple[str, str]:
        """A ratio as a factor, ``x0.95``, a difference with its sign, ``+0.1``; and the interval, ``[0.93, 0.97]``."""
        if self.difference is None:
            return DASH, ""
        mean, low, high = self.difference.mean, self.difference.low, self.difference.high
        if self.measurement.scale == "ratio":
            return ratio_parts(self.difference)
        if self.measurement.scale == "exact":
            ratio = self.lstm.mean / self.gru.mean if self.lstm and self.gru and self.gru.mean else math.nan
            return f"{mean:+,.0f}", "" if math.isnan(ratio) else f"({TIMES}{number(ratio, 3)})"
        return f"{mean:+.3g}", interval(low, high, lambda limit: number(limit, 3))


@dataclass(frozen=True)
class Comparison:
    """The whole table."""

    lstm: str | None
    grus: tuple[str, ...]
    rows: tuple[ComparisonRow, ...]
    summary: tuple[str, ...]
    notes: tuple[str, ...]


def compare_gru_lstm(reports: Reports) -> Comparison:
    """Measure every claim of the notes on the LSTM and each GRU that ``params.compare`` names and ``models`` has."""
    named = reports.params.compare
    models = reports.left_to_right
    grus = tuple(name for name in named.gru if name in models)
    absent = [
        f"{name} is bidirectional" if name in reports.neural else f"{name} is not under models in params.yaml"
        for name in (named.lstm, *named.gru)
        if name not in models
    ]
    lstm = models.get(named.lstm)
    if lstm is None or not grus:
        wanted = f"an LSTM ({named.lstm}) and at least one GRU ({', '.join(named.gru) or 'none named'})"
        note = f"This table is empty: it needs {wanted}; see compare in params.yaml."
        return Comparison(lstm.name if lstm else None, grus, (), (note,), tuple(f"{text}." for text in absent))
    rows = tuple(
        row
        for measurement in MEASUREMENTS
        for name in grus
        if (row := _row(measurement, lstm, models[name], named.confidence)) is not None
    )
    summary = tuple(_summary(rows, lstm.name, name) for name in grus)
    notes = (
        *_notes(reports, rows),
        *_conditions(reports, (lstm.name, *grus)),
        *(f"{text}: left out." for text in absent),
    )
    return Comparison(lstm.name, grus, rows, summary, notes)


def judge(measurement: Measurement, gap: Difference) -> Verdict:
    """The rule: the interval of the difference lies on the claimed side, on the other, or on both.

    Exact counts have no interval and are compared directly; an equal count contradicts "more".
    """
    sign = 1.0 if measurement.lstm == "higher" else -1.0
    if measurement.scale == "exact":
        return "supported" if sign * gap.mean > 0 else "contradicted"
    if gap.low is None or gap.high is None:
        return "undecided"
    low, high = sorted((sign * gap.low + measurement.margin, sign * gap.high + measurement.margin))
    return "supported" if low > 0 else "contradicted" if high < 0 else "undecided"


def _row(measurement: Measurement, lstm: Neural, gru: Neural, confidence: float) -> ComparisonRow | None:
    sides: list[Values] = [measurement.values(model) for model in (lstm, gru)]
    a, b = sides
    if a is None or b is None:
        return None
    if isinstance(a, int) or isinstance(b, int):
        assert isinstance(a, int) and isinstance(b, int)
        gap = Difference(float(a - b), None, None, "none")
        ends = (Estimate(float(a), None, None, 1), Estimate(float(b), None, None, 1))
        return ComparisonRow(measurement, gru.name, *ends, gap, judge(measurement, gap))
    estimates = [_estimate(side, measurement, confidence) for side in (a, b)]
    if not a or not b:
        lost = [model.name for model, side in ((lstm, a), (gru, b)) if not side and not model.finished]
        if not lost:
            return None
        note = f"{' and '.join(lost)}: every seed diverged"
        return ComparisonRow(measurement, gru.name, estimates[0], estimates[1], None, "undecided", note)
    gap = difference(a, b, confidence, pair=True)
    verdict, note = judge(measurement, gap), "one seed a side" if gap.method == "none" else ""
    if measurement.speed and (unlike := lstm.unlike(gru)):
        verdict, note = "undecided", f"not like for like: {unlike}"
    return ComparisonRow(measurement, gru.name, estimates[0], estimates[1], gap, verdict, note)


def _estimate(values: dict[int, float], measurement: Measurement, confidence: float) -> Estimate | None:
    if not values:
        return None
    estimate = mean_interval(list(values.values()), confidence)
    return exp_estimate(estimate) if measurement.scale == "ratio" else estimate


def _summary(rows: tuple[ComparisonRow, ...], lstm: str, gru: str) -> str:
    own = [row for row in rows if row.gru_name == gru]
    counts = Counter(row.verdict for row in own)
    by_title: dict[str, set[Verdict]] = {}
    for row in own:
        by_title.setdefault(row.measurement.claim.title.lower(), set()).add(row.verdict)
    groups: dict[str, list[str]] = {"supported": [], "contradicted": [], "undecided": [], "mixed": []}
    for title, verdicts in by_title.items():
        groups[min(verdicts) if len(verdicts) == 1 else "mixed"].append(title)
    sentences = [
        f"{lstm} against {gru}: of {len(own)} measurements, {counts['supported']} support the notes, "
        f"{counts['contradicted']} contradict them and {counts['undecided']} leave the claim undecided.",
        "; ".join(f"{group}: {', '.join(titles)}" for group, titles in groups.items() if titles).capitalize() + ".",
    ]
    test = next((row for row in own if row.measurement.key == "test_perplexity_stateful"), None)
    if test is not None and test.difference is not None:
        values = f"{lstm} {test.value_text(test.lstm)}, {gru} {test.value_text(test.gru)}"
        leads = _who_leads(test.difference, lstm, gru)
        ratio = " ".join(test.difference_parts).rstrip()
        sentences.append(f"Test perplexity, stateful: {values}; {lstm} / {gru} = {ratio}: {leads}.")
    return " ".join(sentences)


def _who_leads(gap: Difference, lstm: str, gru: str) -> str:
    if gap.low is None or gap.high is None:
        return "no interval from one seed, so neither is shown to be better"
    if gap.low > 0:
        return f"{gru} is better"
    return f"{lstm} is better" if gap.high < 0 else "neither is shown to be better"


def _notes(reports: Reports, rows: tuple[ComparisonRow, ...]) -> list[str]:
    level = f"{100 * reports.params.compare.confidence:g}%"
    pairs = sorted({row.difference.seeds for row in rows if row.difference and row.difference.seeds})
    paired = " and ".join(", ".join(map(str, seeds)) for seeds in pairs)
    notes = [
        f"Values are means over seeds with their {level} t-interval; differences are LSTM less GRU, or as a factor "
        f"({TIMES}) LSTM / GRU. Perplexities, speeds and seconds are compared as logarithms (perplexity: mean nats).",
        f"Verdict: supported where the {level} interval of the difference excludes zero on the side that the notes "
        "claim, contradicted where it excludes it on the other, else undecided. Exact counts are compared directly. "
        f"\"Comparable on most tasks\" is read as: the GRU's perplexity is at most {COMPARABLE:.0%} above the LSTM's, "
        "so there the limit is not zero but this margin.",
        "The same seed means the same order of the data and the same share of the machine, so all differences are by "
        f"paired t over the common seeds{f' ({paired})' if paired else ''}, by Welch's t where they share fewer "
        "than two. The intervals cover the spread over seeds alone: not other test text, not other settings. Nothing "
        "is corrected for the number of rows.",
    ]
    if any(row.measurement.speed and row.note for row in rows):
        notes.append(
            "Speeds decide a claim only where both sides ran alike: another engine compares programs, not cells."
        )
    return notes


def _conditions(reports: Reports, names: tuple[str, ...]) -> list[str]:
    """What each side was, so that nobody takes the table for more than it is."""
    lines = []
    for name in names:
        params, model = reports.params.models[name], reports.neural[name]
        engines = "/".join(sorted({run.engine for run in model.runs.values() if run.engine})) or "engine not stated"
        lines.append(
            f"{name}: kind {params.kind}, {params.num_layers} layer(s) of {params.hidden_size}, embedding "
            f"{params.embedding_size}, dropout {params.dropout:g}, learning rate {params.learning_rate:g}, "
            f"engine {engines}; {len(model.finished)} of {len(model.seeds)} seeds finished"
            + (f", diverged: {', '.join(map(str, model.diverged))} (left out of all means)." if model.diverged else ".")
        )
    return lines


def comparison_table(comparison: Comparison) -> Table:
    """The table as people read it: a claim and the LSTM's value stand once, each GRU has a line of its own."""
    claims = Counter(row.measurement.claim for row in comparison.rows)
    measurements = Counter(row.measurement.key for row in comparison.rows)
    body: list[tuple[Cell | None, ...]] = []
    seen: set[object] = set()
    for row in comparison.rows:
        measurement = row.measurement
        claim = measurement.claim
        spanned = [
            (claim, Cell(claim.title, claim.text, bold=True, rows=claims[claim])),
            (measurement.key, Cell(measurement.measured, rows=measurements[measurement.key])),
            (measurement.key, estimate_cell(row.lstm, measurement.form, rows=measurements[measurement.key])),
        ]
        shared = [None if key in seen else cell for key, cell in spanned]
        seen |= {claim, measurement.key}
        own = (
            Cell(row.gru_name),
            estimate_cell(row.gru, measurement.form),
            Cell(*row.difference_parts, number=True),
            Cell(row.verdict, f"({row.note})" if row.note else "", tone=row.verdict),
        )
        body.append((*shared, *own))
    headings = (
        "property, and what the notes say",
        "measured",
        "LSTM",
        "GRU model",
        "GRU",
        "LSTM against GRU",
        "verdict",
    )
    return Table("GRU vs LSTM", headings, tuple(body), comparison.notes)


def comparison_records(comparison: Comparison) -> list[dict[str, Any]]:
    """Flat records of all rows, for CSV and JSON; differences of ratios are of logarithms, with the ratio beside."""
    records = []
    for row in comparison.rows:
        gap, ratio = row.difference, row.measurement.scale == "ratio"
        ends = Estimate(gap.mean, gap.low, gap.high, 1) if gap else None
        record: dict[str, Any] = {
            "key": row.measurement.key,
            "property": row.measurement.claim.title,
            "claim": row.measurement.claim.text,
            "measured": row.measurement.measured,
            "lstm_model": comparison.lstm,
            "gru_model": row.gru_name,
        }
        record |= flat_estimate("lstm", row.lstm) | flat_estimate("gru", row.gru) | flat_estimate("difference", ends)
        record |= flat_estimate("ratio", exp_estimate(ends) if ends and ratio else None)
        record |= {
            "difference_of": "logarithms" if ratio else "values",
            "lstm_seeds": row.lstm.count if row.lstm else 0,
            "gru_seeds": row.gru.count if row.gru else 0,
            "method": gap.method if gap else None,
            "paired_seeds": " ".join(map(str, gap.seeds)) if gap else "",
            "verdict": row.verdict,
            "note": row.note,
        }
        records.append(record)
    return records


def comparison_tree(comparison: Comparison) -> dict[str, Any]:
    """The comparison as written to JSON."""
    head = asdict(Comparison(comparison.lstm, comparison.grus, (), comparison.summary, comparison.notes))
    return {**head, "rows": comparison_records(comparison)}
