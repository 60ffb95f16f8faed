"""Bidirectional models: in a table of their own and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import compare_reports, make_params, write_reports

from nextword.config import NgramParams
from nextword.report import ComparisonResult
from nextword.report.bidirectional import bidirectional_pairs, bidirectional_table
from nextword.report.collect import Reports, collect
from nextword.report.gru_vs_lstm import compare_gru_lstm
from nextword.report.leaderboard import leaderboard, leaderboard_table
from nextword.report.tables import markdown

MODELS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "gru": {},
    "lstm_both": {"bidirectional": True},
    "lstm_deep": {"num_layers": 2},
    "lstm_deep_both": {"num_layers": 2, "bidirectional": True},
    "rnn_both": {"bidirectional": True},
}
PLANTED = {"lstm_both": 20.0, "lstm_deep_both": 21.0, "rnn_both": 22.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    params = make_params(MODELS)
    return write_reports(tmp_path_factory.mktemp("reports"), params, {"rnn_both": [2]}, perplexity=PLANTED)


@pytest.fixture(scope="module")
def reports(folder: Path) -> Reports:
    return collect(make_params(MODELS), folder)


@pytest.fixture(scope="module")
def result(folder: Path) -> ComparisonResult:
    return compare_reports(make_params(MODELS), folder)


def test_not_in_the_leaderboard_and_that_is_said(reports: Reports) -> None:
    rows = leaderboard(reports)
    assert {row.name for row in rows if row.family == "neural"} == {"lstm", "gru", "lstm_deep"}
    note = "Not here but in a table of their own, as bidirectional: lstm_both, lstm_deep_both, rnn_both."
    assert note in leaderboard_table(reports, rows).notes


def test_not_in_gru_against_lstm_even_when_named(tmp_path: Path) -> None:
    params = make_params({"lstm": {"bidirectional": True}, "gru": {}})
    comparison = compare_gru_lstm(collect(params, write_reports(tmp_path, params)))
    assert comparison.pairs == comparison.found == ()
    assert "lstm is bidirectional: left out." in comparison.notes


def test_beside_each_stands_the_left_to_right_model_most_like_it(reports: Reports) -> None:
    pairs = bidirectional_pairs(reports)
    names = {pair.bidirectional.name: pair.counterpart and pair.counterpart.name for pair in pairs}
    assert names == {"lstm_both": "lstm", "lstm_deep_both": "lstm_deep", "rnn_both": None}


def test_a_counterpart_of_the_same_group_comes_first(tmp_path: Path) -> None:
    params = make_params({
        "lstm": {"num_layers": 2}, "lstm_b": {"group": "rnn"},
        "lstm_both": {"group": "rnn", "num_layers": 2, "bidirectional": True},
    })  # fmt: skip
    (pair,) = bidirectional_pairs(collect(params, write_reports(tmp_path, params)))
    assert pair.counterpart is not None and pair.counterpart.name == "lstm_b"


def test_the_table_calls_the_figures_what_they_are(reports: Reports) -> None:
    text = markdown(bidirectional_table(reports, bidirectional_pairs(reports)))
    assert text.startswith("## Bidirectional models: pseudo-perplexity\n")
    assert "pseudo-perplexity of test, stateful" in text and "its perplexity (another task), reset" in text
    assert "is not the probability of the text" in text and "different tasks" in text
    assert "2 of 3 (diverged: 2)" in text and "| rnn_both (rnn) |" in text


def test_neither_summary_nor_metrics_take_them_for_perplexities(result: ComparisonResult) -> None:
    assert "both" not in result.summary
    assert result.metrics["lstm_both/test_pseudo_perplexity_reset"] == pytest.approx(21.2, rel=0.02)
    assert not any(name.startswith("lstm_both/test_perplexity") for name in result.metrics)
    assert "lstm_both/test_bits_per_byte" not in result.metrics


def test_not_drawn_in_any_plot(result: ComparisonResult) -> None:
    assert {"leaderboard", "frequency", "gradients", "context", "map_lstm"} <= set(result.figures)
    assert not any("both" in path.read_text(encoding="utf-8") for path in result.figures.values())


def test_files_are_written(result: ComparisonResult) -> None:
    tree = json.loads((result.folder / "bidirectional.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in tree["rows"]] == ["lstm_both", "lstm_deep_both", "rnn_both"]
    first, *_, last = result.tables["bidirectional"]
    assert first.keys() == last.keys() and last["counterpart"] is None and first["counterpart"] == "lstm"
    assert first["test_pseudo_perplexity_stateful"] < first["counterpart_perplexity_stateful"]
    assert 'id="bidirectional"' in result.page.read_text(encoding="utf-8")


def test_bidirectional_models_alone_make_a_page(tmp_path: Path) -> None:
    params = make_params({"gru": {"bidirectional": True}}, ngram=NgramParams(max_order=1, smoothings=("mle",)))
    result = compare_reports(params, write_reports(tmp_path, params, {"gru": [0, 1, 2]}))
    assert "leaderboard" not in result.figures and result.tables["bidirectional"][0]["diverged"] == "0 1 2"


def test_no_table_where_there_is_none(tmp_path: Path) -> None:
    params = make_params(("lstm",))
    result = compare_reports(params, write_reports(tmp_path, params))
    assert "bidirectional" not in result.tables and not (result.folder / "bidirectional.md").exists()
