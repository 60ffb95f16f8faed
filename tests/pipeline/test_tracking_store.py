"""Tracking with MLflow: what the store holds after stages that end, fail, are killed, are moved, or find no server."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nextword.config import TrackingParams
from nextword.tracking import close_orphans, ensure_store, stage_run
from nextword.tracking.store import ensure_experiment
from nextword.tracking.ui import command, page

PARAMS = TrackingParams()
OUT = Path("reports/runs/stage.json")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module", autouse=True)
def no_server():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
            ENVIRONMENT.pop(name, None)
        yield


@pytest.fixture(scope="module")
def new_store(tmp_path_factory):
    """A project folder with a store, made once: to make a database takes seconds."""
    folder = tmp_path_factory.mktemp("original")
    ensure_store(folder)
    return folder


@pytest.fixture
def project(new_store, tmp_path, monkeypatch):
    """A copy of it, so each test also relocates a store."""
    shutil.copytree(new_store, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def run_stage(body: str, *, stage: str = "train", cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a process that runs ``body`` inside a ``stage_run``."""
    code = (
        "from pathlib import Path\nimport os, signal, sys, time\n"
        "from nextword.config import TrackingParams\nfrom nextword.tracking import stage_run\n"
        f"with stage_run(TrackingParams(), {stage!r}, {{'bptt': 35}}, Path('reports/runs/{stage}.json')) as run:\n"
        f"    {body}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_everything_that_a_stage_logs(project):
    with stage_run(PARAMS, "train", {"train": {"bptt": 35, "note": "x" * 9000}}, OUT) as run:
        run.params({"train": {"bptt": 35}})
        run.params({"train": {"bptt": 36}})
        run.metrics({"test": {"perplexity": 80.0, "by_position": []}, "valid": None})
        run.metric_rows({"step": step, "seconds": step * 2.0, "loss": 1 / (step + 1)} for step in range(2500))
        run.table([{"model": "gru", "perplexity": 80.0}, {"model": "mle", "perplexity": float("inf")}], "board.json")
        (project / "plot.svg").write_text("<svg/>")
        run.artifact("plot.svg", "plots")
        run.dataset("sotu/train", "0123456789" * 7, project / "data", 1000)
        run.note("| a | b |\n|---|---|\n| 1 | 2 |")
        with run.child("seed 0", {"seed": 0}, {"nextword.model": "gru"}) as seed:
            seed.metrics({"perplexity": 81.0}, step=3)
    client = ensure_store().client()
    ids = json.loads(OUT.read_text())
    stage = client.get_run(ids["run_id"])
    assert ids == {
        "stage": "train", "key": run.key, "run_id": run.run_id, "parent_run_id": run.parent_run_id,
        "experiment_id": run.experiment_id, "commit": None, "dirty": None,
    }  # fmt: skip
    assert stage.info.status == "FINISHED"
    assert stage.data.params["train.bptt"] == "35"
    assert len(stage.data.params["train.note"]) == 6000
    assert stage.data.metrics["test.perplexity"] == 80.0
    history = client.get_metric_history(run.run_id, "loss")
    assert len(history) == 2500
    assert history[10].timestamp - history[0].timestamp == 20_000
    assert stage.data.tags["version.torch"]
    assert stage.data.tags["nextword.key"] == run.key
    assert list((project / "work").rglob("*.jsonl")) == [], "nothing waits"
    assert {item.path for item in client.list_artifacts(run.run_id)} == {"board.json", "plots"}
    board = json.loads(Path(client.download_artifacts(run.run_id, "board.json")).read_text())
    assert board == {"columns": ["model", "perplexity"], "data": [["gru", 80.0], ["mle", "inf"]]}
    assert stage.inputs.dataset_inputs[0].dataset.digest == ("0123456789" * 7)[:36]
    parent = client.get_run(run.parent_run_id)
    assert (parent.info.run_name, parent.info.status) == ("manual", "FINISHED")
    assert f"| train | finished | [{run.run_id[:8]}]" in parent.data.tags["mlflow.note.content"]
    child = client.get_run(seed.run_id)
    assert (child.info.run_name, child.info.status) == ("seed 0", "FINISHED")
    assert child.data.tags["mlflow.parentRunId"] == run.run_id
    where = stage.info.artifact_uri.removeprefix("file://")
    assert Path(where).is_relative_to(project.resolve() / "mlruns" / "artifacts")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(ValueError("batch size 7"), "FAILED", "ValueError: batch size 7"), (KeyboardInterrupt(), "KILLED", "Keyboard")],
)
def test_a_stage_that_raises(project, error, status, text):
    with pytest.raises(type(error)), stage_run(PARAMS, "train", {}, OUT) as run, run.child("seed 0") as seed:
        raise error
    client = ensure_store().client()
    for run_id in (run.run_id, run.parent_run_id, seed.run_id):
        assert client.get_run(run_id).info.status == status
    assert text in client.get_run(run.run_id).data.tags["nextword.error"]
    assert text in client.get_run(run.run_id).data.tags["mlflow.note.content"]


def test_sigterm_and_kill(project):
    """SIGTERM closes the run; after kill -9 the next stage does."""
    bodies = "print(run.run_id, flush=True); time.sleep(60)"
    before = signal.getsignal(signal.SIGTERM)
    processes = [run_stage(bodies), run_stage(bodies)]
    ids = [process.stdout.readline().strip() for process in processes]
    processes[0].terminate()
    processes[1].kill()
    for process in processes:
        process.communicate(timeout=30)
    assert processes[0].returncode == 128 + signal.SIGTERM
    client = ensure_store().client()
    assert [client.get_run(run_id).info.status for run_id in ids] == ["KILLED", "RUNNING"]
    with stage_run(PARAMS, "encode", {}, OUT) as run:
        assert signal.getsignal(signal.SIGTERM) != before
        killed = client.get_run(ids[1])
        assert killed.info.status == "FAILED"
        assert "ended without closing" in killed.data.tags["nextword.error"]
        assert client.get_run(killed.data.tags["mlflow.parentRunId"]).info.status == "FAILED"
        assert client.get_run(run.run_id).info.status == "RUNNING", "the sweep leaves the living alone"
        assert close_orphans(client, run.experiment_id) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_four_processes_make_one_store(tmp_path):
    processes = [run_stage("pass", stage=f"train{i}", cwd=tmp_path) for i in range(4)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert errors == ""
    ids = [json.loads((tmp_path / f"reports/runs/train{i}.json").read_text()) for i in range(4)]
    assert len({item["run_id"] for item in ids}) == 4
    assert {item["experiment_id"] for item in ids} == {"1"}
    client = ensure_store(tmp_path).client()
    assert {client.get_run(item["run_id"]).info.status for item in ids} == {"FINISHED"}
    assert sorted(file.name for file in (tmp_path / "mlruns").iterdir()) == [".lock", "artifacts", "mlflow.db"]


def test_a_moved_project_reads_and_writes_where_it_is_now(project, tmp_path, monkeypatch):
    with stage_run(PARAMS, "ngram", {}, OUT) as old:
        old.table([{"a": 1}], "table.json")
    moved = tmp_path / "moved to #2, 100% new"
    monkeypatch.chdir(tmp_path)
    project.rename(moved)
    monkeypatch.chdir(moved)
    with stage_run(PARAMS, "ngram", {}, OUT) as new:
        new.table([{"a": 2}], "table.json")
    client = ensure_store().client()
    for run, value in ((old, 1), (new, 2)):
        file = Path(client.download_artifacts(run.run_id, "table.json"))
        assert json.loads(file.read_text())["data"] == [[value]]
        assert client.get_run(run.run_id).info.artifact_uri.startswith(moved.resolve().as_uri())
    assert not project.exists()


def test_a_server_that_is_down(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    caplog.set_level(logging.WARNING, "nextword.tracking")
    began = time.monotonic()
    with stage_run(PARAMS, "train", {"a": 1}, OUT) as run:
        run.metrics({"loss": 1.0})
        with run.child("seed 0") as child:
            child.metrics({"loss": 1.0})
    assert time.monotonic() - began < 15
    assert [run.run_id, child.run_id] == [None, None]
    assert json.loads(OUT.read_text()) == {
        "stage": "train", "key": run.key, "run_id": None, "parent_run_id": None, "experiment_id": None,
        "commit": None, "dirty": None,
    }  # fmt: skip
    assert len([record for record in caplog.records if record.name == "nextword.tracking"]) == 1
    assert not Path("mlruns").exists()


def test_a_broken_store_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_text("not a database")
    caplog.set_level(logging.WARNING, "nextword.tracking")
    with stage_run(PARAMS, "train", {"a": 1}, OUT) as run:
        run.metrics({"loss": 1.0})
    assert run.run_id is None
    assert "it waits in work/tracking" in caplog.text


def test_experiment_in_the_bin_comes_back(project):
    store = ensure_store()
    client = store.client()
    experiment_id = ensure_experiment(client, store, "the/other experiment")
    client.delete_experiment(experiment_id)
    assert ensure_experiment(client, store, "the/other experiment") == experiment_id
    assert client.get_experiment(experiment_id).artifact_location.endswith("artifacts/the-other-experiment")


def test_ui_command(project):
    store = ensure_store()
    words = command(store, 5001)
    assert words[3:8] == ["ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
    assert words[-4:] == ["--port", "5001", "--workers", "1"]
    assert page("1", 5001).endswith("5001/#/experiments/1/runs?workflowType=machine_learning")
