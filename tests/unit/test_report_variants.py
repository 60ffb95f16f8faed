"""LSTM ablations against V and RNN variants against the plain RNN: verdicts by the stated rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from report_fixtures import ABLATIONS, make_params, write_reports

from nextword.evaluation.statistics import Difference, many_to_one
from nextword.models.cells import CELLS
from nextword.report.collect import collect
from nextword.report.tables import markdown
from nextword.report.variant_claims import (
    ABLATION,
    BETTER,
    CLOSE,
    MUCH_WORSE,
    NOT_BETTER,
    RNN_VARIANTS,
    SLIGHTLY_WORSE,
    Family,
    Reading,
)
from nextword.report.variant_claims import ABLATIONS as CLAIMS
from nextword.report.variants import VariantRow, Variants, compare_variants, judge, stand
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
    return compare_variants(collect(params, write_reports(folder, params, **report)), family)


def found(variants: Variants | None) -> Variants:
    assert variants is not None
    return variants


def by_name(variants: Variants | None) -> dict[str, VariantRow]:
    return {row.model.name: row for row in found(variants).rows}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    return found(run(tmp_path_factory.mktemp("reports"), {"lstm_main": {}, **ABLATED}))


@pytest.fixture(scope="module")
def rnn(tmp_path_factory: pytest.TempPathFactory) -> Variants:
    planted = dict(zip(RNN, (80.0, 79.0, 76.0, 77.5, 72.0, 70.0), strict=True))
    folder = tmp_path_factory.mktemp("reports")
    return found(run(folder, {"lstm": {}, **RNN}, RNN_VARIANTS, perplexity=planted, spread=0.001))


def gap(low: float, high: float) -> Difference:
    """Ratios ``low`` to ``high`` as a difference of logarithms."""
    ends = math.log(low), math.log(high)
    return Difference(sum(ends) / 2, *ends, "Dunnett")


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


@pytest.mark.parametrize(
    ("reading", "difference", "verdict"),
    [
        (MUCH_WORSE, gap(1.03, 1.05), "supported"),
        (MUCH_WORSE, gap(1.001, 1.015), "contradicted"),  # worse, but not by much
        (MUCH_WORSE, gap(0.9, 0.95), "contradicted"),
        (MUCH_WORSE, gap(1.01, 1.05), "undecided"),
        (CLOSE, gap(0.985, 1.015), "supported"),
        (CLOSE, gap(1.021, 1.03), "contradicted"),
        (CLOSE, gap(0.95, 0.98), "contradicted"),
        (CLOSE, gap(0.97, 1.0), "undecided"),
        (SLIGHTLY_WORSE, gap(1.001, 1.019), "supported"),
        (SLIGHTLY_WORSE, gap(0.97, 0.99), "contradicted"),
        (SLIGHTLY_WORSE, gap(0.99, 1.01), "undecided"),
        (NOT_BETTER, gap(1.01, 1.02), "supported"),
        (NOT_BETTER, gap(0.98, 0.99), "contradicted"),
        (NOT_BETTER, gap(0.99, 1.01), "undecided"),
        (BETTER, gap(0.9, 0.99), "supported"),
        (BETTER, gap(1.01, 1.02), "contradicted"),
        (BETTER, gap(0.99, 1.01), "undecided"),
        *((reading, other, "undecided") for reading in (MUCH_WORSE, CLOSE, BETTER) for other in (ONE_SEED, None)),
    ],
)
def test_the_rule_of_claims(reading: Reading, difference: Difference | None, verdict: str) -> None:
    assert judge(reading, difference) == verdict


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


def test_verdicts_of_planted_figures(tmp_path: Path) -> None:
    planted = {
        "lstm_peephole": 60.0, "lstm_nfg": 70.0, "lstm_nig": 60.5, "lstm_nog": 55.0, "lstm_cifg": 60.5, "lstm": 60.0,
        "lstm_fgr": 58.0,
    }  # fmt: skip
    rows = by_name(run(tmp_path, {name: ABLATED[name] for name in planted}, perplexity=planted, spread=0.001))
    assert {name: (row.standing, row.verdict) for name, row in rows.items()} == {
        "lstm_peephole": (None, None),
        "lstm_nfg": ("worse", "supported"),
        "lstm_nig": ("worse", "contradicted"),  # by less than 2%
        "lstm_nog": ("better", "contradicted"),
        "lstm_cifg": ("worse", "supported"),
        "lstm": ("not told apart", "supported"),
        "lstm_fgr": ("better", "contradicted"),
    }


def test_a_model_worse_than_chance_widens_no_interval(tmp_path: Path) -> None:
    planted = {"lstm_peephole": 60.0, "lstm_nfg": 70.0, "lstm": 60.0, "lstm_noaf": 1e40}
    models = {name: ABLATED[name] for name in planted}
    both = by_name(run(tmp_path / "both", models, perplexity=planted, spread=0.001))
    row = both["lstm_noaf"]
    assert (row.standing, row.verdict, row.gaps["stateful"]) == ("worse than chance", "supported", None)
    del models["lstm_noaf"]
    alone = by_name(run(tmp_path / "alone", models, perplexity=planted, spread=0.001))
    assert all(both[name].gaps == alone[name].gaps for name in models)


def test_figures_are_of_the_reports(ablation: Variants) -> None:
    base, row = ablation.rows[0], next(row for row in ablation.rows if row.model.name == "lstm_nfg")
    for protocol in ("stateful", "reset"):
        ours, theirs, difference = row.test[protocol], base.test[protocol], row.gaps[protocol]
        assert ours is not None and theirs is not None and difference is not None
        assert difference.mean == pytest.approx(math.log(ours.mean / theirs.mean))
        assert difference.method == "Dunnett"
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


def test_one_seed_tells_nothing_apart(tmp_path: Path) -> None:
    variants = found(run(tmp_path, ABLATED, seeds=(0,)))
    assert {row.standing for row in variants.rows[1:]} == {"not told apart"}
    assert {row.verdict for row in variants.rows[1:]} == {"undecided"}
    assert "not told apart (one seed a model)" in markdown(variants_table(variants))


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


def test_a_connection_is_judged_against_the_plain_stack_of_its_depth(rnn: Variants) -> None:
    rows = {row.model.name: row for row in rnn.rows}
    residual = rows["rnn_residual"]  # better than rnn, but not than rnn_deep
    assert (residual.against, residual.verdict) == ("rnn_deep", "contradicted")
    nats = {name: list(rows[name].model.log_perplexity("test", "stateful").values()) for name in rows}
    claims = many_to_one(nats["rnn_deep"], {name: nats[name] for name in ("rnn_residual", "rnn_dense")}, 0.95)
    assert {name: rows[name].claim_gap for name in claims} == claims  # one family, of that control
    assert claims["rnn_residual"].mean == pytest.approx(math.log(77.5 / 76.0), abs=0.01)
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
