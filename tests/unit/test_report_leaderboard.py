"""The leaderboard: what is in it, in which order, with which means."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import geometric_mean

import pytest
from report_fixtures import edit, make_params, write_reports

from nextword.config import NgramParams, Params
from nextword.evaluation.statistics import Estimate
from nextword.report.collect import Reports, collect
from nextword.report.leaderboard import (
    best_ngram,
    best_orders,
    exp_estimate,
    leaderboard,
    leaderboard_records,
    leaderboard_table,
    leaderboard_tree,
)
from nextword.report.tables import finite, markdown, number


def read(folder: Path, params: Params, **options: object) -> Reports:
    return collect(params, write_reports(folder, params, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return read(tmp_path_factory.mktemp("reports"), make_params(), diverged={"rnn": [1]})


def test_sorted_by_stateful_where_there_is_one_else_reset(reports: Reports) -> None:
    rows = leaderboard(reports)
    values = [row.rank_perplexity for row in rows]
    assert values == sorted(values)
    assert rows[0].name == "gru_reset_after"
    for row in rows:
        assert row.protocol == ("stateful" if row.family == "neural" else "reset")
        assert row.rank_perplexity == row.test[row.protocol]["perplexity"].mean  # type: ignore[union-attr]


def test_a_model_scored_reset_only_is_ranked_by_reset(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)

    def reset_only(tree: dict) -> None:  # type: ignore[type-arg]
        for run in tree["runs"]:
            for split in run["splits"].values():
                del split["stateful"]

    edit(folder / "evaluate" / "gru.json", reset_only)
    rows = {row.name: row for row in leaderboard(collect(params, folder))}
    assert rows["gru"].protocol == "reset"
    assert rows["gru"].figure("perplexity", "stateful") is None
    assert rows["lstm"].protocol == "stateful"


def test_mean_over_seeds_is_geometric_and_leaves_diverged_seeds_out(reports: Reports) -> None:
    rnn = next(row for row in leaderboard(reports) if row.name == "rnn")
    estimate = rnn.figure("perplexity")
    scores = reports.neural["rnn"].metrics("test", "stateful")
    assert scores.keys() == {0, 2}
    assert estimate is not None and estimate.count == 2
    assert estimate.mean == pytest.approx(geometric_mean([metrics.perplexity for metrics in scores.values()]))  # type: ignore[misc]
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low * estimate.high == pytest.approx(estimate.mean**2)  # symmetric in logarithms
    assert rnn.diverged == (1,)
    assert rnn.training_seconds is not None and rnn.training_seconds.low is not None and rnn.training_seconds.low > 0


def test_all_seeds_diverged_is_a_row_at_the_end(tmp_path: Path) -> None:
    reports = read(tmp_path, make_params(("lstm", "gru")), diverged={"gru": [0, 1, 2]})
    row = next(row for row in leaderboard(reports) if row.name == "gru")
    assert row.rank_perplexity == math.inf and row.test == {} and row.diverged == (0, 1, 2)
    assert "0 of 3 (diverged: 0, 1, 2)" in markdown(leaderboard_table(reports, leaderboard(reports)))


def test_a_group_is_named_where_it_is_not_main(tmp_path: Path) -> None:
    reports = read(tmp_path, make_params({"lstm": {}, "gru": {"group": "tuned"}}))
    rows = leaderboard(reports)
    groups = {record["name"]: record["group"] for record in leaderboard_records(rows)}
    assert (groups["lstm"], groups["gru"], groups["mle_1"]) == ("main", "tuned", "n-gram")
    assert {row["group"] for row in leaderboard_tree(reports, rows)["rows"]} == {"main", "tuned", "n-gram"}
    text = markdown(leaderboard_table(reports, rows))
    assert "| gru (tuned) |" in text and "| lstm |" in text and "its group, where that is not main" in text


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    reports = read(tmp_path, make_params(("lstm",), seeds=(4,)))
    table = leaderboard_table(reports, leaderboard(reports))
    cell = next(row for row in table.rows if row[0] is not None and row[0].text == "lstm")[1]
    assert cell is not None and cell.under == "" and cell.text != ""


def test_order_is_chosen_on_valid_not_on_test(tmp_path: Path) -> None:
    params = make_params(("lstm",), ngram=NgramParams(max_order=3, smoothings=("kneser_ney",)))
    folder = write_reports(tmp_path, params)

    def good_on_test_only(tree: dict) -> None:  # type: ignore[type-arg]
        for split, nats in (("valid", 4.0), ("test", 6.0)):
            scores = tree["models"]["kneser_ney_2"]["splits"][split]["reset"]
            scores["nats"], scores["perplexity"] = nats * scores["num_targets"], math.exp(nats)

    edit(folder / "ngram.json", good_on_test_only)
    reports = collect(params, folder)
    assert best_orders(reports.ngrams)["kneser_ney_2"].order == 2
    assert best_ngram(reports.ngrams) == "kneser_ney_2"
    assert [row.name for row in leaderboard(reports) if row.family == "n-gram" and row.in_table] == ["kneser_ney_2"]
    assert len([row for row in leaderboard(reports) if row.family == "n-gram"]) == 3


def test_infinite_perplexity_is_shown_as_such(tmp_path: Path) -> None:
    params = make_params(("lstm",), ngram=NgramParams(max_order=2, smoothings=("mle",)))
    folder = write_reports(tmp_path, params)

    def no_unigrams(tree: dict) -> None:  # type: ignore[type-arg]
        del tree["models"]["mle_1"]

    edit(folder / "ngram.json", no_unigrams)
    reports = collect(params, folder)
    rows = leaderboard(reports)
    assert best_ngram(reports.ngrams) is None
    assert rows[-1].name == "mle_2" and rows[-1].rank_perplexity == math.inf
    text = markdown(leaderboard_table(reports, rows))
    assert "mle_2" not in text and "| mle 2 (800 targets with probability 0) | – | ∞ |" in text  # noqa: RUF001
    tree = finite(leaderboard_tree(reports, rows))
    assert tree["rows"][-1]["test"]["reset"]["perplexity"]["mean"] is None
    assert tree["rows"][-1]["num_infinite"] == 800


def test_the_best_of_each_column_is_bold(reports: Reports) -> None:
    table = leaderboard_table(reports, leaderboard(reports))
    bold = {
        heading: [
            row[0].text for row in table.rows if row[0] is not None and (cell := row[i]) is not None and cell.bold
        ]
        for i, heading in enumerate(table.headings)
    }
    assert bold["test perplexity, stateful"] == bold["test perplexity, reset"] == bold["top-1"] == ["gru_reset_after"]
    assert bold["parameters"] == bold["training seconds"] == []


def test_protocols_are_not_mixed_in_silence(reports: Reports) -> None:
    notes = " ".join(leaderboard_table(reports, leaderboard(reports)).notes)
    assert "stateful where the model was scored so, else reset" in notes
    assert "read the reset column" in notes


def test_records_hold_every_order_with_equal_keys(reports: Reports) -> None:
    records = leaderboard_records(leaderboard(reports))
    assert len(records) == 5 + 7 * 5
    assert len({tuple(record) for record in records}) == 1
    shown = [record["name"] for record in records if record["in_table"] == "true"]
    assert len(shown) == 5 + 7
    gru = next(record for record in records if record["name"] == "gru")
    assert gru["test_perplexity_stateful_low"] < gru["test_perplexity_stateful"] < gru["test_perplexity_stateful_high"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567.0, "1,234,567"),
        (58.9312, "58.93"),
        (0.0123456, "0.01235"),
        (-3.0, "-3.000"),
        (999.96, "1,000"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text
    assert number(None) == "–" and number(math.inf) == "∞"  # noqa: RUF001


def test_what_is_beyond_a_float_is_infinite() -> None:
    """Two seeds far apart: an interval of logarithms may reach beyond what a float holds."""
    estimate = exp_estimate(Estimate(400.0, 5.0, 5000.0, 2))
    assert estimate.high == math.inf
    assert number(estimate.high) == "∞"
