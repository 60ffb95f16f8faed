"""One parent run for each ``dvc repro``, with the stages that ran under it and the reused ones named in its note."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nextword.config import TrackingParams
from nextword.tracking import ensure_store

STAGE = """
import sys
from pathlib import Path
from nextword.config import TrackingParams
from nextword.tracking import stage_run

stage, out = sys.argv[1:3]
with stage_run(TrackingParams(), stage, {}, Path(f"reports/runs/{stage.replace('@', '/')}.json")):
    if "fail" in Path("params.yaml").read_text() and stage == "compare":
        raise ValueError("as it was told")
    Path(out).write_text(stage)
"""
PIPELINE = """
stages:
  encode:
    cmd: python stage.py encode ids
    deps: [stage.py]
    outs: [ids, reports/runs/encode.json]
  train:
    matrix: {model: "${models}"}
    cmd: python stage.py train@${item.model} ${item.model}.pt
    params: ["models.${item.model}"]
    deps: [ids]
    outs: ["${item.model}.pt", "reports/runs/train/${item.model}.json"]
  compare:
    cmd: python stage.py compare table
    params: [models]
    deps: [reports/runs/train]
    outs: [table, reports/runs/compare.json]
"""


def repro(folder: Path, params: str) -> int:
    (folder / "params.yaml").write_text(params)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("MLFLOW_TRACKING_URI", "DVC_STAGE", "DVC_ROOT", "DVC_EXP_NAME"):
        environment.pop(name, None)
    return subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=folder, env=environment).returncode


def test_parents_of_two_repros(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "stage.py").write_text(STAGE)
    assert repro(tmp_path, "models: {gru: 1}") == 0
    gru = json.loads((tmp_path / "reports/runs/train/gru.json").read_text())["run_id"]
    assert repro(tmp_path, "models: {gru: 1, lstm: fail}") != 0

    client = ensure_store(tmp_path).client()
    experiment = client.get_experiment_by_name(TrackingParams().experiment).experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time"])
    first, second = [run for run in runs if run.data.tags["nextword.role"] == "repro"]

    def stages(parent):
        return [
            (run.info.run_name, run.info.status)
            for run in runs
            if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
        ]

    assert first.info.run_name == "dvc repro -q"
    assert stages(first) == [("encode", "FINISHED"), ("train@gru", "FINISHED"), ("compare", "FINISHED")]
    assert first.info.status == "FINISHED"
    assert first.data.tags["nextword.stages_reused"] == ""
    assert stages(second) == [("train@lstm", "FINISHED"), ("compare", "FAILED")]
    assert second.info.status == "FAILED"
    assert second.data.tags["nextword.stages_reused"] == "encode, train@gru"
    assert f"| train@gru | reused | [{gru[:8]}]" in second.data.tags["mlflow.note.content"]
