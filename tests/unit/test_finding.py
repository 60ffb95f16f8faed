"""Findings: the rule, and how they are written."""

from __future__ import annotations

import math

import pytest

from nextword.evaluation.statistics import Difference, Estimate
from nextword.report.finding import (
    Claim,
    Finding,
    Reading,
    Side,
    counted,
    counts_text,
    findings_records,
    findings_table,
    judge,
    judge_by,
    not_tested,
    over_seeds,
    verdict_counts,
)
from nextword.report.tables import markdown

MANY, FAST = Claim("Parameters", "many against few"), Claim("Speed", "slow against fast")


def gap(mean: float, half: float | None) -> Difference:
    if half is None:
        return Difference(mean, None, None, "none")
    return Difference(mean, mean - half, mean + half, "paired t", (0, 1))


@pytest.mark.parametrize(
    ("reading", "difference", "margin", "verdict"),
    [
        ("higher", gap(1.0, 0.5), 0.0, "supported"),
        ("higher", gap(-1.0, 0.5), 0.0, "contradicted"),
        ("higher", gap(1.0, 1.5), 0.0, "undecided"),
        ("higher", gap(1.0, 1.0), 0.0, "undecided"),  # the interval holds zero at its end
        ("higher", gap(0.0, 0.0), 0.0, "undecided"),
        ("higher", gap(1.0, 0.5), 0.6, "undecided"),  # not beyond the margin
        ("higher", gap(9.0, None), 0.0, "undecided"),  # one seed decides nothing
        ("higher", None, 0.0, "undecided"),
        ("higher", Difference(math.inf, math.nan, math.nan, "none"), 0.0, "undecided"),
        ("lower", gap(-1.0, 0.5), 0.0, "supported"),
        ("lower", gap(1.0, 0.5), 0.0, "contradicted"),
        ("lower", gap(-1.0, 1.5), 0.0, "undecided"),
        ("equal", gap(0.0, 0.5), 0.6, "supported"),
        ("equal", gap(2.0, 0.5), 0.6, "contradicted"),
        ("equal", gap(-2.0, 0.5), 0.6, "contradicted"),
        ("equal", gap(0.5, 0.5), 0.6, "undecided"),
        ("not higher", gap(-1.0, 0.5), 0.0, "supported"),
        ("not higher", gap(0.01, 0.005), 0.02, "supported"),
        ("not higher", gap(0.03, 0.005), 0.02, "contradicted"),
        ("not higher", gap(0.02, 0.005), 0.02, "undecided"),
        ("not lower", gap(1.0, 0.5), 0.0, "supported"),
        ("not lower", gap(-0.03, 0.005), 0.02, "contradicted"),
        ("not lower", gap(-0.01, 0.005), 0.02, "supported"),
        ("much higher", gap(0.04, 0.01), 0.02, "supported"),
        ("much higher", gap(0.01, 0.005), 0.02, "contradicted"),  # higher, but not by much
        ("much higher", gap(-0.04, 0.01), 0.02, "contradicted"),
        ("much higher", gap(0.02, 0.01), 0.02, "undecided"),
        ("much higher", None, 0.02, "undecided"),
        ("slightly higher", gap(0.01, 0.005), 0.02, "supported"),
        ("slightly higher", gap(0.03, 0.005), 0.02, "contradicted"),  # by more than that
        ("slightly higher", gap(-0.01, 0.005), 0.02, "contradicted"),  # lower, if by little
        ("slightly higher", gap(0.0, 0.005), 0.02, "undecided"),
        ("slightly higher", gap(0.02, 0.005), 0.02, "undecided"),
        ("slightly higher", gap(0.01, None), 0.02, "undecided"),
    ],
)
def test_the_rule(reading: Reading, difference: Difference | None, margin: float, verdict: str) -> None:
    assert judge(reading, difference, margin) == verdict


@pytest.mark.parametrize(
    ("reading", "mean", "verdict"),
    [
        ("higher", 1.0, "supported"), ("higher", 0.0, "contradicted"), ("higher", -1.0, "contradicted"),
        ("lower", -1.0, "supported"), ("lower", 0.0, "contradicted"), ("equal", 0.0, "supported"),
        ("equal", 1.0, "contradicted"), ("not higher", 0.0, "supported"), ("not higher", 1.0, "contradicted"),
    ],
)  # fmt: skip
def test_a_count_needs_no_interval(reading: Reading, mean: float, verdict: str) -> None:
    assert judge(reading, gap(mean, None), exact=True) == verdict


@pytest.mark.parametrize(
    ("reading", "of_a", "of_b"),
    [
        ("higher", "supported", "contradicted"), ("lower", "contradicted", "supported"),
        ("equal", "contradicted", "contradicted"), ("not higher", "contradicted", "supported"),
        ("not lower", "supported", "contradicted"), ("much higher", "supported", "contradicted"),
        ("slightly higher", "contradicted", "contradicted"),
    ],
)  # fmt: skip
def test_a_side_beyond_chance_counts_as_infinitely_high(reading: Reading, of_a: str, of_b: str) -> None:
    difference = gap(0.01, 0.005)  # whatever the interval
    assert judge_by("a beyond chance", reading, difference, 0.02) == of_a
    assert judge_by("b beyond chance", reading, None, 0.02) == of_b
    assert judge_by("nothing", reading, difference, 0.02) == "undecided"


def test_counts_are_compared_directly() -> None:
    finding = counted("total", MANY, "parameters", ("lstm", 400), ("gru", 300), "higher")
    assert finding.verdict == "supported" and finding.a == Side("lstm", Estimate(400, None, None, 1))
    (row,) = findings_table("t", [finding]).rows
    assert [cell.text for cell in row[2:] if cell] == ["400", "300", "+100", "supported"]
    assert row[4] is not None and row[4].under == "(×1.33)"  # noqa: RUF001


def test_seeds_are_paired_and_ratios_taken_back() -> None:
    a, b = {0: math.log(110.0), 1: math.log(121.0)}, {0: math.log(100.0), 1: math.log(110.0)}
    finding = over_seeds("speed", FAST, "tokens a second", ("lstm", a), ("gru", b), "higher", "ratio")
    assert finding.verdict == "supported" and finding.difference is not None
    assert finding.difference.method == "paired t" and finding.difference.mean == pytest.approx(math.log(1.1))
    assert finding.b.value is not None and finding.b.value.mean == pytest.approx(math.sqrt(100.0 * 110.0))
    (record,) = findings_records([finding])
    assert record["ratio"] == pytest.approx(1.1) and record["difference_of"] == "logarithms"
    assert record["paired_seeds"] == "0 1" and record["a_count"] == 2


def test_one_seed_or_none_decides_nothing() -> None:
    one = over_seeds("gap", FAST, "gap", ("a", {0: 2.0}), ("b", {0: 1.0}), "higher", "difference")
    assert one.verdict == "undecided" and one.note == "one seed a side"
    none = over_seeds("gap", FAST, "gap", ("a", {}), ("b", {0: 1.0}), "higher", "difference")
    assert none.verdict == "undecided" and none.a.value is None and none.difference is None


def several() -> list[Finding]:
    return [
        counted("recurrent", MANY, "recurrent", ("lstm", 4), ("gru", 3), "higher"),
        counted("total", MANY, "total", ("lstm", 3), ("gru", 4), "higher"),
        not_tested("proof", FAST, "a definition"),
    ]


def test_findings_of_one_claim_stand_under_it() -> None:
    table = findings_table("Claims", several(), ["a note"])
    assert [row[0].rows if row[0] else 0 for row in table.rows] == [2, 0, 1]
    text = markdown(table)
    assert "not tested (a definition)" in text and "- a note" in text


def test_every_record_has_the_same_keys_and_verdicts_are_counted() -> None:
    records = findings_records(several())
    assert len({tuple(record) for record in records}) == 1
    assert verdict_counts(several()) == {"supported": 1, "contradicted": 1, "undecided": 0, "not tested": 1}
    assert counts_text(several()) == "1 supported, 1 contradicted, 1 not tested"
