"""Every verdict that the comparison writes follows from its own record in the data files, by the stated rule."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import ABLATIONS, MAIN, make_params, read_reports, write_reports

from nextword.config import CompareParams
from nextword.evaluation.statistics import Difference
from nextword.report.finding import judge_by
from nextword.report.gru_vs_lstm import compare_gru_lstm, comparison_section
from nextword.report.tables import finite
from nextword.report.textbook import textbook_findings, textbook_section
from nextword.report.variant_claims import ABLATION, RNN_VARIANTS
from nextword.report.variants import compare_variants
from nextword.report.variants_table import variants_tree

TABLES = {"claims": "difference", "gru_vs_lstm": "difference", "ablation": "claim_difference",
          "rnn_variants": "claim_difference"}  # fmt: skip
"""What a record calls the difference, by table."""


Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module", params=[0.02, 0.1])
def tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The judged records as written to JSON, of reports with all that a verdict may rest on: counts, intervals, lost
    seeds, models worse than chance, engines that differ."""
    models: dict[str, dict[str, Any]] = {name: {} for name in (*MAIN, "lstm_matched")}
    models |= {name: {"group": "ablation"} for name in ABLATIONS} | {"lstm_np": {"group": "ablation"}}
    models |= {"rnn_flat": {"group": "rnn"}, "rnn_deep": {"group": "rnn", "num_layers": 3}}
    models |= {f"rnn_{name}": {"group": "rnn", "num_layers": 3, "connection": name} for name in ("residual", "highway")}
    params = make_params(models, compare=CompareParams(margin=request.param, lstm_matched="lstm_matched"))
    perplexity = {"lstm_noaf": 1e40, "rnn_deep": 9_000.0, "rnn_residual": 70.0, "gru": 6_000.0}
    diverged = {"lstm_nig": [0, 1, 2], "lstm_nog": [0, 1]}
    folder = write_reports(tmp_path_factory.mktemp("reports"), params, perplexity=perplexity, diverged=diverged)
    reports = read_reports(params, folder)
    trees = {
        "claims": textbook_section(reports, textbook_findings(reports)).tree,
        "gru_vs_lstm": comparison_section(reports, compare_gru_lstm(reports)).tree,
    }
    for family in (ABLATION, RNN_VARIANTS):
        variants = compare_variants(reports, family)
        assert variants is not None
        trees[family.name] = variants_tree(variants)
    written = json.loads(json.dumps(finite(trees), allow_nan=False))
    return {
        name: [row for row in tree["rows"] if row["verdict"] not in (None, "not tested")]
        for name, tree in written.items()
    }


@pytest.mark.parametrize("table", TABLES)
def test_each_verdict_follows_from_its_own_record(tables: Tables, table: str) -> None:
    name, found = TABLES[table], tables[table]
    for row in found:
        mean, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
        gap = Difference(math.inf if mean is None else mean, low, high, "none")
        wanted = judge_by(row["basis"], row["reading"], gap, row["margin"])
        assert row["verdict"] == wanted, row
    assert found


def test_all_that_a_verdict_may_rest_on_is_tried(tables: Tables) -> None:
    bases = Counter(row["basis"] for table in TABLES for row in tables[table])
    verdicts = {row["verdict"] for table in TABLES for row in tables[table]}
    assert verdicts == {"supported", "contradicted", "undecided"}
    assert set(bases) == {"interval", "count", "a beyond chance", "b beyond chance", "nothing"}
    readings = {row["reading"] for table in TABLES for row in tables[table]}
    assert readings == {"higher", "lower", "equal", "not higher", "not lower", "much higher", "slightly higher"}


def test_the_claims_have_the_verdicts_and_records_of_the_tables_of_variants(tables: Tables) -> None:
    claims = {row["key"]: row for row in tables["claims"]}
    for table in ("ablation", "rnn_variants"):
        for row in tables[table]:
            claim = claims[f"variant_{row['name']}"]
            own = [row[key] for key in ("reading", "margin", "basis", "verdict", "method")]
            assert [claim[key] for key in ("reading", "margin", "basis", "verdict", "method")] == own
            assert (claim["difference_low"], claim["difference_high"]) == (
                row["claim_difference_low"], row["claim_difference_high"],
            )  # fmt: skip


def test_a_gru_worse_than_chance_loses_in_words_too(tmp_path: Path) -> None:
    params = make_params(("lstm", "gru"))
    reports = read_reports(params, write_reports(tmp_path, params, perplexity={"gru": 6_000.0}))
    (sentence,) = [text for text in compare_gru_lstm(reports).summary if text.startswith("Test perplexity")]
    assert "lstm is better, the other worse than a uniform guess" in sentence
