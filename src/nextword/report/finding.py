"""One claim of the notes, what was measured of it, and the verdict by a rule stated beforehand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from statistics import median
from typing import Any, Literal, get_args

from nextword.evaluation.statistics import Difference, Estimate, at_least, difference, mean_interval
from nextword.report.leaderboard import exp_estimate
from nextword.report.tables import DASH, TIMES, Cell, Table, count, flat_estimate, interval, number, ratio_parts

Verdict = Literal["supported", "contradicted", "undecided", "not tested"]
Reading = Literal["higher", "lower", "equal", "not higher", "not lower", "much higher", "slightly higher"]
Scale = Literal["ratio", "difference", "exact"]
Basis = Literal["interval", "count", "a beyond chance", "b beyond chance", "nothing"]
"""What a verdict follows from: the interval of the difference; the difference itself, which was counted; that every
seed of one side alone is worse than a uniform guess, so that it counts as infinitely high; nothing that compares."""


@dataclass(frozen=True)
class Claim:
    """What the notes say."""

    title: str
    """The property, or the topic."""
    text: str
    """The notes' words, translated from ``reference/lecture-notes-zh.md``."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared."""

    name: str
    value: Estimate | None


@dataclass(frozen=True)
class Finding:
    """A measurement that speaks to a claim: two sides and their difference.

    The claim is read as: ``a`` is higher (lower, equal, not higher, ...) than ``b``.
    """

    key: str
    claim: Claim
    measured: str
    """What was measured, with its unit."""
    a: Side
    b: Side
    reading: Reading
    scale: Scale
    """ratio: ``difference`` is of natural logarithms, shown as a / b; difference: shown as a - b; exact: counted."""
    difference: Difference | None
    verdict: Verdict
    margin: float = 0.0
    """Practical margin on the scale of the difference (of logarithms for a ratio)."""
    effect: float | None = None
    """Standardised effect size, where there is one."""
    condition: str = ""
    """Under what the two were made alike: equal hidden size, equal parameters."""
    form: Callable[[float | None], str] = number
    note: str = ""
    """Why there is no verdict, or what it rests on."""
    sources: tuple[str, ...] = ()
    """Stages whose reports it was made from: ``train@lstm``."""
    basis: Basis = "interval"


def judge(reading: Reading, difference: Difference | None, margin: float = 0.0, *, exact: bool = False) -> Verdict:
    """The rule. With [low, high] the interval of a - b and m the practical margin:

    - higher: supported where low > m, contradicted where high < -m; lower: the same with a and b exchanged;
    - the other readings claim a range: supported where the interval lies within it, contradicted where wholly outside.
      Equal: [-m, m]; not higher: up to m; much higher: above m; slightly higher: [0, m]; not lower: as not higher, with
      a and b exchanged;
    - else undecided: the interval crosses zero or the margin, or there is none (one seed).

    An exact count has no interval: its difference is both ends, and one that is not on the claimed side contradicts.
    """
    if difference is None:
        return "undecided"
    low, high = (difference.mean, difference.mean) if exact else (difference.low, difference.high)
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "undecided"
    if reading in ("lower", "not lower"):
        low, high = -high, -low
    if reading in ("higher", "lower"):
        supported, contradicted = low > margin, high <= 0 if exact else high < -margin
    else:
        above = math.nextafter(margin, math.inf)  # the margin itself is not much
        floor = {"equal": -margin, "slightly higher": 0.0, "much higher": above}.get(reading, -math.inf)
        ceiling = math.inf if reading == "much higher" else margin
        supported, contradicted = floor <= low and high <= ceiling, high < floor or low > ceiling
    return "supported" if supported else "contradicted" if contradicted else "undecided"


def judge_by(basis: Basis, reading: Reading, difference: Difference | None, margin: float = 0.0) -> Verdict:
    """The rule on whatever the verdict follows from; nothing leaves a claim undecided."""
    beyond = {"a beyond chance": math.inf, "b beyond chance": -math.inf, "nothing": math.nan}.get(basis)
    if beyond is not None:
        difference = Difference(beyond, beyond, beyond, "none")
    return judge(reading, difference, margin, exact=basis == "count")


def counted(
    key: str, claim: Claim, measured: str, a: tuple[str, float], b: tuple[str, float], reading: Reading
) -> Finding:
    """A finding of exact numbers, each with the name of its side: nothing was drawn, so nothing has an interval."""
    gap = Difference(a[1] - b[1], None, None, "none")
    one, other = (Side(name, Estimate(value, None, None, 1)) for name, value in (a, b))
    verdict = judge(reading, gap, exact=True)
    return Finding(key, claim, measured, one, other, reading, "exact", gap, verdict, form=count, basis="count")


def over_seeds(
    key: str,
    claim: Claim,
    measured: str,
    a: tuple[str, Mapping[int, float]],
    b: tuple[str, Mapping[int, float]],
    reading: Reading,
    scale: Scale,
    *,
    margin: float = 0.0,
    step: float = 0.0,
    confidence: float = 0.95,
) -> Finding:
    """A finding of numbers by seed, each mapping with the name of its side; the seeds are paired.

    Args:
        key: of the finding.
        claim: what the notes say.
        measured: what the numbers are.
        a: natural logarithms where ``scale`` is a ratio. No verdict where it is empty, or infinite (beyond measure).
        b: the same.
        reading: how the claim reads.
        scale: ratio or difference.
        margin: on the scale of the difference.
        step: of counts, on that scale: see :func:`nextword.evaluation.statistics.at_least`.
        confidence: of the intervals.
    """
    assert scale != "exact"
    beyond = math.inf in (*a[1].values(), *b[1].values())
    middles = [[median(values.values())] if beyond and values else list(values.values()) for _, values in (a, b)]
    one, other = (Side(side[0], side_estimate(of, scale, confidence)) for side, of in zip((a, b), middles, strict=True))
    gap = at_least(difference(a[1], b[1], confidence, pair=True), step) if a[1] and b[1] and not beyond else None
    words = "one seed a side" if gap is not None and gap.method == "none" else ""
    if gap is not None and gap.seeds and a[1].keys() != b[1].keys():
        words = f"difference over the seeds of both: {', '.join(map(str, gap.seeds))}"
    return Finding(
        key, claim, measured, one, other, reading, scale, gap, judge(reading, gap, margin), margin,
        note=_beyond(a[1], b[1]) if beyond else words, basis="nothing" if beyond else "interval",
    )  # fmt: skip


def _beyond(*sides: Mapping[int, float]) -> str:
    """How many seeds lie beyond what was measured, in words."""
    counts = [f"{list(side.values()).count(math.inf)} of {len(side)}" for side in sides]
    return f"seeds beyond what was measured: {' and '.join(counts)}; the figures are medians"


def side_estimate(values: Sequence[float], scale: Scale, confidence: float) -> Estimate | None:
    """Mean and t-interval of values; of logarithms, taken back, where the scale is a ratio; none of infinite ones."""
    if not values:
        return None
    if math.inf in values:
        return Estimate(math.inf, None, None, len(values))
    estimate = mean_interval(values, confidence)
    return exp_estimate(estimate) if scale == "ratio" else estimate


def not_tested(key: str, claim: Claim, why: str) -> Finding:
    """A claim on which nothing here can speak, and why."""
    none = Side("", None)
    return Finding(key, claim, "", none, none, "higher", "difference", None, "not tested", note=why, basis="nothing")


# ------------------------------------------------------------------------------------ as people read it


def difference_parts(finding: Finding) -> tuple[str, str]:
    """A ratio as a factor, ``x0.95``, a difference with its sign, ``+0.1``; and the interval, ``[0.93, 0.97]``."""
    gap = finding.difference
    if gap is None:
        return DASH, ""
    if finding.scale == "ratio":
        return ratio_parts(gap)
    if finding.scale == "exact":
        a, b = (side.value.mean if side.value else 0.0 for side in (finding.a, finding.b))
        return _signed(gap.mean, finding.form), f"({TIMES}{number(a / b, 3)})" if b else ""

    def form(value: float | None) -> str:
        return number(value, 3)

    return _signed(gap.mean, form), interval(gap.low, gap.high, form)


def _difference_cell(finding: Finding) -> Cell:
    text, limits = difference_parts(finding)
    return Cell(text, " ".join(filter(None, (limits, effect_text(finding)))), number=True)


def effect_text(finding: Finding) -> str:
    """``d = 0.52``; nothing where there is no effect size."""
    return "" if finding.effect is None else f"d = {number(finding.effect, 2)}"


def _signed(value: float, form: Callable[[float | None], str]) -> str:
    return f"+{form(value)}" if value > 0 else form(value)


def verdict_cell(finding: Finding, rows: int = 1) -> Cell:
    """The verdict with its note."""
    return Cell(finding.verdict, f"({finding.note})" if finding.note else "", tone=_tone(finding.verdict), rows=rows)


def _tone(verdict: Verdict) -> str:
    return verdict.replace(" ", "-")


def side_cell(side: Side, form: Callable[[float | None], str]) -> Cell:
    """The value with its name and its interval below."""
    if side.value is None:
        return Cell(DASH, side.name, number=True)
    limits = interval(side.value.low, side.value.high, form)
    return Cell(form(side.value.mean), f"{side.name} {limits}".strip(), number=True)


def findings_table(caption: str, findings: Sequence[Finding], notes: Sequence[str] = ()) -> Table:
    """Findings in the order given, those of one claim under one another; one line each."""
    headings = ("what the notes say", "measured", "first", "second", "first against second", "verdict")
    body: list[tuple[Cell | None, ...]] = []
    for claim, group in groupby(findings, key=attrgetter("claim")):
        of_claim = list(group)
        for index, finding in enumerate(of_claim):
            first = Cell(claim.title, claim.text, bold=True, rows=len(of_claim)) if index == 0 else None
            cells = (
                Cell(finding.measured or DASH, f"({finding.condition})" if finding.condition else ""),
                side_cell(finding.a, finding.form),
                side_cell(finding.b, finding.form),
                _difference_cell(finding),
                verdict_cell(finding),
            )
            body.append((first, *cells))
    return Table(caption, headings, tuple(body), tuple(notes))


def findings_records(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Flat records, the same keys in each, for CSV and JSON; differences of ratios are of logarithms.

    Each verdict is ``judge_by`` of its record's basis, reading, difference and margin, but for what is not tested.
    """
    return [_record(finding) for finding in findings]


def _record(finding: Finding) -> dict[str, Any]:
    gap, ratio = finding.difference, finding.scale == "ratio"
    ends = Estimate(gap.mean, gap.low, gap.high, 1) if gap else None
    record: dict[str, Any] = {
        "key": finding.key,
        "property": finding.claim.title,
        "claim": finding.claim.text,
        "measured": finding.measured,
        "condition": finding.condition,
    }
    for name, side in (("a", finding.a), ("b", finding.b)):
        values = side.value.count if side.value else 0
        record |= {f"{name}_name": side.name} | flat_estimate(name, side.value) | {f"{name}_count": values}
    record |= flat_estimate("difference", ends) | flat_estimate("ratio", exp_estimate(ends) if ends and ratio else None)
    record |= {
        "difference_of": "logarithms" if ratio else "values",
        "method": gap.method if gap else None,
        "paired_seeds": " ".join(map(str, gap.seeds)) if gap else "",
        "effect": finding.effect,
        "reading": finding.reading,
        "margin": finding.margin,
        "basis": finding.basis,
        "verdict": finding.verdict,
        "note": finding.note,
        "sources": " ".join(finding.sources),
    }
    return record


def verdict_counts(findings: Sequence[Finding]) -> dict[Verdict, int]:
    """How many findings have each verdict, none left out."""
    found = Counter(finding.verdict for finding in findings)
    return {verdict: found[verdict] for verdict in get_args(Verdict)}


def counts_text(findings: Sequence[Finding]) -> str:
    """``3 supported, 1 contradicted``; verdicts that no finding has are left out."""
    return ", ".join(f"{many} {verdict}" for verdict, many in verdict_counts(findings).items() if many)
