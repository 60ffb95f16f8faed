"""LSTM ablations against V and RNN variants against the plain RNN: verdicts by the stated rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats_fixtures import DOCUMENTS
from report_fixtures import ABLATIONS, edit, make_params, read_reports, write_reports

from nextword.config import CompareParams
from nextword.evaluation.bootstrap import block_sums, crossed_to_one
from nextword.evaluation.statistics import Difference
from nextword.models.cells import CELLS
from nextword.report.tables import markdown
from nextword.report.variant_claims import ABLATION, RNN_VARIANTS, Family
from nextword.report.variant_claims import ABLATIONS as CLAIMS
from nextword.report.variants import VariantRow, Variants, compare_variants, stand
from nextword.report.variants_table import variants_records, variants_summary, variants_table, variants_tree

ABLATED: dict[str, dict[str, Any]] = {name: {"group": "ablation"} for name in (*ABLATIONS, "lstm")}
RNN: dict[str, dict[str, Any]] = {
    "rnn": {"group": "rnn"},
    "rnn_relu": {"group": "rnn", "recurrent_init": "identity"},
    "rnn_deep": {"group": "rnn", "num_layers": 3},
    "rnn_residual": {"group": "rnn", "num_layers": 3, "connection": "residual"},
    "rnn_dense": {"group": "rnn", "num_layers": 3, "connection": "dense"},
    "rnn_highway": {"group": "rnn", "num_layers": 4, "connection": "highway"},
}


def run(
    folder: Path, models: Mapping[str, Mapping[str, Any]], family: Family = ABLATION, **options: Any
) -> Variants | None:
    report = {key: options.pop(key) for key in ("diverged", "spread", "perplexity") if key in options}
    params = make_params(models, **options)
    return compare_variants(read_reports(params, write_reports(folder, params, **report)), family)


def found(variants: Variants | None) -> Variants:
    assert variants is not None
    return variants


def by_name(variants: Variants | None) -> dict[str, VariantRow]:
    return {row.model.name: row for row in found(variants).rows}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    return found(run(tmp_path_factory.mktemp("reports"), {"lstm_main": {}, **ABLATED}))


@pytest.fixture(scope="module")
def rnn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def rnn(rnn_folder: Path) -> Variants:
    planted = dict(zip(RNN, (83.0, 79.0, 76.0, 78.5, 72.0, 70.0), strict=True))
    return found(run(rnn_folder, {"lstm": {}, **RNN}, RNN_VARIANTS, perplexity=planted, spread=0.001))


def gap(low: float, high: float) -> Difference:
    """Ratios ``low`` to ``high`` as a difference of logarithms."""
    ends = math.log(low), math.log(high)
    return Difference(sum(ends) / 2, *ends, "none")


ONE_SEED = Difference(0.5, None, None, "none")


@pytest.mark.parametrize(
    ("difference", "standing"),
    [
        (gap(1.01, 1.03), "worse"),
        (gap(0.97, 0.99), "better"),
        (gap(0.99, 1.01), "not told apart"),
        (gap(1.0, 1.01), "not told apart"),  # the interval holds zero at its end
        (ONE_SEED, "not told apart"),
        (None, "no figure"),
    ],
)
def test_the_rule_of_standing(difference: Difference | None, standing: str) -> None:
    assert stand(difference) == standing


def test_every_ablation_of_the_notes_is_a_cell_with_a_claim() -> None:
    assert {name for name, _, _ in CLAIMS.values()} == {
        "V", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG", "NP", "FGR",
    }  # fmt: skip
    assert CLAIMS.keys() == {kind for kind in CELLS if kind.startswith("lstm")}
    assert [kind for kind, (_, _, claim) in CLAIMS.items() if claim.reading is None] == ["lstm_peephole"]


def test_the_vanilla_lstm_stands_first_and_measures_its_own_group(ablation: Variants) -> None:
    assert ablation.baseline == "lstm_peephole"
    assert [row.model.name for row in ablation.rows] == list(ABLATED)  # lstm_main is of another group
    first, *others = ablation.rows
    assert (first.standing, first.verdict, first.gaps, first.parameters_gap) == (None, None, {}, None)
    assert all(row.against == "lstm_peephole" and row.verdict for row in others)


PLANTED = {
    "lstm_peephole": 60.0, "lstm_nfg": 70.0, "lstm_nig": 62.5, "lstm_nog": 54.0, "lstm_cifg": 62.5, "lstm": 60.0,
    "lstm_fgr": 52.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("margin", "verdicts"),
    [
        (0.1, {"nfg": "supported", "nig": "contradicted", "nog": "contradicted", "cifg": "supported", "np": "supported",
               "fgr": "contradicted"}),
        (0.3, {"nfg": "contradicted", "nig": "contradicted", "nog": "contradicted", "cifg": "supported",
               "np": "supported", "fgr": "supported"}),
        (0.001, {"nfg": "supported", "nig": "supported", "nog": "contradicted", "cifg": "contradicted",
                 "np": "undecided", "fgr": "contradicted"}),
    ],
)  # fmt: skip
def test_verdicts_of_planted_figures_are_by_the_margin_of_params(
    tmp_path: Path, margin: float, verdicts: Mapping[str, str]
) -> None:
    models = {name: ABLATED[name] for name in PLANTED}
    compare = CompareParams(margin=margin)
    variants = found(run(tmp_path, models, perplexity=PLANTED, spread=0.001, compare=compare))
    rows = by_name(variants)
    assert {name: row.standing for name, row in rows.items()} == {
        "lstm_peephole": None, "lstm_nfg": "worse", "lstm_nig": "worse", "lstm_nog": "better", "lstm_cifg": "worse",
        "lstm": "not told apart", "lstm_fgr": "better",
    }  # fmt: skip
    assert {CLAIMS[name][0].lower(): row.verdict for name, row in rows.items() if row.verdict} == verdicts
    assert all(row.margin == pytest.approx(math.log1p(margin)) for row in rows.values() if row.verdict)
    assert f"its perplexity is higher by more than {100 * margin:g}%" in markdown(variants_table(variants))


def test_a_model_worse_than_chance_widens_no_interval(tmp_path: Path) -> None:
    planted = {"lstm_peephole": 60.0, "lstm_nfg": 70.0, "lstm": 60.0, "lstm_noaf": 1e40}
    models = {name: ABLATED[name] for name in planted}
    both = by_name(run(tmp_path / "both", models, perplexity=planted, spread=0.001))
    row = both["lstm_noaf"]
    assert (row.standing, row.verdict, row.gaps["stateful"]) == ("worse than chance", "supported", None)
    assert row.basis == "a beyond chance"
    del models["lstm_noaf"]
    alone = by_name(run(tmp_path / "alone", models, perplexity=planted, spread=0.001))
    assert all(both[name].gaps == alone[name].gaps for name in models)


def test_figures_are_of_the_reports(ablation: Variants) -> None:
    base, row = ablation.rows[0], next(row for row in ablation.rows if row.model.name == "lstm_nfg")
    for protocol in ("stateful", "reset"):
        ours, theirs, difference = row.test[protocol], base.test[protocol], row.gaps[protocol]
        assert ours is not None and theirs is not None and difference is not None
        assert difference.mean == pytest.approx(math.log(ours.mean / theirs.mean))
        assert difference.method == "crossed bootstrap, simultaneous"
    assert "assumes that the logarithm of perplexity varies as much" in markdown(variants_table(ablation))
    assert row.parameters_gap == 241_000 - 321_400
    assert row.speed is not None and row.speed.mean == pytest.approx(4_800.0, rel=0.03)


def test_speeds_of_unlike_trainings_are_marked(ablation: Variants) -> None:
    rows = {row.model.name: row for row in ablation.rows}
    assert rows["lstm"].unlike == "engine fused against scan" and rows["lstm_nfg"].unlike == ""
    speeds = {row[0].text: row[-2].under for row in variants_table(ablation).rows if row[0] and row[-2]}
    assert speeds["lstm"].startswith("(fused, ×1.7") and speeds["lstm"].endswith(", unlike)")  # noqa: RUF001
    assert speeds["lstm_fgr"].startswith("(scan, ×0.4") and "unlike" not in speeds["lstm_fgr"]  # noqa: RUF001
    assert speeds["lstm_peephole"] == "(scan)"
    assert any("lstm (engine fused against scan)" in note for note in variants_table(ablation).notes)


def test_the_table_says_what_a_variant_is_and_what_the_notes_say(ablation: Variants) -> None:
    text = markdown(variants_table(ablation))
    assert "| **lstm_peephole** | V vanilla: three gates with peepholes |" in text
    assert "| lstm | NP no peepholes | little effect: peepholes are not a key part (read as: " in text
    assert "| supported | worse than V |" in text and "| the measure |" in text
    assert "forget gate and the output activation matter most" in text


@pytest.mark.parametrize(
    "models",
    [
        {name: settings for name, settings in ABLATED.items() if name != "lstm_peephole"},
        {"lstm_peephole": ABLATED["lstm_peephole"]},
        {"lstm_peephole": {}, "lstm_nfg": ABLATED["lstm_nfg"], "lstm": ABLATED["lstm"]},
        {"lstm": {}, "gru": {}},
    ],
)
def test_no_table_without_vanilla_or_without_a_variant(tmp_path: Path, models: Mapping[str, Mapping[str, Any]]) -> None:
    assert run(tmp_path, models) is None


def test_any_subset_makes_a_table(tmp_path: Path) -> None:
    variants = found(run(tmp_path, {name: ABLATED[name] for name in ("lstm_fgr", "lstm_peephole")}))
    assert [row.model.name for row in variants.rows] == ["lstm_peephole", "lstm_fgr"]


def test_a_kind_of_which_the_notes_say_nothing_is_compared_all_the_same(tmp_path: Path) -> None:
    models = {"lstm_peephole": {"group": "ablation"}, "gru": {"group": "ablation"}}
    row = by_name(run(tmp_path, models))["gru"]
    assert (row.standing, row.verdict, row.traits["variant"].text) == ("better", None, "gru")


def test_a_model_that_was_scored_line_by_line_alone_is_compared_so(tmp_path: Path) -> None:
    params = make_params({name: ABLATED[name] for name in PLANTED})
    write_reports(tmp_path, params, perplexity=PLANTED, spread=0.001)
    edit(
        tmp_path / "evaluate" / "lstm_nfg.json",
        lambda tree: [r["splits"]["test"].pop("stateful") for r in tree["runs"]],
    )
    for path in (tmp_path / "nats" / "lstm_nfg").glob("*.test.stateful.npy"):
        path.unlink()
    variants = found(compare_variants(read_reports(params, tmp_path), ABLATION))
    row = by_name(variants)["lstm_nfg"]
    assert (variants.protocol, row.gaps["stateful"], row.verdict) == ("reset", None, "supported")


def test_one_seed_tells_nothing_apart(tmp_path: Path) -> None:
    variants = found(run(tmp_path, ABLATED, seeds=(0,)))
    assert {row.standing for row in variants.rows[1:]} == {"not told apart"}
    assert {row.verdict for row in variants.rows[1:]} == {"undecided"}
    assert "not told apart (no interval)" in markdown(variants_table(variants))


def test_diverged_seeds_are_left_out_and_said(tmp_path: Path) -> None:
    variants = run(tmp_path, ABLATED, diverged={"lstm_nig": [0, 1, 2], "lstm_nfg": [1]})
    rows = by_name(variants)
    assert (rows["lstm_nig"].standing, rows["lstm_nig"].verdict) == ("no figure", "undecided")
    gap = rows["lstm_nfg"].gaps["reset"]
    assert gap is not None and gap.low is not None and gap.low > 0.0
    text = markdown(variants_table(found(variants)))
    assert "0 of 3 (diverged: 0, 1, 2)" in text and "Every seed diverged, so there is no figure: lstm_nig." in text
    assert "no figure: lstm_nig" in variants_summary(found(variants))


def test_a_diverged_baseline_leaves_no_figure_but_a_table(tmp_path: Path) -> None:
    variants = found(run(tmp_path, ABLATED, diverged={"lstm_peephole": [0, 1, 2]}))
    assert {row.standing for row in variants.rows[1:]} == {"no figure"}
    assert {row.verdict for row in variants.rows[1:]} == {"undecided"}
    assert variants_table(variants).rows and variants_records(variants) and variants_summary(variants)
    assert {row.unlike for row in variants.rows} == {""}


def test_other_settings_than_the_baselines_are_said(tmp_path: Path) -> None:
    models = {**ABLATED, "lstm_nfg": {"group": "ablation", "learning_rate": 1e-3, "hidden_size": 90}}
    text = markdown(variants_table(found(run(tmp_path, models))))
    assert (
        "Settings other than V's, beside what makes the variant: lstm_nfg (hidden_size 90, learning_rate 0.001)."
        in text
    )


def test_the_first_of_the_group_measures_the_rnn_variants(rnn: Variants) -> None:
    assert (rnn.baseline, rnn.short) == ("rnn", "rnn")
    rows = {row.model.name: row for row in rnn.rows}
    assert {name: row.standing for name, row in rows.items()} == {**dict.fromkeys(RNN, "better"), "rnn": None}
    cells = {name: [cell.text for cell in row.traits.values()] for name, row in rows.items()}
    assert cells["rnn_relu"] == ["ReLU", "identity", "1", "plain"]
    assert cells["rnn_residual"] == ["tanh", "uniform", "3", "residual"]


def test_a_connection_is_judged_against_the_plain_stack_of_its_depth(rnn: Variants, rnn_folder: Path) -> None:
    rows = {row.model.name: row for row in rnn.rows}
    residual = rows["rnn_residual"]  # better than rnn, but not than rnn_deep
    assert (residual.against, residual.verdict) == ("rnn_deep", "contradicted")
    edges = np.cumsum([0, *DOCUMENTS["test"]])
    sums = {
        name: [
            block_sums(np.load(rnn_folder / "nats" / name / f"seed-{seed}.test.stateful.npy"), edges)
            for seed in (0, 1, 2)
        ]
        for name in ("rnn_deep", "rnn_residual", "rnn_dense")
    }
    claims = crossed_to_one(sums.pop("rnn_deep"), sums, DOCUMENTS["test"])
    assert {name: rows[name].claim_gap for name in claims} == claims  # one family, of that control
    assert claims["rnn_residual"].mean == pytest.approx(math.log(78.5 / 76.0), abs=0.01)
    assert rows["rnn_dense"].verdict == "supported"
    assert (rows["rnn_highway"].against, rows["rnn_highway"].verdict) == (None, None)
    text = markdown(variants_table(rnn))
    assert "rnn_deep's)" in text and "all claims about the same model hold at once" in text
    assert "(no model here to compare it with)" in text


def test_what_the_notes_say_of_gradients_is_shown_without_a_verdict(rnn: Variants) -> None:
    rows = {row.model.name: row for row in rnn.rows}
    assert rows["rnn"].claim.text == ""
    assert "gradients vanish less" in rows["rnn_relu"].claim.text and "identity" in rows["rnn_relu"].claim.text
    assert "training harder" in rows["rnn_deep"].claim.text
    assert {rows[name].verdict for name in ("rnn", "rnn_relu", "rnn_deep")} == {None}


def test_bidirectional_models_are_in_no_group(tmp_path: Path) -> None:
    models = {"rnn_both": {"group": "rnn", "bidirectional": True}, **RNN}
    variants = found(run(tmp_path, models, RNN_VARIANTS))
    assert variants.baseline == "rnn" and "rnn_both" not in by_name(variants)


def test_the_summary_counts_standings_and_claims(ablation: Variants, rnn: Variants) -> None:
    text = variants_summary(ablation)
    counts = [sum(row.verdict == verdict for row in ablation.rows) for verdict in ("supported", "contradicted")]
    assert f"Claims of the notes: {counts[0]} supported, {counts[1]} contradicted, {8 - sum(counts)} undecided." in text
    assert "Largest: lstm_nfg, ×1.1" in text and text.startswith("LSTM ablations against lstm_peephole")  # noqa: RUF001
    assert "1 supported, 1 contradicted, 0 undecided." in variants_summary(rnn)
    assert "better: rnn_relu, rnn_deep" in variants_summary(rnn)


def test_every_record_has_the_same_keys(ablation: Variants, rnn: Variants) -> None:
    for variants in (ablation, rnn):
        tree = variants_tree(variants)
        assert len({tuple(record) for record in tree["rows"]}) == 1 and len(tree["rows"]) == len(variants.rows)
    record = next(record for record in variants_records(ablation) if record["name"] == "lstm_cifg")
    assert record["ratio_reset"] == pytest.approx(math.exp(record["difference_reset"]))
    assert (record["variant"], record["engine"], record["ran_unlike"]) == ("CIFG", "scan", "")
    assert (record["against"], record["read_as"]) == ("lstm_peephole", "its perplexity is higher by at most 2%")
