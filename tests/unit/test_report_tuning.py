"""What a search found: applied to the parameters, and told in the report."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fixtures import make_params, write_reports

from nextword.config import ModelParams, Params, TuneParams, load_params, read_params
from nextword.report.collect import collect
from nextword.report.tuning import tuning_plots, tuning_section
from nextword.tuning import not_searched, tuned

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Params(
    models={"gru": ModelParams(kind="gru", dropout=0.3), "rnn": ModelParams(kind="rnn")},
    tune=TuneParams(models=("gru",)),
)


def write(folder: Path, report: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{report['model']}.json").write_text(json.dumps(report))
    return folder


def test_what_was_found_is_applied_to_one_model(tmp_path: Path) -> None:
    settings = {"learning_rate": 0.0123, "dropout": 0.25}
    changed = tuned(PARAMS, "gru", write(tmp_path, {"model": "gru", "searched": True, "settings": settings}))
    assert changed.models["gru"].model_dump() == PARAMS.models["gru"].model_dump() | settings
    assert {**changed.models, "gru": None} == {**PARAMS.models, "gru": None}
    assert tuned(PARAMS, "rnn", write(tmp_path, not_searched("rnn"))) == PARAMS


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (not_searched("gru"), r"gru was not searched, against tune\.models"),
        ({"model": "gru", "searched": True, "settings": {"dropout": 1.5}}, r"cannot take the settings .*1\.5"),
        ({"model": "gru", "searched": True, "settings": {"dropuot": 0.5}}, "cannot take the settings .*dropuot"),
        ({"model": "gru", "searched": True}, "is no report of tuning"),
    ],
)
def test_settings_that_cannot_be_applied(tmp_path: Path, report: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuned(PARAMS, "gru", write(tmp_path, report))


def test_a_missing_report_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gru\.json not found; run `dvc repro tune@gru`"):
        tuned(PARAMS, "gru", tmp_path)
    (tmp_path / "gru.json").write_text("{")
    with pytest.raises(ValueError, match=r"no report of tuning .*delete it and run `dvc repro tune@gru`"):
        tuned(PARAMS, "gru", tmp_path)


def test_matched_sizes_stay(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    report = {"model": "lstm_matched", "searched": True, "settings": {"learning_rate": 0.01, "dropout": 0.1}}
    changed = tuned(params, "lstm_matched", write(tmp_path, report)).models["lstm_matched"]
    assert changed.hidden_size == params.models["lstm_matched"].hidden_size != 200


def test_a_model_that_is_not_searched_needs_neither_torch_nor_mlflow(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "profiles" / "smoke.yaml").read_text())
    code = "import sys; from pipeline.tune import main; main('nnlm'); print({'torch', 'mlflow'} & set(sys.modules))"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
    assert json.loads((tmp_path / "reports/tune/nnlm.json").read_text()) == not_searched("nnlm")
    assert json.loads((tmp_path / "reports/runs/tune/nnlm.json").read_text()) == {}


def test_the_profile_for_gpus_tunes_all_sides_with_one_budget() -> None:
    params = load_params(ROOT / "profiles" / "gru-vs-lstm-gpu.yaml")
    sides = {params.compare.lstm, *params.compare.gru, params.compare.lstm_matched}
    assert sides == set(params.tune.models) and params.tune.trials == 64
    assert all(len(params.seeds_of(name)) == 5 and params.epochs_of(name) == 40 for name in sides)
    assert read_params(ROOT / "profiles" / "gru-vs-lstm-gpu.yaml").tune == params.tune


def test_subsets_by_brute_force_agree_with_the_report(tmp_path: Path) -> None:
    """The table's expected best, from the values of the first rung."""
    params = make_params(("lstm", "gru", "rnn"))
    assert tuning_section(collect(params, write_reports(tmp_path / "none", params))) is None
    tune = TuneParams(models=("lstm", "gru"), trials=6, tokens=5000, halvings=2, learning_rate=(1e-4, 0.1))
    params = params.model_copy(update={"tune": tune})
    folder = write_reports(tmp_path / "some", params)
    path = folder / "tune" / "gru.json"
    report = json.loads(path.read_text())
    report["trials"][5]["rungs"][0]["valid_nats"] = None
    path.write_text(json.dumps(report))
    reports = collect(params, folder)
    assert reports.params.models["gru"].learning_rate == report["settings"]["learning_rate"]
    section = tuning_section(reports)
    assert section is not None and section.chapter == "training"
    assert section.sources == ("tune@lstm", "tune@gru")
    for record in section.records:
        trials = reports.tuning[record["model"]].trials
        first = [trial.rungs[0].log_perplexity for trial in trials]
        for size in (1, 2, 4):
            mean = np.mean([min(some) for some in combinations(first, size)])
            assert record[f"expected_best_of_{size}"] == pytest.approx(np.exp(mean)), size
        assert record["expected_best_of_8"] is None
        last = min(trial.rungs[2].log_perplexity for trial in trials if len(trial.rungs) > 2)
        assert record["valid_perplexity"] == pytest.approx(math.exp(last))
    assert math.isinf(section.records[1]["expected_best_of_1"]) and section.records[1]["diverged"] == 1
    report["settings"]["learning_rate"] = 0.09
    path.write_text(json.dumps(report))
    assert "may lie beyond" not in "".join(section.table.notes)
    at_edge = tuning_section(collect(params, folder))
    assert at_edge is not None and any("may lie beyond: gru." in note for note in at_edge.table.notes)
    notes = "\n".join(section.table.notes)
    assert "diverged, counted as infinite: 1 of gru." in notes and "not searched: rnn." in notes
    plots = {plot.name: plot for plot in tuning_plots(reports)}
    lines = {line.get_label(): line.get_xydata() for line in plots["tuning_expected"].figure.axes[0].get_lines()}
    assert lines["lstm"][:, 0].tolist() == [1, 2, 3, 4, 5, 6] and lines["gru"][:, 0].tolist() == [2, 3, 4, 5, 6]
    assert lines["lstm"][1, 1] == pytest.approx(section.records[0]["expected_best_of_2"])
    dots = [len(dots.get_offsets()) for dots in plots["tuning_trials"].figure.axes[0].collections]
    assert dots == [6, 5]
