"""Tracking without MLflow: names, values, processes, the overview of a repro."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nextword.config import TrackingParams
from nextword.tracking import overview, process, stage, values
from nextword.tracking.run import Terminated, verdict
from nextword.tracking.store import find_store, project_root


def test_import_is_cheap():
    code = "import sys, nextword.tracking; print(int('mlflow' in sys.modules), int('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_flatten():
    tree = {"train": {"bptt": 35, "seeds": [0, 1], "schedule": {"kind": "cosine"}}, "tracking": TrackingParams()}
    flat = dict(values.flatten(tree))
    assert flat["train.schedule.kind"] == "cosine"
    assert flat["tracking.experiment"] == "nextword"
    assert values.text(flat["train.seeds"]) == "[0, 1]"


def test_a_run_names_its_commit_and_whether_files_differed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = ["-c", "user.name=t", "-c", "user.email=t@t"]
    run = SimpleNamespace(key="k", run_id=None, parent_run_id=None, experiment_id=None)

    def written():
        stage._write_ids(Path("run.json"), run, "train", stage._source_tags())
        ids = json.loads(Path("run.json").read_text())
        return ids["commit"], ids["dirty"]

    assert written() == (None, None)
    Path("a.py").write_text("1")
    for command in (["init", "-q"], ["add", "a.py"], [*own, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True)
    assert written() == (stage.git_commit(), False)
    Path("a.py").write_text("2")
    assert written() == (stage.git_commit(), True)


def test_names_and_texts_fit_mlflow():
    assert values.name("top-1 accuracy (%), <test>") == "top-1 accuracy ____ _test_"
    assert values.name("/x" * 400) == ("/x" * 400).strip("/")[: values.MAX_KEY]
    assert values.text("a" * 7000) == "a" * (values.MAX_PARAM - 1) + "…"


def test_numbers_leave_out_what_is_none():
    tree = {"a": 1, "b": None, "c": "text", "d": [1], "e": {"f": True, "g": float("inf")}}
    assert dict(values.numbers(tree)) == {"a": 1.0, "e.f": 1.0, "e.g": float("inf")}


def test_cells_of_a_table_are_json():
    rows = [[float("nan"), np.float32(0.5), np.int64(3)], {"a": [float("inf")]}, None, "x", True]
    assert values.cell(rows) == [["nan", 0.5, 3], {"a": ["inf"]}, None, "x", True]
    json.dumps(values.cell(rows), allow_nan=False)


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("dvc", ["/venv/bin/python", "/venv/bin/dvc", "repro"], True),
        ("dvc.exe", ["dvc.exe", "repro"], True),
        ("python3.11", ["/venv/bin/python3", "-m", "dvc", "exp", "run"], True),
        ("python", ["python", "-X", "dev", "-m", "dvc", "repro"], True),
        ("sh", ["sh", "-c", "dvc repro"], False),
        ("vim", ["vim", "dvc"], False),
        ("python", ["python", "-m", "pipeline.train", "dvc"], False),
    ],
)
def test_is_dvc(name, command, expected):
    assert process.is_dvc(name, command) is expected


def test_process_identity():
    me = process.this_process()
    assert not process.is_gone(me.pid, me.started)
    assert process.is_gone(me.pid, me.started - 100), "the same pid with another start time is another process"
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    assert process.is_gone(child.pid, me.started)


def test_verdict():
    assert verdict(ValueError("no"))[0] == "FAILED"
    assert verdict(ValueError("no"))[1] == "ValueError: no"
    assert verdict(KeyboardInterrupt())[0] == "KILLED"
    assert verdict(Terminated(143)) == ("KILLED", "SIGTERM")
    assert verdict(SystemExit(0))[0] == "FINISHED"
    assert verdict(SystemExit("wrong"))[0] == "FAILED"


def test_store_of_a_temporary_experiment_is_the_projects(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    inside = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert project_root() == tmp_path.resolve()
    assert find_store().folder == tmp_path.resolve() / "mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert find_store().uri == "http://tracking.example:5000"
    assert find_store().folder is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    assert find_store().folder is not None, "the project's own store, spelt out"


# ------------------------------------------------------------------------------------------ overview

PIPELINE = """
stages:
  encode: {cmd: a, deps: [data], outs: [ids]}
  train: {matrix: {model: "${models}"}, cmd: b}
  list: {foreach: [x, y], do: {cmd: c}}
"""
LOCK = """
schema: '2.0'
stages:
  encode: {cmd: a, deps: [{path: data}], outs: [{path: ids}]}
  train@lstm: {cmd: b, deps: [{path: ids}], outs: [{path: models/lstm}]}
  train@gone: {cmd: b, deps: [{path: ids}], outs: [{path: models/gone}]}
  list@y: {cmd: c}
  old: {cmd: d}
"""


def test_lock_without_the_stages_that_are_gone(tmp_path):
    for name, text in {"dvc.yaml": PIPELINE, "dvc.lock": LOCK, "params.yaml": "models: {lstm: {}, gru: {}}"}.items():
        (tmp_path / name).write_text(text)
    stages = overview.read_lock(tmp_path / "dvc.lock")
    assert list(stages) == ["encode", "train@lstm", "list@y"]
    assert stages["train@lstm"] == {"deps": {"ids"}, "outs": {"models/lstm"}}


@pytest.mark.parametrize("text", [None, "- a list", "stages: [", "{"])
def test_unreadable_lock_has_no_stages(tmp_path, text):
    if text is not None:
        (tmp_path / "dvc.lock").write_text(text)
    assert overview.read_lock(tmp_path / "dvc.lock") == {}


def test_reused_and_pending_stages():
    def stage(deps, outs):
        return {"deps": set(deps.split()), "outs": set(outs.split())}

    stages = {
        "prepare": stage("", "corpus"),
        "encode": stage("corpus", "ids"),
        "train@gru": stage("ids", "models/gru"),
        "train@lstm": stage("ids", "models/lstm"),
        "evaluate@gru": stage("models/gru ids", "reports/evaluate/gru.json"),
        "compare": stage("reports/evaluate", "reports/compare"),
    }
    pending, reused = overview.split_stages(stages, {"train@gru"})
    assert pending == ["evaluate@gru", "compare"]
    assert reused == ["prepare", "encode", "train@lstm"]
    pending, reused = overview.split_stages(stages, {"prepare", "train@gru", "evaluate@gru", "compare"})
    assert pending == ["train@lstm"], "it reads what prepare changed, and nothing says that it was settled"
    assert reused == ["encode"]


def test_run_ids_of_the_stages(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "gru.json").write_text(json.dumps({"stage": "train@gru", "run_id": "abc"}))
    (tmp_path / "encode.json").write_text(json.dumps({"stage": "encode", "run_id": None}))
    (tmp_path / "broken.json").write_text("{")
    assert overview.read_run_ids(tmp_path) == {"train@gru": "abc"}
