"""LSTM against GRU: the rows of the notes' table, pairs, verdicts, the concluding sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats_fixtures import DOCUMENTS
from report_fixtures import edit, make_params, read_reports, write_reports

from nextword.config import CompareParams
from nextword.report.claims import MEMORY, ROWS
from nextword.report.collect import Neural
from nextword.report.crossed import SAMPLE_BLOCKS, crossed_nats, edges_of
from nextword.report.finding import Finding, not_tested
from nextword.report.forest import forest_plot
from nextword.report.gru_vs_lstm import (
    Comparison,
    compare_gru_lstm,
    comparison_records,
    comparison_section,
    comparison_table,
    conclude,
)
from nextword.report.pairwise.curve import first_seconds, loss_at, reachable, shortest
from nextword.report.schema import TrainRun
from nextword.report.tables import finite

MODELS = ("lstm", "lstm_matched", "gru", "gru_reset_after")
PAIRS = [("lstm", "gru"), ("lstm", "gru_reset_after"), ("lstm_matched", "gru"), ("lstm_matched", "gru_reset_after")]


def run(folder: Path, models: Any = MODELS, **options: Any) -> Comparison:
    written = {key: options.pop(key) for key in ("diverged", "spread", "perplexity") if key in options}
    options.setdefault("compare", CompareParams(lstm_matched="lstm_matched" if "lstm_matched" in models else None))
    params = make_params(models, **options)
    return compare_gru_lstm(read_reports(params, write_reports(folder, params, **written)))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return run(tmp_path_factory.mktemp("reports"))


def of_pair(comparison: Comparison, lstm: str, gru: str) -> dict[str, Finding]:
    return {one.key: one for pair, one in comparison.found if pair.names == (lstm, gru)}


def verdicts(comparison: Comparison, lstm: str, gru: str) -> dict[str, str]:
    return {key: finding.verdict for key, finding in of_pair(comparison, lstm, gru).items()}


def test_every_row_of_the_notes_stands_in_their_order(comparison: Comparison) -> None:
    titles = list(dict.fromkeys(finding.claim.title for finding in comparison.findings))
    assert titles == [claim.title for claim in ROWS] and len(titles) == 9


def test_pairs_of_equal_size_and_of_equal_parameters(comparison: Comparison) -> None:
    assert [pair.names for pair in comparison.pairs] == PAIRS
    assert [pair.condition for pair in comparison.pairs] == ["equal hidden size"] * 2 + ["equal parameters"] * 2


def test_verdicts_of_the_likely_figures(comparison: Comparison) -> None:
    found = verdicts(comparison, "lstm", "gru_reset_after")
    for key in ("gates", "parameters_total", "operations_recurrent", "bytes_moved", "step_memory", "bits"):
        assert found[key] == "supported", key
    assert found["train_perplexity"] == "contradicted"  # the LSTM does not fit train better
    assert found["tokens_per_second"] == "supported" and found["tokens_per_second_alone"] == "contradicted"
    assert found["seconds_to_perplexity"] == found["test_perplexity_reset"] == "supported"
    assert found["gap_free_small"] == found["gap_free_large"] == "supported"
    assert found["gain_batch"] == found["best_epoch"] == "undecided"
    for key in ("half_life", "gradient_growth", "effective_context", "far_context"):
        assert found[key] == "supported", key


def test_memory_is_read_from_paired_seeds(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"), seeds=(2, 5, 7))
    folder = write_reports(tmp_path, params, diverged={"gru": [5]})

    def plant(tree: dict[str, Any]) -> None:
        for place, seed in enumerate(tree["seeds"]):
            seed["gradients"]["trained"]["stack"]["half_life"]["tokens"] = (4.0, 99.0, 9.0)[place]

    edit(folder / "probe" / "gru.json", plant)

    def finding(name: str) -> Finding:
        return of_pair(compare_gru_lstm(read_reports(params, folder)), "lstm", "gru")[name]

    gap = finding("half_life").difference
    assert gap is not None and gap.seeds == (2, 7) and gap.method == "paired t"  # the diverged seed does not count
    logs = math.log(9.5 / 4), math.log(9.5 * 1.03**2 / 9)
    assert gap.mean == pytest.approx(sum(logs) / 2)
    assert finding("half_life").verdict == "undecided" and finding("gradient_growth").verdict == "supported"
    assert finding("half_life").sources == ("probe@lstm", "probe@gru")

    def lasts(tree: dict[str, Any]) -> None:
        tree["seeds"][2]["gradients"]["trained"]["stack"]["half_life"]["tokens"] = None

    edit(folder / "probe" / "lstm.json", lasts)
    beyond = finding("half_life")
    assert beyond.verdict == "undecided" and beyond.difference is None and "up to 48" in beyond.measured
    assert "beyond what was measured: 1 of 3 and 0 of 2" in beyond.note
    assert beyond.a.value is not None and beyond.a.value.mean == pytest.approx(9.5 * 1.03)  # the median


def test_memory_tasks_at_equal_parameters(comparison: Comparison) -> None:
    finding = of_pair(comparison, "lstm_matched", "gru_reset_after")["lag_copy"]
    assert (finding.a.name, finding.b.name) == ("lstm_matched", "gru_reset_after")
    assert finding.condition == "equal parameters" and finding.note == "1,300 and 1,300 parameters"
    plain = of_pair(comparison, "lstm", "gru_reset_after")["lag_copy"]
    assert plain.a.name == "lstm" and plain.note == "hidden size 32"


def test_one_probed_seed_decides_nothing(tmp_path: Path) -> None:
    found = of_pair(run(tmp_path, ("lstm", "gru"), seeds=(3,)), "lstm", "gru")
    for key in ("half_life", "gradient_growth", "effective_context", "far_context"):
        assert found[key].verdict == "undecided" and "one seed" in found[key].note, key


@pytest.mark.parametrize(("epoch", "verdict"), [(5, "undecided"), (4, "supported")])
def test_equal_best_epochs_decide_beyond_a_step(tmp_path: Path, epoch: int, verdict: str) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)

    def stop(tree: dict[str, Any]) -> None:
        for item in tree["runs"]:
            item["best_epoch"] = epoch  # the GRU's is 6 in every seed

    edit(folder / "train" / "lstm.json", stop)
    finding = of_pair(compare_gru_lstm(read_reports(params, folder)), "lstm", "gru")["best_epoch"]
    assert finding.difference is not None and finding.difference.high == epoch - 6 + 1
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("lag", "other", "verdict"),
    [(low, 2 * low, "undecided") for low in (5, 10, 20, 40)] + [(20, 80, "contradicted"), (10, 40, "contradicted")],
)
def test_equal_longest_lags_decide_beyond_a_step(tmp_path: Path, lag: int, other: int, verdict: str) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)

    def reach(tree: dict[str, Any]) -> None:
        for name, longest in (("lstm", lag), ("gru", other)):
            tree["tasks"]["adding"]["variants"][name]["longest_lag"]["by_seed"] = [longest] * 3

    edit(folder / "experiments" / "memory.json", reach)
    finding = of_pair(compare_gru_lstm(read_reports(params, folder)), "lstm", "gru")["lag_adding"]
    assert finding.difference is not None and finding.difference.high == pytest.approx(math.log(2 * lag / other))
    assert finding.verdict == verdict


def test_what_was_made_equal_decides_nothing(comparison: Comparison) -> None:
    found = of_pair(comparison, "lstm_matched", "gru")
    for key in ("parameters_recurrent", "parameters_hidden", "operations_total", "bytes_moved"):
        assert found[key].verdict == "not tested" and "made equal" in found[key].note, key
    assert found["gates"].verdict == "supported"
    assert found["bits"].a.name == "lstm_matched" and found["bits"].verdict == "contradicted"


def test_perplexities_are_compared_over_documents_and_seeds(comparison: Comparison) -> None:
    finding = of_pair(comparison, "lstm", "gru")["test_perplexity_stateful"]
    assert finding.a.value is not None and finding.b.value is not None and finding.difference is not None
    assert finding.difference.mean == pytest.approx(math.log(finding.a.value.mean / finding.b.value.mean), abs=1e-6)
    assert finding.difference.method == "crossed bootstrap" and finding.effect is not None
    assert finding.margin == pytest.approx(math.log(1.02)) and finding.reading == "not lower"
    assert finding.sources == ("evaluate@lstm", "evaluate@gru")


def test_comparable_is_by_the_margin(tmp_path: Path) -> None:
    perplexity = {"lstm": 60.0, "gru": 60.6, "gru_reset_after": 66.0}  # 1% and 10% above
    comparison = run(tmp_path, ("lstm", "gru", "gru_reset_after"), spread=0.0005, perplexity=perplexity)
    assert of_pair(comparison, "lstm", "gru")["test_perplexity_stateful"].verdict == "supported"
    assert of_pair(comparison, "lstm", "gru_reset_after")["test_perplexity_stateful"].verdict == "contradicted"
    compare = CompareParams(margin=0.2)
    wide = run(tmp_path / "wide", ("lstm", "gru_reset_after"), spread=0.0005, perplexity=perplexity, compare=compare)
    assert of_pair(wide, "lstm", "gru_reset_after")["test_perplexity_stateful"].verdict == "supported"


def test_two_equal_models_are_not_told_apart(tmp_path: Path) -> None:
    comparison = run(tmp_path, ("lstm", "gru"), perplexity={"lstm": 60.0, "gru": 60.0}, spread=0.004)
    finding = of_pair(comparison, "lstm", "gru")["test_perplexity_stateful"]
    gap = finding.difference
    assert gap is not None and gap.low is not None and gap.high is not None and gap.low < 0.0 < gap.high
    (sentence,) = [text for text in comparison.summary if text.startswith("Test perplexity")]
    assert "neither is shown to be better" in sentence


def test_the_head_of_train_is_cut_into_blocks(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    reports = read_reports(params, write_reports(tmp_path, params))
    edges = edges_of(reports, "train_sample")
    assert edges[-1] == sum(DOCUMENTS["train"][:5]) and abs(len(edges) - 1 - SAMPLE_BLOCKS) <= 2
    assert set(np.cumsum(DOCUMENTS["train"][:5])) <= set(edges.tolist())
    assert edges_of(reports, "test").tolist() == [0, *np.cumsum(DOCUMENTS["test"]).tolist()]
    blocks = make_params(("lstm", "gru"), compare=CompareParams(block_tokens=50))
    assert len(edges_of(read_reports(blocks, tmp_path), "test")) == sum(DOCUMENTS["test"]) // 50 + 1


def test_an_ngram_is_one_exact_side(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    reports = read_reports(params, write_reports(tmp_path, params, {"gru": [0, 1, 2]}))
    gap = crossed_nats(reports, "lstm", "modified_kneser_ney_5", way="reset")
    ours = np.mean(list(reports.neural["lstm"].log_perplexity("test", "reset").values()))
    theirs = reports.ngrams["modified_kneser_ney_5"].splits["test"]["reset"].log_perplexity
    assert gap is not None and gap.low is not None and gap.mean == pytest.approx(ours - theirs, abs=1e-6)
    assert crossed_nats(reports, "gru", "lstm") is None


# --------------------------------------------------------------------------------------- learning curves


def curve(*points: tuple[float, float]) -> TrainRun:
    history = [
        {"epoch": i, "tokens": 10 * i, "seconds": s, "valid_perplexity": v} for i, (s, v) in enumerate(points, 1)
    ]
    return TrainRun.model_validate({"seed": 0, "status": "finished", "history": history})


def test_curves_are_interpolated_on_logarithms() -> None:
    chance = math.log(1000.0)
    own = curve((10.0, 100.0), (20.0, 200.0), (30.0, 50.0))  # the second is no new best
    assert first_seconds(own, math.log(100.0), chance) == pytest.approx(10.0)
    assert first_seconds(own, math.log(math.sqrt(1000.0 * 100.0)), chance) == pytest.approx(5.0)
    assert first_seconds(own, math.log(math.sqrt(100.0 * 50.0)), chance) == pytest.approx(25.0)
    assert first_seconds(own, math.log(49.0), chance) is None
    assert loss_at(own, 15.0, chance) == pytest.approx(math.log(100.0))
    assert loss_at(own, 25.0, chance) == pytest.approx(math.log(math.sqrt(5000.0)))
    assert loss_at(own, 99.0, chance) == pytest.approx(math.log(50.0))


def test_time_to_what_all_reach_and_loss_when_the_first_is_through(comparison: Comparison) -> None:
    models = comparison.models
    targets, ends = reachable(models), shortest(models)
    assert set(targets) == set(ends) == {0, 1, 2}
    for seed in targets:
        best = [min(row.valid_perplexity or math.inf for row in model.runs[seed].history) for model in models]
        assert targets[seed] == pytest.approx(math.log(max(best)))
        assert ends[seed] == min(model.runs[seed].history[-1].seconds for model in models)


def test_a_column_of_a_model_is_the_same_in_all_its_pairs(comparison: Comparison) -> None:
    for key in of_pair(comparison, "lstm", "gru"):
        values = [one.a.value for pair, one in comparison.found if one.key == key and pair.lstm.name == "lstm"]
        assert all(value == values[0] for value in values), key


def test_speed_of_unlike_engines_decides_nothing(comparison: Comparison) -> None:
    found = of_pair(comparison, "lstm", "gru")
    for key in ("tokens_per_second", "seconds_to_perplexity", "valid_perplexity_wall_time", "gain_batch"):
        assert found[key].verdict == "undecided" and found[key].note == "not like for like: engine fused against scan"
        assert found[key].difference is not None  # what was measured is shown all the same


@pytest.mark.parametrize(("seed", "fair"), [(2, True), (1, False)])
def test_speeds_are_alike_where_the_seeds_of_their_difference_are(tmp_path: Path, seed: int, fair: bool) -> None:
    """The GRU has seeds 0 and 1; with what else the LSTM's third seed ran is no matter."""
    params = make_params({"lstm": {}, "gru": {"seeds": (0, 1), "engine": "scan"}})
    folder = write_reports(tmp_path, params)

    def other_threads(tree: dict[str, Any]) -> None:
        for item in tree["runs"]:
            item |= {"engine": "scan", "threads": 2 if item["seed"] == seed else 1}

    edit(folder / "train" / "lstm.json", other_threads)
    finding = of_pair(compare_gru_lstm(read_reports(params, folder)), "lstm", "gru")["tokens_per_second"]
    assert finding.difference is not None and finding.difference.seeds == (0, 1)
    if fair:
        assert finding.verdict != "undecided" and finding.note == "difference over the seeds of both: 0, 1"
    else:
        assert finding.verdict == "undecided" and finding.note == "not like for like: threads 1/2 against 1"


# ---------------------------------------------------------------------------------- what may be missing


def test_one_seed_leaves_what_varies_over_seeds_undecided(tmp_path: Path) -> None:
    found = of_pair(run(tmp_path, ("lstm", "gru"), seeds=(0,)), "lstm", "gru")
    assert found["parameters_total"].verdict == "supported"
    for key in ("test_perplexity_stateful", "tokens_per_second", "gap", "train_perplexity", "peak_memory"):
        assert found[key].verdict == "undecided" and found[key].note, key


def test_diverged_seeds_are_left_out_and_named(tmp_path: Path) -> None:
    comparison = run(tmp_path, ("lstm", "gru"), diverged={"gru": [1]})
    finding = of_pair(comparison, "lstm", "gru")["gap"]
    assert finding.difference is not None and finding.difference.seeds == (0, 2)
    assert any("2 of 3 seeds finished, diverged: 1 (left out of all means)" in note for note in comparison.notes)


def test_a_model_that_always_diverged_has_no_verdict(tmp_path: Path) -> None:
    comparison = run(tmp_path, ("lstm", "gru"), diverged={"gru": [0, 1, 2]})
    found = of_pair(comparison, "lstm", "gru")
    for key in ("test_perplexity_stateful", "tokens_per_second", "gap"):
        assert found[key].verdict == "undecided" and found[key].note == "gru: every seed diverged", key
    assert found["parameters_total"].verdict == "supported"


def test_absent_models_are_named(tmp_path: Path) -> None:
    comparison = run(tmp_path, ("lstm", "gru"))
    assert [pair.names for pair in comparison.pairs] == [("lstm", "gru")]
    assert "gru_reset_after is not under models in params.yaml: left out." in comparison.notes
    assert any("compare.lstm_matched names no LSTM" in note for note in comparison.notes)


def test_an_lstm_that_does_not_match_is_not_compared_at_equal_parameters(tmp_path: Path) -> None:
    models = {"lstm": {}, "lstm_matched": {"hidden_size": 170}, "gru": {}}
    comparison = run(tmp_path, models)
    assert [pair.names for pair in comparison.pairs] == [("lstm", "gru")]
    assert any("more than 1% apart, so they are not compared at equal parameters" in note for note in comparison.notes)


def test_unequal_sizes_are_not_called_equal(tmp_path: Path) -> None:
    comparison = run(tmp_path, {"lstm": {"hidden_size": 100}, "gru": {}})
    assert comparison.pairs[0].condition.startswith("unequal sizes (1 x 100")


@pytest.mark.parametrize("models", [("lstm",), ("gru", "gru_reset_after"), ("rnn",)])
def test_an_empty_table_says_why(tmp_path: Path, models: tuple[str, ...]) -> None:
    comparison = run(tmp_path, models)
    assert comparison.found == () and comparison_records(comparison) == []
    assert "is empty: it needs an LSTM (lstm) and at least one GRU" in comparison.summary[0]
    assert any("is not under models" in note for note in comparison.notes)
    assert comparison_table(comparison).rows == ()


def test_other_names_may_be_compared(tmp_path: Path) -> None:
    compare = CompareParams(lstm="lstm_small", gru=("gru_small",), confidence=0.8)
    comparison = run(tmp_path, ("lstm_small", "gru_small"), compare=compare)
    assert [pair.names for pair in comparison.pairs] == [("lstm_small", "gru_small")]
    assert any("80% t-interval" in note for note in comparison.notes)


def test_the_rule_names_the_margin_as_it_is(tmp_path: Path) -> None:
    notes = run(tmp_path, ("lstm", "gru"), compare=CompareParams(margin=0.005, confidence=0.995)).notes
    assert any("a margin of 0.5%" in note and "99.5% interval" in note for note in notes)


def test_a_row_without_a_measurement_is_left_out(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)

    def forget(tree: dict[str, Any]) -> None:
        tree["num_parameters"]["recurrent"] = None
        for item in tree["runs"]:
            item["tokens_per_second"] = None

    before = {finding.key for finding in compare_gru_lstm(read_reports(params, folder)).findings}
    edit(folder / "train" / "gru.json", forget)
    after = {finding.key for finding in compare_gru_lstm(read_reports(params, folder)).findings}
    assert before - after == {"parameters_recurrent", "tokens_per_second", "steps_per_second"}


# ----------------------------------------------------------------------------------------------- output


def test_the_conclusion_is_told_clause_by_clause(comparison: Comparison) -> None:
    first, *_ = comparison.summary
    assert first.startswith("LSTM against GRU, equal hidden size, by the clauses of the notes' conclusion: the LSTM ")
    for clause in (
        "with fewer parameters: supported (6 supported)",
        "and faster training: mixed (3 supported, 1 contradicted",
        "memory: ",
    ):
        assert clause in first, clause
    assert "with fewer parameters: not tested (6 not tested)" in comparison.summary[3]
    assert sum(text.startswith("Test perplexity, stateful") for text in comparison.summary) == len(PAIRS)


def test_several_verdicts_make_one() -> None:
    def some(*names: str) -> list[Finding]:
        from dataclasses import replace

        return [replace(not_tested("k", MEMORY, ""), verdict=name) for name in names]  # type: ignore[arg-type]

    assert conclude(some("supported", "undecided")) == "supported"
    assert conclude(some("supported", "undecided", "undecided", "not tested")) == "undecided"
    assert conclude(some("not tested", "not tested")) == "not tested"
    assert conclude(some("contradicted", "not tested")) == "contradicted"
    assert conclude(some("supported", "contradicted")) == "mixed"
    assert conclude(some("undecided", "not tested")) == conclude([]) == "undecided"


def test_a_line_a_measurement_with_a_column_a_pair(comparison: Comparison) -> None:
    table = comparison_table(comparison)
    assert table.headings[2:6] == MODELS and len(table.headings) == 10
    assert table.headings[6] == "lstm against gru, equal hidden size"
    assert len(table.rows) == len({finding.key for finding in comparison.findings})
    line = next(row for row in table.rows if row[1] is not None and row[1].under == "total")
    texts = [cell.text for cell in line[2:] if cell is not None]
    assert texts[:4] == ["1,325,800", "1,245,600", "1,245,600", "1,245,800"]
    assert texts[4:] == ["supported", "supported", "not tested", "not tested"]
    assert line[6] is not None and line[6].under == "+80,200 (×1.06)"  # noqa: RUF001
    lag = next(row for row in table.rows if row[1] is not None and row[1].text.startswith("longest lag"))
    assert [cell.text for cell in lag[2:6] if cell is not None] == ["50.4", "50.4", "80.0", "80.0"]
    assert [cell.text for cell in lag[6:] if cell is not None] == ["undecided"] * 4


def test_a_record_a_measurement_and_pair(comparison: Comparison) -> None:
    section = comparison_section(comparison.pairs[0].reports, comparison)
    assert (section.name, section.chapter) == ("gru_vs_lstm", "comparison")
    assert {"train@gru", "evaluate@lstm_matched", "capacity", "throughput", "memory"} <= set(section.sources)
    assert len(section.records) == len(comparison.findings)
    assert len({tuple(record) for record in section.records}) == 1
    assert {(record["lstm_model"], record["gru_model"]) for record in section.records} == set(PAIRS)
    assert sum(section.tree["verdicts"].values()) == len(comparison.findings)
    json.dumps(finite(section.tree), allow_nan=False)


def test_the_same_reports_give_the_same_bytes(tmp_path: Path) -> None:
    params = make_params(MODELS, compare=CompareParams(lstm_matched="lstm_matched"))
    folder = write_reports(tmp_path, params)
    texts = [json.dumps(finite(comparison_section(read_reports(params, folder)).tree)) for _ in range(2)]
    assert texts[0] == texts[1]


def test_forest_plots_show_every_pair_with_the_margin(comparison: Comparison) -> None:
    plots = {plot.name: plot for plot in forest_plot(comparison.pairs[0].reports, comparison)}
    assert list(plots) == ["forest_perplexity", "forest_speed", "forest_memory"]
    axes = plots["forest_perplexity"].figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "test perplexity, stateful" in labels and "train sample perplexity" in labels
    _, names = axes.get_legend_handles_labels()
    assert names == [f"{lstm} / {gru}" for lstm, gru in PAIRS]
    assert "practical margin of 2%" in plots["forest_perplexity"].caption
    low, high = axes.patches[0].get_bbox().intervalx  # type: ignore[attr-defined]
    assert (low, high) == pytest.approx((1 / 1.02, 1.02))


def test_models_are_lstms_first(comparison: Comparison) -> None:
    assert all(isinstance(model, Neural) for model in comparison.models)
    assert [model.name for model in comparison.models] == list(MODELS)
