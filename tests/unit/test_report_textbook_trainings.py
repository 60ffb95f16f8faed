"""Claims of the notes that rest on small trainings, on speed and on the place in a line, decided either way."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats_fixtures import DOCUMENTS, LINE, NUM_TARGETS
from probe_report_fixtures import NETWORKS
from report_fixtures import edit, make_params, read_reports, write_reports
from scipy import stats

from nextword.config import ExplodingParams, Params, WindowParams
from nextword.report.collect import Reports
from nextword.report.finding import Finding
from nextword.report.probes.experiments import ExplodingRun
from nextword.report.textbook import textbook_findings
from nextword.report.textbook.evidence import Evidence
from nextword.report.textbook.exploding import rises
from nextword.report.textbook.tasks import across_tasks, by_task, geometric, lags_solved, log_growth


def findings_of(params: Params, folder: Path) -> dict[str, Finding]:
    return {finding.key: finding for finding in textbook_findings(read_reports(params, folder))}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    params = make_params(("nnlm", "rnn", "lstm", "gru"))
    return read_reports(params, write_reports(tmp_path_factory.mktemp("reports"), params))


@pytest.fixture(scope="module")
def findings(reports: Reports) -> list[Finding]:
    return textbook_findings(reports)


@pytest.mark.parametrize(("seeds", "verdict"), [((0,), "undecided"), ((0, 1), "supported")])
def test_the_window_needs_two_seeds(tmp_path: Path, seeds: tuple[int, ...], verdict: str) -> None:
    params = make_params(("nnlm",), window=WindowParams(seeds=seeds))
    finding = findings_of(params, write_reports(tmp_path, params))["window_small"]
    assert finding.verdict == verdict and finding.difference is not None
    assert ("one seed" in finding.note) == (finding.difference.low is None) == (len(seeds) == 1)
    if finding.difference.high is not None:  # documents 0.04, seeds 0.03 each
        assert finding.difference.high == pytest.approx(-0.08 + math.sqrt(0.04**2 + 2 * 0.03**2))


def test_what_is_worse_than_single_words_was_trained_too_little(tmp_path: Path) -> None:
    params = make_params(("nnlm",), window=WindowParams(seeds=(0, 1)))
    folder = write_reports(tmp_path, params)

    def raise_it(tree: dict[str, Any]) -> None:
        tree["models"][-1]["perplexity"] |= {"mean": 5_000.0, "low": 4_900.0, "high": 5_100.0}

    edit(folder / "experiments" / "window.json", raise_it)
    by_key = findings_of(params, folder)
    assert by_key["window_never"].verdict == "undecided" and "trained too little: rnn" in by_key["window_never"].note
    assert by_key["window_small"].verdict == "supported"


def test_clipping_is_read_from_the_runs(findings: list[Finding]) -> None:
    clipping = next(finding for finding in findings if finding.key == "clipping_rnn")
    assert clipping.a.value is not None and clipping.b.value is not None
    assert (clipping.a.value.mean, clipping.b.value.mean) == (0.0, 0.5)  # scales 2, 3 and 5 of six, unclipped
    assert clipping.verdict == "supported" and clipping.difference is not None
    assert clipping.difference.high == pytest.approx(-0.5 + 1 / 6)  # all seeds alike: to within a scale


@pytest.mark.parametrize("scales", [(2.0,), (2.0, 3.0)])
def test_scales_on_one_side_of_one_do_not_compare(tmp_path: Path, scales: tuple[float, ...]) -> None:
    params = make_params(("rnn",), exploding=ExplodingParams(scales=scales))
    by_key = findings_of(params, write_reports(tmp_path, params))
    assert by_key["nan_rnn"].verdict == "not tested" and "both sides of 1" in by_key["nan_rnn"].note
    assert by_key["large_steps_rnn"].difference is not None


def test_overfitting_names_the_parameters_that_its_networks_share(findings: list[Finding]) -> None:
    finding = next(finding for finding in findings if finding.key == "lstm_overfitting")
    sizes = [NETWORKS[name][3] for name in ("lstm", "gru")]
    assert f"{sizes[0]:,} parameters outside embedding and output against {sizes[1]:,}" in finding.condition


def test_a_large_step_is_followed_by_a_large_loss_or_not(findings: list[Finding], tmp_path: Path) -> None:
    planted = next(finding for finding in findings if finding.key == "large_steps_rnn")
    assert planted.a.value is not None and planted.b.value is not None
    assert (planted.a.value.mean, planted.b.value.mean) == (0.5, 0.0)  # scales 2, 3 and 5 of six diverge at the last
    assert planted.verdict == "supported"
    params = make_params(("rnn",))
    folder = write_reports(tmp_path, params)

    def turn(tree: dict[str, Any]) -> None:
        for setting in tree["settings"]:
            for run in setting["runs"]:
                run |= {"first_non_finite": None, "losses": [8.0, 8.5, 8.2, 8.1], "grad_norms": [1.0, 9.0, 2.0, 3.0]}

    edit(folder / "experiments" / "exploding.json", turn)
    assert findings_of(params, folder)["large_steps_rnn"].verdict == "contradicted"


def test_a_loss_that_is_not_finite_is_a_rise() -> None:
    run: dict[str, Any] = {"seed": 0, "diverged": True, "non_finite": None, "grad_norm_before": None}
    run |= {"largest_grad_norm": 1.0, "final_loss": None}
    curves = {"losses": (5.0, 4.0), "grad_norms": (1.0, 7.0)}
    assert rises(ExplodingRun(**run, first_non_finite=2, **curves)) == (True, False)
    assert rises(ExplodingRun(**run, first_non_finite=None, **curves)) == (False, False)  # no loss after the last
    assert rises(ExplodingRun(**run, first_non_finite=0, losses=(), grad_norms=())) is None


def test_speed_against_the_nnlm_is_decided_though_engines_differ(tmp_path: Path) -> None:
    params = make_params(("nnlm", "rnn", "lstm"))
    folder = write_reports(tmp_path, params)
    slow = findings_of(params, folder)["rnn_slow"]
    assert slow.verdict == "supported" and "engines fused and feed-forward" in slow.condition

    def hasten(tree: dict[str, Any]) -> None:
        for run in tree["runs"]:
            run["tokens_per_second"] *= 10

    edit(folder / "train" / "rnn.json", hasten)
    assert findings_of(params, folder)["rnn_slow"].verdict == "contradicted"

    def other_device(tree: dict[str, Any]) -> None:
        for run in tree["runs"]:
            run["device"] = "cuda"

    edit(folder / "train" / "rnn.json", other_device)
    unlike = findings_of(params, folder)["rnn_slow"]
    assert unlike.verdict == "undecided" and "device cuda against cpu" in unlike.note and "engine f" not in unlike.note


@pytest.mark.parametrize(("slope", "verdict"), [(0.3, "supported"), (-0.3, "contradicted"), (0.0, "undecided")])
def test_loss_late_in_a_line_is_decided_either_way(tmp_path: Path, slope: float, verdict: str) -> None:
    params = make_params(("rnn",))
    folder = write_reports(tmp_path, params)
    place_N = np.arange(NUM_TARGETS["test"]) % LINE + 1
    late_N, early_N = (place_N > 5) & (place_N < LINE), (place_N > 1) & (place_N <= 5)
    gaps = []
    for seed in (0, 1, 2):
        path = folder / "nats" / "rnn" / f"seed-{seed}.test.reset.npy"
        nats_N = np.load(path) + slope * place_N + 9.0 * (place_N == 1) - 9.0 * (place_N == LINE)
        np.save(path, nats_N)
        gaps.append(nats_N[late_N].mean() - nats_N[early_N].mean())
    finding = findings_of(params, folder)["late_in_line"]
    assert (finding.a.name, finding.b.name) == ("words beyond 5", "words 2 to 5")
    gap = finding.difference
    assert gap is not None and gap.mean == pytest.approx(np.mean(gaps)) and gap.method == "crossed bootstrap"
    assert finding.verdict == verdict


def test_a_contrast_varies_as_the_documents_do(reports: Reports) -> None:
    """Against a bootstrap over documents of the two means as they stand."""
    rng = np.random.default_rng(2)
    part_N = rng.random(NUM_TARGETS["test"]) < 0.3
    edges = np.cumsum([0, *DOCUMENTS["test"]])
    of_document = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    hard_D = rng.normal(0.0, 1.0, len(edges) - 1)  # one part alone varies with the document
    nats_SN = 5.0 + part_N * hard_D[of_document] + rng.normal(0.0, 0.1, (3, len(part_N)))
    gap = Evidence(reports).contrast(nats_SN, part_N, ~part_N)
    counts_D = [np.bincount(of_document[part], minlength=len(hard_D)) for part in (part_N, ~part_N)]
    sums_D = [np.bincount(of_document[part], nats_SN.mean(0)[part], len(hard_D)) for part in (part_N, ~part_N)]
    drawn = rng.multinomial(len(hard_D), np.full(len(hard_D), 1 / len(hard_D)), 4_000)
    means = [drawn @ sums / (drawn @ counts) for sums, counts in zip(sums_D, counts_D, strict=True)]
    spread = float((means[0] - means[1]).std(ddof=1)) * math.sqrt(len(hard_D) / (len(hard_D) - 1))
    assert gap.low is not None and gap.high is not None and gap.freedom is not None
    half = stats.t.ppf(0.975, gap.freedom) * spread
    assert (gap.high - gap.low) / 2 == pytest.approx(half, rel=0.15)


def test_overfitting_is_read_where_there_is_little_data(findings: list[Finding]) -> None:
    by_key = {finding.key: finding for finding in findings}
    against, data = by_key["lstm_overfitting"], by_key["lstm_overfitting_data"]
    assert (against.a.name, against.b.name) == ("lstm, 10,000 tokens", "gru, 10,000 tokens")
    assert against.difference is not None and against.difference.mean == pytest.approx(0.05 * 2.0)
    assert data.b.name == "lstm, 40,000 tokens" and data.difference is not None
    assert data.difference.mean == pytest.approx(1.0) and data.verdict == "supported"


def test_lags_solved_are_counted_by_task_and_seed(reports: Reports) -> None:
    memory = reports.probes.memory
    lags = by_task(memory, ("lstm", "tanh"), lags_solved(memory.lags))
    assert lags is not None and lags[0].shape == lags[1].shape == (len(memory.seeds), len(memory.tasks))
    assert lags[0][:, 0].tolist() == [4.0, 4.0, 5.0]  # 40, 40 and 80 of 5, 10, 20, 40, 80
    assert by_task(memory, ("lstm", "none"), lags_solved(memory.lags)) is None


def test_growths_are_those_of_every_seed(reports: Reports) -> None:
    found = by_task(reports.probes.memory, ("lstm",), log_growth("trained"))
    assert found is not None and np.exp(found[0]) == pytest.approx(0.97)
    assert geometric(found[0]).mean == pytest.approx(0.97)


def test_seeds_of_few_tasks_are_no_more_tasks(reports: Reports) -> None:
    """Three tasks of four gain a lot, one loses: nothing is decided, however many seeds say the same."""
    gain_ST = np.tile([2.0, 3.0, 2.0, -1.0], (50, 1))
    few = across_tasks(Evidence(reports), gain_ST, np.zeros((50, 4)))
    assert few.low is not None and few.high is not None and few.low < 0.0 < few.high
    theirs = stats.t.interval(0.95, 3, loc=1.5, scale=stats.sem(gain_ST[0]))
    assert (few.low, few.high) == pytest.approx(theirs, rel=0.1)  # the bootstrap's degrees of freedom are estimated


def test_tasks_crossed_with_seeds_are_covered(reports: Reports) -> None:
    rng, inside, trials = np.random.default_rng(5), 0, 2_000
    for _ in range(trials):
        tasks_T, seeds_S1 = rng.normal(0.0, 1.0, 4), rng.normal(0.0, 1.0, (3, 1))
        a_ST = tasks_T + seeds_S1 + rng.normal(0.0, 1.0, (3, 4))
        gap = across_tasks(Evidence(reports), a_ST, rng.normal(0.0, 1.0, (3, 4)))
        assert gap.low is not None and gap.high is not None
        inside += gap.low <= 0.0 <= gap.high
    assert 0.93 < inside / trials < 0.97


@pytest.mark.parametrize(("reached", "verdict"), [(5, "supported"), (80, "contradicted")])
def test_the_longest_lag_is_decided_either_way(tmp_path: Path, reached: int, verdict: str) -> None:
    params = make_params(("rnn", "lstm"))
    folder = write_reports(tmp_path, params)

    def reach(tree: dict[str, Any]) -> None:
        for task in tree["tasks"].values():
            for name in ("tanh", "lstm"):
                task["variants"][name]["longest_lag"]["by_seed"] = [reached] * 3

    edit(folder / "experiments" / "memory.json", reach)
    by_key = findings_of(params, folder)
    for key in ("never_falls", "lstm_limited"):
        gap = by_key[key].difference
        assert by_key[key].verdict == verdict, key
        assert gap is not None and gap.low == pytest.approx(gap.mean - 0.25)  # a task of four
