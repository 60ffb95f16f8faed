"""Tables, plots and page of the probes: the figures of the reports arrive, and odd ones do no harm."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import compare_reports, edit, make_params, write_reports

from nextword.config import NgramParams, Params
from nextword.config.probes import ExplodingParams, SparsityParams
from nextword.evaluation.statistics import mean_interval
from nextword.report import ComparisonResult
from nextword.report.collect import collect
from nextword.report.probes.embeddings import shown_models
from nextword.report.probes.plots.context import context_plots
from nextword.report.probes.sections import probe_sections, probe_summary
from nextword.report.section import CHAPTERS
from nextword.report.tables import Table

MODELS: dict[str, dict[str, Any]] = {
    "nnlm": {}, "rnn": {}, "lstm": {}, "gru": {}, "rnn_deep": {"group": "rnn", "num_layers": 2},
    "lstm_both": {"bidirectional": True, "group": "bidirectional"},
}  # fmt: skip
SECTIONS = (
    "ngram_sparsity", "window", "gradients", "exploding", "memory", "cures", "context", "neighbours", "analogies",
    "similarity", "capacity", "overfitting", "throughput", "step_costs",
)  # fmt: skip
PLOTS = {
    "sparsity_size", "smoothing_size", "window", "cells", "gradients", "gradients_rnn",
    "cell_state", "weight_gradients", "exploding", "exploding_norms", "memory", "cures", "context",
    "far_context", "context_rnn", "map_nnlm", "map_rnn", "map_lstm", "map_gru",
}  # fmt: skip


def small_params() -> Params:
    return make_params(
        MODELS,
        seeds=(0,),
        ngram=NgramParams(max_order=2, smoothings=("mle", "kneser_ney")),
        exploding=ExplodingParams(scales=(1.0, 5.0)),
        sparsity=SparsityParams(fractions=(0.1, 1.0)),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reports(tmp_path, small_params(), analogies=("rnn", "lstm"))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    params = small_params()
    return compare_reports(params, write_reports(tmp_path_factory.mktemp("reports"), params, analogies=("rnn", "lstm")))


def tables(folder: Path) -> dict[str, Table]:
    return {section.name: section.table for section in probe_sections(collect(small_params(), folder))}


def row(table: Table, *labels: str) -> dict[str, str]:
    """Text of the cells of the row that begins with ``labels``, spanned ones repeated, with the smaller line."""
    above: list[Any] = []
    for cells in table.rows:
        above = [cell if cell is not None else above[i] for i, cell in enumerate(cells)]
        if tuple(cell.text for cell in above[: len(labels)]) == labels:
            return {h: f"{c.text} {c.under}".strip() for h, c in zip(table.headings, above, strict=True)}
    raise AssertionError(f"no row {labels} in {table.caption}")


def test_every_part_has_its_files_and_plots(result: ComparisonResult) -> None:
    written = {path.name for path in result.folder.iterdir()}
    assert {f"{name}.{kind}" for name in SECTIONS for kind in ("json", "csv", "md")} <= written
    assert set(result.figures) >= PLOTS
    assert {f"{name}.svg" for name in PLOTS} <= written
    for name in SECTIONS:
        tree = json.loads((result.folder / f"{name}.json").read_text(encoding="utf-8"))
        with (result.folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(tree["rows"]) == len(result.tables[name]) > 0
        assert tree["notes"] and f"### {tree['title']}\n" in result.markdown


def test_the_page_has_chapters_and_contents(result: ComparisonResult) -> None:
    text = result.page.read_text(encoding="utf-8")
    for name, title in CHAPTERS.items():
        assert text.count(f'href="#chapter-{name}"') == 2  # of the bar and of the contents
        assert f'<h2 id="chapter-{name}">{title}</h2>' in text
    gradients = text[text.index('id="chapter-gradients"') : text.index('id="chapter-memory"')]
    assert 'id="figure-gradients"' in gradients and 'id="exploding"' in gradients
    assert 'id="context"' not in gradients


def test_gradient_figures_arrive(folder: Path) -> None:
    found = row(tables(folder)["gradients"], "lstm")
    assert found["half-life, trained"] == "9.50 [8.55, 11.4]"
    assert found["half-life at the start"] == "3.17 [2.85, 3.80]"
    assert found["dc/dc halves in, trained"] == "28.5 [25.7, 34.2]" and found["bound holds"] == "–"  # noqa: RUF001
    deep = row(tables(folder)["gradients"], "rnn_deep")
    assert deep["model"] == "rnn_deep (2 layers)" and deep["β_W trained"] == "1.75 / 1.75"
    assert deep["bound holds"] == "yes (0 of 512 above)"
    assert any("nnlm, lstm_both" in note for note in tables(folder)["gradients"].notes)


def test_factors_and_bounds_are_of_all_seeds(tmp_path: Path) -> None:
    params = make_params(("rnn", "lstm"), seeds=(4, 7, 9))
    reports = collect(params, write_reports(tmp_path, params, diverged={"lstm": [9]}))
    table = {section.name: section for section in probe_sections(reports)}["gradients"]
    lstm, rnn = (row(table.table, name) for name in ("lstm", "rnn"))
    growths = [0.5 ** (1 / (9.5 * 1.03**place)) for place in (0, 1)]  # the third diverged
    expected = mean_interval(growths)
    assert expected.low is not None and expected.high is not None
    limits = f"[{expected.low:.3f}, {expected.high:.3f}]"
    assert lstm["factor a token, trained"] == f"{expected.mean:.3f} {limits}"
    assert lstm["half-life, trained"].startswith("9.50 ")  # of the first seed
    assert rnn["bound holds"] == "yes (0 of 768 above)" and rnn["β_W trained"] == "1.75"
    trained = [r for r in table.records if r["name"] == "lstm" and r["weights"] == "trained"]
    assert [r["seed"] for r in trained] == [4, 7, 9] and [r["stack_growth"] for r in trained][:2] == growths


def test_a_violated_bound_is_said(folder: Path) -> None:
    def violate(tree: dict[str, Any]) -> None:
        tree["seeds"][0]["gradients"]["trained"]["layers"][0]["bound"].update(holds=False, violations=3)

    edit(folder / "probe" / "rnn.json", violate)
    assert row(tables(folder)["gradients"], "rnn")["bound holds"] == "no (3 of 256 above)"
    assert any("is violated at 3 of" in line for line in probe_summary(collect(small_params(), folder)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"status": "lasts", "tokens": None}, ">48"),
        ({"status": "grows", "tokens": None, "doubling_tokens": 3.0}, "grows (doubles in 3.00)"),
        ({"high": None}, "1.30 [1.17, >48]"),
    ],
)
def test_half_lives_beyond_the_longest_lag(folder: Path, change: dict[str, Any], text: str) -> None:
    edit(
        folder / "probe" / "rnn.json",
        lambda t: t["seeds"][0]["gradients"]["trained"]["stack"]["half_life"].update(change),
    )
    assert row(tables(folder)["gradients"], "rnn")["half-life, trained"] == text


def test_exploding_figures_arrive(folder: Path) -> None:
    table = tables(folder)["exploding"]
    lost, kept = row(table, "ReLU", "5", "none"), row(table, "tanh", "5", "at 1")
    assert lost["diverged"] == "3 of 3 [43.9%, 100.0%]" and lost["final loss, nats"] == "∞ (∞, ∞, ∞)"
    assert lost["first non-finite step"] == "12 (12, 12, 12)"
    assert lost["gradient norm before it"].startswith("310,000,000")
    assert kept["diverged"] == "0 of 3 [0.0%, 56.1%]" and kept["final loss, nats"] == "6.100 [6.060, 6.140]"
    summary = "\n".join(probe_summary(collect(small_params(), folder)))
    assert "tanh 3 of 6 without clipping and 0 of 6 with it; ReLU 3 of 6 without clipping and 3 of 6 with it" in summary


def test_memory_figures_arrive(folder: Path) -> None:
    found = tables(folder)
    copy, adding = (row(found["memory"], "ReLU")[task] for task in ("copy", "adding problem"))
    assert copy == "10 (at 20: 1 of 3 [6.1%, 79.2%])" and adding == "none (at 5: 1 of 3 [6.1%, 79.2%])"
    gru = next(cells for cells in found["memory"].rows if cells[0] is not None and cells[0].text == "GRU")
    assert all(cell is not None and cell.text == "80" and cell.bold and not cell.under for cell in gru[1:])
    cure = row(found["cures"], "LSTM", "copy")
    assert cure["growth a step, trained"] == "0.970 [0.960, 0.980]"
    assert cure["half-life at the start"] == "1.36 [1.22, 1.63]"


def test_context_figures_arrive(folder: Path) -> None:
    found = row(tables(folder)["context"], "lstm")
    assert found["effective length, tokens"] == "38.0 [30.4, >64]"
    assert found["nats, whole document"] == "4.200 [4.160, 4.240]"
    assert found["last 1 alone"] == "+0.87 [+0.83, +0.91]"
    assert found["beyond 8: shuffled"] == "+0.08 [+0.04, +0.12]"


def test_a_model_worse_than_chance_is_not_drawn(folder: Path) -> None:
    edit(
        folder / "probe" / "rnn.json", lambda tree: tree["seeds"][0]["context"]["document"]["nats"].update(mean=1135.0)
    )
    plots = {plot.name: plot for plot in context_plots(collect(small_params(), folder))}
    drawn = [text.get_text() for text in plots["context"].figure.axes[0].get_legend().get_texts()]
    assert drawn == ["nnlm", "lstm", "gru"] and "left out: rnn." in plots["context"].caption


def test_embedding_figures_arrive(folder: Path) -> None:
    found = tables(folder)
    assert row(found["neighbours"], "war")["rnn"].startswith("peace 0.71, congress 0.71")
    analogies = row(found["analogies"], "rnn")
    assert analogies["covered"] == "320 of 1,290 (24.8%)" and analogies["3CosAdd, all"] == "25.0% [21.0%, 29.0%]"
    assert analogies["3CosMul, semantic"] == "–"  # noqa: RUF001
    assert row(found["similarity"], "lstm")["Spearman's rho"] == "0.310 [0.140, 0.460]"
    assert [cells[0].text for cells in found["analogies"].rows if cells[0]] == ["rnn", "lstm"]
    assert "No single type of the vocabulary: russia." in found["neighbours"].notes


def test_without_files_there_are_no_analogies(tmp_path: Path) -> None:
    assert set(tables(write_reports(tmp_path, small_params()))) == set(SECTIONS) - {"analogies", "similarity"}


def test_an_order_longer_than_every_line_has_no_types(folder: Path) -> None:
    def shorten(tree: dict[str, Any]) -> None:
        tree["parts"][0]["orders"][1].update(types=0, singletons=0, unseen_share=None)

    edit(folder / "experiments" / "sparsity.json", shorten)
    found = row(tables(folder)["ngram_sparsity"], "10% of train", "2")
    assert found["types"] == "0" and found["unseen in valid"] == "–"  # noqa: RUF001


def test_maps_are_of_the_first_model_of_each_kind(folder: Path) -> None:
    models = collect(small_params(), folder).probes.models
    assert list(shown_models(models)) == ["nnlm", "rnn", "lstm", "gru"]
    assert list(shown_models(dict(reversed(models.items())))) == ["nnlm", "rnn_deep", "lstm", "gru"]
    assert list(shown_models({name: models[name] for name in ("lstm_both", "lstm")})) == ["lstm"]


def test_window_and_sparsity_figures_arrive(folder: Path) -> None:
    found = tables(folder)
    window = row(found["window"], "window 2")
    assert window["valid perplexity"] == "220.0 [211.0, 229.0]" and window["parameters"] == "1,332,768"
    assert window["change, nats a target"] == "-0.080 [-0.120, -0.040]"
    sparse = row(found["ngram_sparsity"], "10% of train", "2")
    assert sparse["unseen in valid"] == "45.0%" and sparse["perplexity, mle"] == "∞ (14.2 on the other 55.0%)"
    assert sparse["types"] == "16,000 (37.5% once)"
    assert row(found["ngram_sparsity"], "all of train", "2")["perplexity, mle"].startswith("200")


def spoil_gradients(tree: dict[str, Any]) -> None:
    for flow in tree["seeds"][0]["gradients"].values():
        for norm in (flow["stack"], *(layer[k] for layer in flow["layers"] for k in ("h", "loss_by_weights"))):
            for name in norm["quantiles"]:
                norm["quantiles"][name] = [1.0, *([None] * (len(norm["lags"]) - 2)), 0.0]
        for layer in flow["layers"]:
            layer["bound"] = layer["bound"] and layer["bound"] | {"values": [None] * len(layer["bound"]["values"])}


def spoil_context(tree: dict[str, Any]) -> None:
    nothing = {"mean": None, "low": None, "high": None}
    context = tree["seeds"][0]["context"]
    context["document"]["nats"] = nothing
    context["effective_length"].update(tokens=None, low=None, high=None)
    for name in ("truncated", "shuffled", "dropped_frequent", "dropped_rare"):
        for line in context[name]:
            line.update(nats=nothing, increase=nothing)


def spoil_memory(tree: dict[str, Any]) -> None:
    for task in tree["tasks"].values():
        for variant in task["variants"].values():
            for flow in variant["flow"].values():
                flow["median"] = [None] * len(flow["median"])
                flow["growth"].update(mean=None, low=None, high=None)
                flow["half_life"] = dict.fromkeys(flow["half_life"]) | {"status": "lasts"}


def spoil_exploding(tree: dict[str, Any]) -> None:
    for setting in tree["settings"]:
        setting["final_loss"] = None
        for run in setting["runs"]:
            run.update(first_non_finite=0, grad_norm_before=None, largest_grad_norm=None, final_loss=None)


def spoil_window(tree: dict[str, Any]) -> None:
    for model in tree["models"]:
        model.update(perplexity={"mean": None, "low": None, "high": None}, over_seeds=None)


def spoil_map(tree: dict[str, Any]) -> None:
    tree["embeddings"]["map"].update(words=[], explained_share=None, trustworthiness=None)
    tree["embeddings"]["neighbours"] = []


def test_infinite_and_absent_figures_make_a_page(folder: Path) -> None:
    for name in MODELS:
        path = folder / "probe" / f"{name}.json"
        tree = json.loads(path.read_text(encoding="utf-8"))
        for part, spoil in (("gradients", spoil_gradients), ("context", spoil_context), ("embeddings", spoil_map)):
            if (tree if part == "embeddings" else tree["seeds"][0])[part] is not None:
                edit(path, spoil)
    experiments: dict[str, Callable[[dict[str, Any]], None]] = {
        "memory": spoil_memory, "exploding": spoil_exploding, "window": spoil_window,
    }  # fmt: skip
    for name, spoil in experiments.items():
        edit(folder / "experiments" / f"{name}.json", spoil)
    result = compare_reports(small_params(), folder)
    assert not {name for name in result.figures if name.startswith("map_")}
    assert {"gradients", "exploding", "memory"} <= set(result.figures) and "context" not in result.figures
    found = tables(folder)
    assert row(found["context"], "lstm")["effective length, tokens"] == ">64 [>64, >64]"
    assert row(found["context"], "lstm")["last 8 alone"] == "∞"
    assert row(found["window"], "window 1")["valid perplexity"] == "∞"


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("probe/lstm.json", "probe@lstm"),
        *((f"experiments/{name}.json", name) for name in ("memory", "exploding", "window", "sparsity")),
    ],
)
def test_a_missing_report_names_its_stage(folder: Path, missing: str, stage: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=rf"{missing} not found; run `dvc repro {stage}`"):
        collect(small_params(), folder)


def test_a_report_of_another_shape_is_named(folder: Path) -> None:
    edit(folder / "probe" / "gru.json", lambda tree: tree["seeds"][0]["gradients"]["trained"].pop("stack"))
    with pytest.raises(
        ValueError, match=r"gru\.json: seeds.0.gradients.trained.stack: field required; run `dvc repro -f probe@"
    ):
        collect(small_params(), folder)


def test_run_ids_of_the_probes(folder: Path) -> None:
    for name in ("probe/lstm", "experiments/memory"):
        path = folder / "runs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"run_id": "1"}', encoding="utf-8")
    assert {"probe@lstm", "memory"} <= collect(small_params(), folder).runs.keys()
