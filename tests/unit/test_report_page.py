"""The written files: complete, self-contained, escaped, and the same at every run."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import (
    ABLATIONS,
    MAIN,
    compare_reports,
    edit,
    make_params,
    ngram_report,
    read_reports,
    write_reports,
)

from nextword.config import NgramParams, load_params
from nextword.report import ComparisonResult
from nextword.report.gru_vs_lstm import compare_gru_lstm
from nextword.report.leaderboard import leaderboard
from nextword.report.page import facts
from nextword.report.palette import SERIES, VARIABLES
from nextword.report.plots import ngram_order_figure, sparsity_figure
from nextword.report.short import short_form
from nextword.report.style import svg
from nextword.report.tables import Cell, Table, markdown
from nextword.report.textbook import textbook_findings
from nextword.tracking.values import MAX_TAG

ROOT = Path(__file__).parents[2]
VOID = {"meta", "link", "br", "img", "input", "hr"}
FILES = {
    "leaderboard.json", "leaderboard.csv", "leaderboard.md", "gru_vs_lstm.json", "gru_vs_lstm.csv", "gru_vs_lstm.md",
    "report.html", "report.md", "summary.md", "leaderboard.svg", "parameters.svg", "learning_tokens.svg",
    "learning_seconds.svg", "ngram_orders.svg", "sparsity.svg", "frequency.svg",
}  # fmt: skip
PROBE_TABLES = (
    "capacity", "overfitting", "throughput", "step_costs", "claims", "combinations",
    "ngram_sparsity", "window", "gradients", "exploding", "memory", "cures", "context", "neighbours",
)  # fmt: skip
PROBE_PLOTS = (
    "bits", "gap", "throughput", "combinations", "forest_memory", "forest_perplexity", "forest_speed", "half_lives",
    "sparsity_size", "smoothing_size", "window", "cells", "gradients", "cell_state",
    "weight_gradients", "exploding", "exploding_norms", "memory", "cures", "context", "far_context", "map_nnlm",
    "map_rnn", "map_lstm", "map_gru",
)  # fmt: skip
FILES |= {f"{name}.{kind}" for name in PROBE_TABLES for kind in ("json", "csv", "md")}
FILES |= {f"{name}.svg" for name in PROBE_PLOTS}

BY_GROUP = ("learning_tokens", "learning_seconds", "frequency")
PROBES_BY_GROUP = ("gradients", "context")


class Page(HTMLParser):
    """Balanced tags, ids, and everything that could load something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src", "srcset", "action", "data"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    params = make_params()
    return compare_reports(
        params, write_reports(tmp_path_factory.mktemp("reports"), params, {"rnn": [1]}), commit="abc1234"
    )


def test_all_files_are_written(result: ComparisonResult) -> None:
    assert {path.name for path in result.folder.iterdir()} == FILES
    assert {path.name for path in result.figures.values()} == {name for name in FILES if name.endswith(".svg")}
    assert result.page.exists()


def test_same_inputs_give_the_same_bytes(result: ComparisonResult, tmp_path: Path) -> None:
    params = make_params()
    again = compare_reports(params, write_reports(tmp_path, params, {"rnn": [1]}), commit="abc1234")
    for name in FILES:
        assert (again.folder / name).read_bytes() == (result.folder / name).read_bytes(), name


def test_page_is_balanced_and_loads_nothing(result: ComparisonResult) -> None:
    text = result.page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "ids repeat"
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids), "a link leads nowhere"
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert {target for target in re.findall(r"url\(#([^)]+)\)", text)} <= set(page.ids)
    assert "@import" not in text


def test_page_shows_both_schemes_and_its_origin(result: ComparisonResult) -> None:
    text = result.page.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text and "abc1234" in text and "width=device-width" in text
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--series-0)" in svgs and "var(--ink)" in svgs
    for light, _ in VARIABLES.values():
        assert light not in svgs
    assert "confidence: 0.95" in text  # params
    assert "train@lstm" in text  # run ids
    assert "from year" in text and "569,800" in text  # corpus and ids


def test_every_table_and_figure_says_what_it_was_made_from(result: ComparisonResult) -> None:
    text = result.page.read_text(encoding="utf-8")
    shown = len(re.findall("<figure ", text)) + len(re.findall("<h3 ", text))
    origins = re.findall(r'<details class="origin">.*?</details>', text, flags=re.DOTALL)
    assert len(origins) == shown > 20
    assert all("abc1234" in origin and "SHA-256" in origin for origin in origins)
    run_id = json.loads((result.folder.parent / "runs" / "train" / "lstm.json").read_text())["run_id"]
    curves = re.search(r'id="figure-learning_tokens".*?</details>', text, flags=re.DOTALL)
    assert curves and f'<a href="#run-train-lstm">train@lstm</a> <code>{run_id[:8]}</code>' in curves[0]
    assert "ngram" not in curves[0][curves[0].index("Made from") :]
    assert f"Run at commit <code>{'5' * 40}</code>." in curves[0] and "Compared at commit <code>abc1234" in curves[0]
    origin = json.loads((result.folder / "memory.json").read_text(encoding="utf-8"))["origin"]
    assert origin["runs"] == {"memory": None} and origin["commit"] == "abc1234" and "test" in origin["data_sha256"]


def test_short_form_counts_verdicts(result: ComparisonResult) -> None:
    text = (result.folder / "summary.md").read_text(encoding="utf-8")
    claims = [record["verdict"] for record in result.tables["claims"]]
    assert f"{claims.count('supported')} supported" in text and "| gru_reset_after |" in text
    assert "| modified_kneser_ney_5 |" in text and "modified_kneser_ney_4" not in text
    assert len(text.splitlines()) < 40 and text == result.short


def test_the_short_form_of_the_default_experiment_fits_into_a_note(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    reports = read_reports(params, write_reports(tmp_path, params))
    findings = [*compare_gru_lstm(reports).findings, *textbook_findings(reports)]
    text = short_form(reports, leaderboard(reports), ["A headline of some words."] * 3, findings, findings)
    assert "| lstm_matched |" in text and len(text) < MAX_TAG // 2


def test_pictures_carry_no_date_and_are_light(result: ComparisonResult) -> None:
    text = result.figures["leaderboard"].read_text(encoding="utf-8")
    assert "dc:date" not in text and SERIES[0][0] in text


def test_json_has_no_nan_and_csv_parses(result: ComparisonResult) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name in ("leaderboard", "gru_vs_lstm"):
        tree = json.loads((result.folder / f"{name}.json").read_text(encoding="utf-8"), parse_constant=refuse)
        with (result.folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(tree["rows"]) == len(result.tables[name])


def test_metrics_are_for_dvc_and_tracking(result: ComparisonResult) -> None:
    tree = json.loads((result.folder.parent / "metrics.json").read_text(encoding="utf-8"))
    assert tree["lstm"]["test_perplexity_stateful"] == result.metrics["lstm/test_perplexity_stateful"]
    assert "modified_kneser_ney_5" in tree and "modified_kneser_ney_4" not in tree
    assert all(isinstance(value, float) for value in result.metrics.values())


def test_markdown_holds_the_summary_and_both_tables(result: ComparisonResult) -> None:
    text = (result.folder / "report.md").read_text(encoding="utf-8")
    assert text == result.markdown
    assert "## Leaderboard" in text and "## GRU vs LSTM" in text
    assert all(line in text for line in result.summary.splitlines())
    assert "these are below it: gru_reset_after, gru, lstm." in result.summary


def test_groups_have_tables_and_plots_of_their_own(tmp_path: Path) -> None:
    models: dict[str, dict[str, Any]] = {name: {} for name in MAIN}
    models |= {name: {"group": "ablation"} for name in ABLATIONS}
    models |= {f"rnn_{layers}": {"group": "rnn", "num_layers": layers} for layers in (1, 2, 3)}
    models |= {"lstm_both": {"bidirectional": True}}
    params = make_params(models)
    results = [compare_reports(params, write_reports(tmp_path / part, params)) for part in ("one", "two")]
    tables = ("ablation", "rnn_variants", "bidirectional")
    plots = [f"{plot}_{group}" for plot in (*BY_GROUP, *PROBES_BY_GROUP) for group in ("ablation", "rnn")]
    files = {f"{name}.{kind}" for name in tables for kind in ("json", "csv", "md")}
    files |= FILES | {f"{plot}.svg" for plot in plots}
    assert {path.name for path in results[0].folder.iterdir()} == files
    for name in files:
        first, second = ((result.folder / name).read_bytes() for result in results)
        assert first == second, name
    text = results[0].page.read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert {"ablation", "rnn-variants", "bidirectional"} < set(page.ids)
    assert all(f"## {caption}" in results[0].markdown for caption in ("LSTM ablations", "RNN variants"))
    assert "LSTM ablations against lstm_peephole" in results[0].summary
    assert "neural models are below it" in results[0].summary
    for plot in ("learning_tokens", "frequency"):  # of its group alone
        drawn = {path.stem: path.read_text(encoding="utf-8") for path in results[0].figures.values()}
        assert "lstm_nfg" in drawn[f"{plot}_ablation"] and "lstm_nfg" not in drawn[plot] + drawn[f"{plot}_rnn"]
    assert "group ablation" in drawn["leaderboard"] and "lstm_nfg" in drawn["leaderboard"]
    assert "gru_reset_after" in drawn["parameters"] and "lstm_fgr" not in drawn["parameters"]  # large and no better
    assert 'id="figure-leaderboard" style="grid-row: span 2"' in text  # tall with so many bars


def test_a_model_named_as_another_group_has_the_colour_of_its_own(tmp_path: Path) -> None:
    params = make_params({"rnn": {}, "rnn_deep": {"group": "rnn", "num_layers": 2}})
    result = compare_reports(params, write_reports(tmp_path, params))
    first, second = (SERIES[index][0] for index in (0, 1))
    drawn = result.figures["leaderboard"].read_text(encoding="utf-8")
    bars = re.findall(r"fill: (#[0-9a-f]{6}); opacity: 0.85", drawn)
    assert bars[:2] in ([first, second], [second, first]) and len(bars) == 6  # bars, then legend


def test_text_is_escaped(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    folder = write_reports(tmp_path, params)
    evil = "<script>alert('&')</script>"

    def spoil(tree: dict[str, Any]) -> None:
        tree["source"] = evil

    edit(folder / "corpus.json", spoil)
    result = compare_reports(params, folder, commit=evil)
    text = result.page.read_text(encoding="utf-8")
    assert "<script" not in text and text.count("&lt;script&gt;") >= 2
    assert Page(text).open == []


def test_markdown_cells_cannot_break_the_table() -> None:
    table = Table("t", ("a", "b"), ((Cell("x|y\nz", bold=True), Cell("1", "[0, 2]", number=True)),))
    assert markdown(table).splitlines()[2:] == ["| a | b |", "| --- | ---: |", "| **x\\|y z** | 1 [0, 2] |"]


def test_a_spanned_cell_is_repeated_in_markdown() -> None:
    table = Table("t", ("a", "b"), ((Cell("x", rows=2), Cell("1")), (None, Cell("2"))))
    assert markdown(table).splitlines()[-2:] == ["| x | 1 |", "| x | 2 |"]


@pytest.mark.parametrize("models", [("nnlm",), ("lstm",), ("gru_reset_after",)])
def test_one_model_with_one_seed_and_one_ngram_makes_a_page(tmp_path: Path, models: tuple[str, ...]) -> None:
    params = make_params(models, seeds=(3,), ngram=NgramParams(max_order=1, smoothings=("mle",)))
    result = compare_reports(params, write_reports(tmp_path, params))
    assert Page(result.page.read_text(encoding="utf-8")).open == []
    assert "comparison of LSTM and GRU is empty" in result.summary
    assert (result.folder / "gru_vs_lstm.csv").read_text(encoding="utf-8") == ""


def test_everything_diverged_and_infinite_makes_a_page(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"), ngram=NgramParams(max_order=2, smoothings=("mle",)))
    folder = write_reports(tmp_path, params, {"lstm": [0, 1, 2], "gru": [0, 1, 2]})
    edit(folder / "ngram.json", lambda tree: tree["models"].pop("mle_1"))
    result = compare_reports(params, folder)
    assert Page(result.page.read_text(encoding="utf-8")).open == []
    assert {"leaderboard", "parameters", "frequency"}.isdisjoint(result.figures)


def test_a_removed_model_leaves_the_tables(tmp_path: Path) -> None:
    folder = write_reports(tmp_path, make_params(("lstm", "gru")))
    compare_reports(make_params(("lstm", "gru")), folder)
    result = compare_reports(make_params(("lstm",)), folder)
    assert "gru" not in (result.folder / "leaderboard.csv").read_text(encoding="utf-8")


def test_figures_of_the_ngram_stage() -> None:
    report = json.loads(json.dumps(ngram_report(NgramParams())))
    assert "∞" in svg(ngram_order_figure(report))
    assert "n-grams of test that train lacks" in svg(sparsity_figure(report))


def test_facts_leave_curves_out() -> None:
    report = {"a_b": 1234, "from_year": 1945, "share": 0.25, "curve": list(range(50)), "none": None, "rows": [{"x": 1}]}
    report["sha256"] = "0123456789abcdef" * 4
    report["deep"] = {"flag": True, "kinds": ["x", "y"]}
    assert list(facts(report)) == [
        ("a b", "1,234"), ("from year", "1945"), ("share", "0.2500"), ("sha256", "0123456789ab…"),
        ("deep · flag", "True"), ("deep · kinds", "x, y"),
    ]  # fmt: skip
