"""LSTM against GRU: verdicts by the stated rule."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import edit, make_params, write_reports

from nextword.config import CompareParams
from nextword.evaluation.statistics import Difference
from nextword.report.claims import MEASUREMENTS, Measurement
from nextword.report.collect import collect
from nextword.report.gru_vs_lstm import (
    Comparison,
    compare_gru_lstm,
    comparison_records,
    comparison_table,
    judge,
)

BY_KEY = {measurement.key: measurement for measurement in MEASUREMENTS}


def run(folder: Path, models: tuple[str, ...] = ("lstm", "gru", "gru_reset_after"), **options: Any) -> Comparison:
    diverged = options.pop("diverged", None)
    params = make_params(models, **options)
    return compare_gru_lstm(collect(params, write_reports(folder, params, diverged)))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return run(tmp_path_factory.mktemp("reports"))


def verdicts(comparison: Comparison, gru: str) -> dict[str, str]:
    return {row.measurement.key: row.verdict for row in comparison.rows if row.gru_name == gru}


def gap(mean: float, half: float | None) -> Difference:
    if half is None:
        return Difference(mean, None, None, "none")
    return Difference(mean, mean - half, mean + half, "paired t", (0, 1))


HIGHER = replace(BY_KEY["gap"], lstm="higher")
LOWER = replace(BY_KEY["gap"], lstm="lower")


@pytest.mark.parametrize(
    ("measurement", "difference", "verdict"),
    [
        (HIGHER, gap(1.0, 0.5), "supported"),
        (HIGHER, gap(-1.0, 0.5), "contradicted"),
        (HIGHER, gap(1.0, 1.5), "undecided"),
        (HIGHER, gap(1.0, 1.0), "undecided"),  # the interval holds zero at its end
        (HIGHER, gap(0.0, 0.0), "undecided"),
        (LOWER, gap(-1.0, 0.5), "supported"),
        (LOWER, gap(1.0, 0.5), "contradicted"),
        (LOWER, gap(-1.0, 1.5), "undecided"),
        (HIGHER, gap(9.0, None), "undecided"),  # one seed decides nothing
        (BY_KEY["gates"], gap(1.0, None), "supported"),  # a count needs no interval
        (BY_KEY["gates"], gap(0.0, None), "contradicted"),
        (BY_KEY["gates"], gap(-1.0, None), "contradicted"),
    ],
)
def test_the_rule(measurement: Measurement, difference: Difference, verdict: str) -> None:
    assert judge(measurement, difference) == verdict


@pytest.mark.parametrize(
    ("gru_above", "half", "verdict"),
    [(0.01, 0.005, "supported"), (0.03, 0.005, "contradicted"), (0.02, 0.005, "undecided"), (-0.1, 0.05, "supported")],
)
def test_comparable_means_at_most_two_per_cent_above(gru_above: float, half: float, verdict: str) -> None:
    measurement = BY_KEY["test_perplexity_stateful"]
    assert measurement.margin == pytest.approx(math.log(1.02))
    assert judge(measurement, gap(-math.log1p(gru_above), half)) == verdict


def test_rows_stand_in_the_order_of_the_notes(comparison: Comparison) -> None:
    titles = list(dict.fromkeys(row.measurement.claim.title for row in comparison.rows))
    assert titles == [
        "Gates", "Parameters", "Computational complexity", "Expressive power", "Training speed",
        "Performance in practice", "Risk of overfitting",
    ]  # fmt: skip


def test_verdicts_of_the_likely_figures(comparison: Comparison) -> None:
    fused = verdicts(comparison, "gru_reset_after")
    assert fused["gates"] == fused["parameters_total"] == fused["operations_recurrent"] == "supported"
    assert fused["train_perplexity_stateful"] == "contradicted"  # the LSTM does not fit train better
    assert fused["tokens_per_second"] == fused["test_perplexity_reset"] == "supported"
    assert fused["gap"] == fused["best_epoch"] == "undecided"


def test_values_and_differences_are_of_the_reports(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows if row.measurement.key == "test_perplexity_stateful")
    assert row.lstm is not None and row.gru is not None and row.difference is not None
    assert row.difference.method == "paired t" and row.difference.seeds == (0, 1, 2)
    assert row.difference.mean == pytest.approx(math.log(row.lstm.mean / row.gru.mean))
    ratio, interval = row.difference_parts
    assert ratio == f"×{row.lstm.mean / row.gru.mean:.3f}" and interval.startswith("[1.0")  # noqa: RUF001
    speed = next(row for row in comparison.rows if row.measurement.key == "tokens_per_second")
    assert speed.difference is not None and speed.difference.method == "paired t"
    counts = next(row for row in comparison.rows if row.measurement.key == "parameters_recurrent")
    assert counts.difference_parts == ("+80,200", "(×1.33)")  # noqa: RUF001


def test_pairing_takes_out_what_the_seeds_share(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows if row.measurement.key == "test_perplexity_stateful")
    assert row.lstm is not None and row.lstm.low is not None and row.lstm.high is not None
    assert row.difference is not None and row.difference.low is not None and row.difference.high is not None
    assert row.difference.high - row.difference.low < 0.5 * math.log(row.lstm.high / row.lstm.low)


def test_speed_of_unlike_engines_decides_nothing(comparison: Comparison) -> None:
    for key in ("tokens_per_second", "seconds_to_best"):
        row = next(r for r in comparison.rows if r.measurement.key == key and r.gru_name == "gru")
        assert row.verdict == "undecided" and row.note == "not like for like: engine fused against scan"
        assert row.difference is not None  # what was measured is shown all the same


def test_one_seed_leaves_all_but_counts_undecided(tmp_path: Path) -> None:
    found = verdicts(run(tmp_path, seeds=(0,)), "gru")
    assert found["parameters_total"] == "supported"
    assert {found[key] for key, measurement in BY_KEY.items() if measurement.scale != "exact"} == {"undecided"}


def test_a_diverged_seed_is_left_out_and_counted(tmp_path: Path) -> None:
    comparison = run(tmp_path, diverged={"gru": [0]})
    row = next(row for row in comparison.rows if row.measurement.key == "test_perplexity_reset")
    assert row.difference is not None and row.difference.seeds == (1, 2)
    assert row.gru is not None and row.gru.count == 2 and row.lstm is not None and row.lstm.count == 3
    assert any("2 of 3 seeds finished, diverged: 0 (left out of all means)" in note for note in comparison.notes)


def test_all_seeds_diverged_is_said_and_does_not_crash(tmp_path: Path) -> None:
    comparison = run(tmp_path, diverged={"lstm": [0, 1, 2]})
    row = next(row for row in comparison.rows if row.measurement.key == "test_perplexity_reset")
    assert (row.lstm, row.verdict, row.note) == (None, "undecided", "lstm: every seed diverged")
    assert comparison_table(comparison).rows and comparison_records(comparison)


def test_an_absent_gru_is_left_out_with_a_note(tmp_path: Path) -> None:
    comparison = run(tmp_path, models=("lstm", "gru"))
    assert comparison.grus == ("gru",)
    assert "gru_reset_after is not under models in params.yaml: left out." in comparison.notes


@pytest.mark.parametrize("models", [("lstm",), ("gru", "gru_reset_after"), ("rnn",)])
def test_an_empty_table_says_why(tmp_path: Path, models: tuple[str, ...]) -> None:
    comparison = run(tmp_path, models=models)
    assert comparison.rows == () and comparison_records(comparison) == []
    assert "This table is empty: it needs an LSTM (lstm) and at least one GRU" in comparison.summary[0]
    assert any("is not under models" in note for note in comparison.notes)
    assert comparison_table(comparison).rows == ()


def test_other_names_may_be_compared(tmp_path: Path) -> None:
    compare = CompareParams(lstm="lstm_small", gru=("gru_small",), confidence=0.8)
    comparison = run(tmp_path, models=("lstm_small", "gru_small"), compare=compare)
    assert (comparison.lstm, comparison.grus) == ("lstm_small", ("gru_small",))
    assert any("80% t-interval" in note for note in comparison.notes)


def test_a_row_without_a_measurement_is_left_out(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)

    def forget(tree: dict[str, Any]) -> None:
        tree["num_parameters"]["recurrent"] = None
        for item in tree["runs"]:
            item["tokens_per_second"] = None

    edit(folder / "train" / "gru.json", forget)
    keys = {row.measurement.key for row in compare_gru_lstm(collect(params, folder)).rows}
    assert BY_KEY.keys() - keys == {"parameters_recurrent", "tokens_per_second"}


def test_the_summary_counts_the_verdicts(comparison: Comparison) -> None:
    for name, sentence in zip(comparison.grus, comparison.summary, strict=True):
        found = list(verdicts(comparison, name).values())
        assert sentence.startswith(
            f"lstm against {name}: of {len(found)} measurements, {found.count('supported')} support"
        )
        assert f"{found.count('contradicted')} contradict them and {found.count('undecided')} leave" in sentence
        assert f"{name} is better" in sentence


def test_every_record_has_the_same_keys(comparison: Comparison) -> None:
    records = comparison_records(comparison)
    assert len(records) == 2 * len(MEASUREMENTS)
    assert len({tuple(record) for record in records}) == 1
    ratio = next(record for record in records if record["key"] == "test_perplexity_stateful")
    assert ratio["ratio"] == pytest.approx(math.exp(ratio["difference"]))
    assert ratio["difference_of"] == "logarithms" and ratio["paired_seeds"] == "0 1 2"
