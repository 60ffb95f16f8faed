"""Claims of the notes: each verdict follows from what was measured, by the stated rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixtures import ABLATIONS, MAIN, edit, make_params, read_reports, write_reports

from nextword.config import NgramParams, Params
from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.collect import Reports
from nextword.report.finding import Finding
from nextword.report.provenance import origin, stages_of
from nextword.report.textbook import textbook_findings, textbook_section, textbook_summary
from nextword.report.textbook.evidence import Evidence, apart, constant
from nextword.report.variant_claims import ABLATION
from nextword.report.variants import compare_variants


def whole() -> Params:
    """Models of every kind that a claim asks for."""
    models: dict[str, dict[str, Any]] = {name: {} for name in MAIN}
    models |= {name: {"group": "ablation"} for name in ABLATIONS}
    models |= {"rnn_flat": {"group": "rnn"}, "rnn_deep": {"group": "rnn", "num_layers": 3}}
    models |= {"rnn_residual": {"group": "rnn", "num_layers": 3, "connection": "residual"}}
    models |= {"rnn_both": {"bidirectional": True}}
    return make_params(models)


def found(
    folder: Path, params: Params, perplexity: Mapping[str, float] | None = None, analogies: Sequence[str] = ()
) -> dict[str, Finding]:
    return findings_of(params, write_reports(folder, params, perplexity=perplexity, analogies=analogies))


def findings_of(params: Params, folder: Path) -> dict[str, Finding]:
    return {finding.key: finding for finding in textbook_findings(read_reports(params, folder))}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    params = whole()
    perplexity = {"rnn_deep": 92.0, "rnn_residual": 70.0}
    folder = write_reports(tmp_path_factory.mktemp("reports"), params, perplexity=perplexity, analogies=("nnlm",))
    return read_reports(params, folder)


@pytest.fixture(scope="module")
def findings(reports: Reports) -> list[Finding]:
    return textbook_findings(reports)


def test_every_finding_has_a_verdict_or_a_reason(reports: Reports, findings: list[Finding]) -> None:
    assert len({finding.key for finding in findings}) == len(findings) > 80
    for finding in findings:
        if finding.verdict == "not tested":
            assert finding.note and finding.difference is None and not finding.sources, finding.key
        else:
            assert finding.a.name and finding.b.name and finding.measured, finding.key
            assert stages_of(finding.sources, reports), finding.key
            assert finding.sources, finding.key


def test_the_section_has_a_record_a_finding_and_counts_them(reports: Reports, findings: list[Finding]) -> None:
    section = textbook_section(reports, findings)
    assert section.chapter == section.name == "claims"
    assert [record["key"] for record in section.records] == [finding.key for finding in findings]
    verdicts = [finding.verdict for finding in findings]
    for verdict in ("supported", "contradicted", "not tested"):
        assert f"{verdicts.count(verdict)} {verdict}" in textbook_summary(findings) == section.tree["summary"]


def test_the_same_reports_give_the_same_bits(reports: Reports, findings: list[Finding]) -> None:
    again = [repr(finding.difference) for finding in textbook_findings(reports)]
    assert again == [repr(finding.difference) for finding in findings]


def test_a_planted_order_of_models_is_found_and_turns_round(tmp_path: Path) -> None:
    params = make_params(("nnlm", "rnn", "lstm"))
    good = found(tmp_path / "good", params, {"nnlm": 60.0, "rnn": 50.0, "lstm": 40.0})
    bad = found(tmp_path / "bad", params, {"nnlm": 90.0, "rnn": 99.0, "lstm": 120.0})
    for key in ("nnlm_ngram", "rnn_nnlm", "lstm_rnn", "nnlm_unseen"):
        assert good[key].verdict == "supported", key
        assert bad[key].verdict == "contradicted", key
    gap = good["rnn_nnlm"].difference
    assert gap is not None and gap.mean == pytest.approx(math.log(50 / 60), abs=0.02)


def test_the_unseen_targets_are_those_without_counts(tmp_path: Path) -> None:
    params = make_params(("nnlm",))
    reports = read_reports(params, write_reports(tmp_path, params))
    finding = next(f for f in textbook_findings(reports) if f.key == "nnlm_unseen")
    unseen = np.isinf(reports.nats.ngram("mle_5", "test"))
    own = np.stack([reports.nats.neural("nnlm", seed, "test", "reset")[unseen] for seed in (0, 1, 2)])
    assert f"{unseen.sum()} targets" in finding.measured
    assert finding.a.value is not None and finding.a.value.mean == pytest.approx(math.exp(own.mean()))
    assert finding.difference is not None
    best = reports.nats.ngram("modified_kneser_ney_5", "test")[unseen]
    assert finding.difference.mean == pytest.approx(own.mean() - best.mean())


def test_ablations_have_the_verdicts_of_their_table(reports: Reports, findings: list[Finding]) -> None:
    variants = compare_variants(reports, ABLATION)
    assert variants is not None
    of_table = {f"variant_{row.model.name}": row.verdict for row in variants.rows if row.verdict}
    assert {f.key: f.verdict for f in findings if f.key.startswith("variant_lstm")} == of_table
    assert len(of_table) == len(ABLATIONS) - 1


def test_depth_is_judged_by_what_fits_train_best(findings: list[Finding], tmp_path: Path) -> None:
    by_key = {finding.key: finding for finding in findings}
    assert by_key["depth_power"].verdict == "supported" and by_key["depth_power"].a.name == "rnn_residual"
    assert by_key["depth_harder"].verdict == "supported" and by_key["depth_harder"].a.name == "rnn_deep"
    assert by_key["variant_rnn_residual"].verdict == "supported"
    params = make_params({"rnn_flat": {}, "rnn_deep": {"num_layers": 3}})
    folder = write_reports(tmp_path, params, perplexity={"rnn_deep": 92.0, "rnn_flat": 80.0})
    alone = {finding.key: finding for finding in textbook_findings(read_reports(params, folder))}
    assert alone["depth_power"].a.name == "rnn_deep" and alone["depth_harder"].verdict == "supported"
    assert alone["depth_power"].verdict == "undecided" and "badly trained" in alone["depth_power"].note


def test_a_model_worse_than_chance_is_worse_than_any_other(tmp_path: Path) -> None:
    params = make_params(("rnn", "lstm"))
    folder = write_reports(tmp_path, params, perplexity={"lstm": 6_000.0})
    planted = findings_of(params, folder)["lstm_rnn"]
    assert planted.verdict == "contradicted" and "every seed of lstm" in planted.note
    assert planted.difference is not None and planted.difference.low is None
    both = found(tmp_path / "both", params, {"lstm": 6_000.0, "rnn": 9_000.0})["lstm_rnn"]
    assert (both.verdict, both.basis) == ("undecided", "nothing") and "seeds of lstm or rnn" in both.note

    def recover(tree: dict[str, Any]) -> None:  # one seed of three is better than a uniform guess
        scores = tree["runs"][0]["splits"]["test"]["stateful"]
        scores["nats"], scores["perplexity"] = 4.0 * scores["num_targets"], math.exp(4.0)

    edit(folder / "evaluate" / "lstm.json", recover)
    one_left = findings_of(params, folder)["lstm_rnn"]
    assert (one_left.verdict, one_left.basis) == ("undecided", "nothing") and "uniform guess" in one_left.note
    assert one_left.difference is not None and one_left.difference.low is None


def test_every_perplexity_has_the_practical_margin(reports: Reports, findings: list[Finding], tmp_path: Path) -> None:
    perplexities = [f for f in findings if "perplexity" in f.measured and not f.key.startswith("variant_")]
    assert len(perplexities) > 12
    assert {f.margin for f in perplexities} == {reports.perplexity_margin} == {math.log1p(0.02)}
    params = make_params(("nnlm", "rnn"))
    close = found(tmp_path, params, {"nnlm": 60.0, "rnn": 59.0})["rnn_nnlm"]  # 1.7%: told apart, and comparable
    assert close.difference is not None and close.difference.high is not None and close.difference.high < 0.0
    assert close.verdict == "undecided"


PROBED = (
    "ngram_context", "rnn_far", "lstm_far", "gru_far", "vanishing_initial", "vanishing_trained", "far_lost",
    "above_one", "lstm_shortcut", "lstm_vanishing", "gru_vanishing",
)  # fmt: skip
"""Findings made of what the probes measured on trained models."""


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    by_key = found(tmp_path, make_params(MAIN, seeds=(3,)), {"rnn": 20.0})
    for key in ("rnn_nnlm", *PROBED):
        assert by_key[key].verdict == "undecided" and "one seed" in by_key[key].note, key


def test_several_seeds_decide(findings: list[Finding]) -> None:
    verdicts = {finding.key: finding.verdict for finding in findings}
    assert {key for key in PROBED if verdicts[key] == "undecided"} == set()
    assert {key for key in PROBED if verdicts[key] == "contradicted"} == {"above_one"}  # its norm falls


@pytest.mark.parametrize(
    ("product", "factor", "supported", "contradicted"),
    [
        (0.8, 0.9, {"below_one", "vanishing_initial", "vanishing_trained"}, set()),
        (0.8, 1.2, set(), {"below_one", "vanishing_initial", "vanishing_trained"}),
        (1.7, 1.2, {"above_one"}, {"vanishing_initial", "vanishing_trained"}),
        (1.7, 0.9, {"vanishing_initial", "vanishing_trained"}, {"above_one"}),
    ],
)
def test_a_norm_that_grows_and_one_that_falls(
    tmp_path: Path, product: float, factor: float, supported: set[str], contradicted: set[str]
) -> None:
    params = make_params(("rnn",))
    folder = write_reports(tmp_path, params)

    def plant(tree: dict[str, Any]) -> None:
        for place, seed in enumerate(tree["seeds"]):
            for flow in seed["gradients"].values():
                flow["stack"]["growth"] = factor + 0.01 * place
                flow["layers"][0]["bound"].update(beta_W=product + 0.01 * place, beta_h=1.0)

    edit(folder / "probe" / "rnn.json", plant)
    by_key = {f.key: f for f in textbook_findings(read_reports(params, folder))}
    keys = ("below_one", "above_one", "vanishing_initial", "vanishing_trained")
    assert {key for key in keys if by_key[key].verdict == "supported"} == supported
    assert {key for key in keys if by_key[key].verdict == "contradicted"} == contradicted
    tested, other = ("below_one", "above_one") if product < 1 else ("above_one", "below_one")
    assert by_key[tested].a.value == mean_interval([factor + 0.01 * place for place in range(3)])
    assert f"β_W β_h = {product:.3g}" in by_key[tested].condition and by_key[other].verdict == "not tested"


def test_a_seed_beyond_what_was_measured_is_no_number(tmp_path: Path) -> None:
    params = make_params(("rnn",))
    folder = write_reports(tmp_path, params)

    def overflow(tree: dict[str, Any]) -> None:
        tree["seeds"][1]["gradients"]["trained"]["stack"]["growth"] = None

    edit(folder / "probe" / "rnn.json", overflow)
    finding = {f.key: f for f in textbook_findings(read_reports(params, folder))}["vanishing_trained"]
    assert finding.verdict == "undecided" and finding.difference is None and "beyond" in finding.note


def test_seeds_that_diverged_are_not_probed(tmp_path: Path) -> None:
    params = make_params(("rnn", "lstm"))
    reports = read_reports(params, write_reports(tmp_path, params, {"rnn": [0, 2]}))
    by_key = {finding.key: finding for finding in textbook_findings(reports)}
    assert by_key["vanishing_trained"].verdict == "undecided" and "one seed" in by_key["vanishing_trained"].note
    assert by_key["lstm_vanishing"].verdict == "undecided" and by_key["lstm_shortcut"].verdict == "supported"


def test_claims_about_missing_models_are_not_tested(tmp_path: Path) -> None:
    params = make_params(("gru",), ngram=NgramParams(max_order=1, smoothings=("mle",)))
    by_key = found(tmp_path, params)
    lacking = (
        "nnlm_ngram", "rnn_nnlm", "lstm_rnn", "depth_power", "ngram_weaker", "smoothing", "twice", "far_lost", "bound",
        "below_one", "above_one",
    )  # fmt: skip
    assert {by_key[key].verdict for key in lacking} == {"not tested"}


def test_counts_without_smoothing_are_compared_with_nothing(tmp_path: Path) -> None:
    params = make_params(("nnlm",), ngram=NgramParams(max_order=5, smoothings=("mle",)))
    by_key = found(tmp_path, params)
    assert by_key["smoothing"].verdict == by_key["ngram_weaker"].verdict == "not tested"


def test_counts_that_miss_nothing_leave_no_zeros_to_mend(tmp_path: Path) -> None:
    params = make_params(("nnlm",))
    folder = write_reports(tmp_path, params)

    def nothing_missed(tree: dict[str, Any]) -> None:
        for model in tree["models"].values():
            model["splits"]["test"]["reset"]["num_infinite"] = 0

    edit(folder / "ngram.json", nothing_missed)
    by_key = {f.key: f for f in textbook_findings(read_reports(params, folder))}
    assert by_key["smoothing"].verdict == by_key["nnlm_zeros"].verdict == "not tested"


def test_possible_ngrams_grow_by_the_vocabulary(tmp_path: Path) -> None:
    params = make_params(("lstm",))
    folder = write_reports(tmp_path, params)

    def other_size(tree: dict[str, Any]) -> None:
        tree["vocab_size"] = 1_557  # whose powers as floats are not all powers of one number
        for part in tree["parts"]:
            for order in part["orders"]:
                order["possible"] = 1557.0 ** order["order"]

    edit(folder / "experiments" / "sparsity.json", other_size)
    growth = {f.key: f for f in textbook_findings(read_reports(params, folder))}["ngram_growth_possible"]
    assert growth.verdict == "supported" and growth.a.value is not None and growth.a.value.mean == 1557.0


def test_files_of_questions_bring_their_claims(reports: Reports, findings: list[Finding], tmp_path: Path) -> None:
    asked = {f.key: f.verdict for f in findings if f.key in ("similar", "analogies")}
    assert asked == {"similar": "supported", "analogies": "supported"}
    unasked = found(tmp_path, make_params(("nnlm",)))
    assert unasked["similar"].verdict == unasked["analogies"].verdict == "not tested"


def test_a_large_product_that_does_not_explode_contradicts(tmp_path: Path) -> None:
    by_key = found(tmp_path, make_params(("rnn",)))  # beta_W beta_h = 1.68 and a gradient that halves
    assert by_key["above_one"].verdict == "contradicted" and "1.68" in by_key["above_one"].condition
    assert by_key["below_one"].verdict == "not tested"
    assert by_key["bound"].verdict == "supported" and by_key["vanishing_trained"].verdict == "supported"


def test_a_violated_bound_contradicts(tmp_path: Path) -> None:
    params = make_params(("rnn",))
    folder = write_reports(tmp_path, params)

    def violate(tree: dict[str, Any]) -> None:
        tree["seeds"][1]["gradients"]["trained"]["layers"][0]["bound"]["violations"] = 1

    edit(folder / "probe" / "rnn.json", violate)
    by_key = {f.key: f for f in textbook_findings(read_reports(params, folder))}
    assert by_key["bound"].verdict == "contradicted"


def test_parameters_of_the_ablations_are_counted(findings: list[Finding]) -> None:
    by_key = {finding.key: finding for finding in findings}
    assert by_key["ablation_fgr_parameters"].verdict == by_key["ablation_cifg_parameters"].verdict == "supported"
    assert by_key["ablation_fgr_parameters"].note == "2.12 times as many"
    gap = by_key["ablation_fgr_overfitting"].difference
    assert gap is not None and gap.method == "paired t" and abs(gap.mean) < 0.01  # the fixtures' gap is 0.28 for all


def test_apart_is_newcombes_interval() -> None:
    # Newcombe (1998), table II, example (a): 56 of 70 against 48 of 80, method 10.
    one, other = Estimate(0.8, 0.691825, 0.877164, 70), Estimate(0.6, 0.490455, 0.700369, 80)
    gap = apart(one, other)
    assert gap is not None and gap.mean == pytest.approx(0.2)
    assert (gap.low, gap.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert apart(None, other) is None
    without = apart(Estimate(1.0, None, None, 1), constant(0.5))
    assert without is not None and without.low is None and without.mean == 0.5


def test_models_are_chosen_as_the_comparison_names_them(reports: Reports) -> None:
    evidence = Evidence(reports)
    assert (evidence.nnlm, evidence.rnn, evidence.lstm, evidence.gru) == ("nnlm", "rnn", "lstm", "gru")
    assert evidence.ngram == "modified_kneser_ney_5" and evidence.smoothed(2) == "modified_kneser_ney_2"
    assert evidence.of_kind("bilstm") is None


def test_sources_are_stages(reports: Reports) -> None:
    assert stages_of(("train@*", "memory"), reports)[-1] == "memory"
    assert stages_of(("evaluate@gru", "ngram"), reports) == ("ngram", "evaluate@gru")
    assert len(stages_of((), reports)) == 3 + 4 * len(reports.neural) + 6
    with pytest.raises(ValueError, match="train@nobody: no such stage"):
        stages_of(("train@nobody",), reports)
    made = origin(("train@gru", "probe@gru"), reports, "abc")
    assert made.runs["probe@gru"] is None and made.runs["train@gru"] == reports.runs["train@gru"]["run_id"]
    at = {"1" * 40 + " (changed)": ("train@gru",)}
    run = {"run_id": "r", "commit": "1" * 40, "dirty": True}
    known = replace(reports, runs={"train@gru": run, "evaluate@gru": run | {"dirty": False}})
    assert made.commits == {"5" * 40: ("train@gru",)} and origin(("train@gru", "probe@gru"), known, "abc").commits == at
    assert origin(("train@gru", "evaluate@gru"), known, "abc").commits == at | {"1" * 40: ("evaluate@gru",)}
    assert set(made.data) == {"train", "valid", "test"}
