"""The pipeline as a person runs it, in a copy of the project with profiles/smoke.yaml."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
TUNED = ["tune@lstm", "tune@gru", "tune@lstm_matched"]
"""In profiles/smoke.yaml."""
COPIED = ["dvc.yaml", ".dvcignore", ".gitignore", "pipeline", "src", "profiles"]


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (folder / ".dvc").mkdir()
        shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
        shutil.copy(ROOT / ".dvc" / ".gitignore", folder / ".dvc" / ".gitignore")
        shutil.copy(ROOT / "profiles" / "smoke.yaml", folder / "params.yaml")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        bin_folder = Path(sys.executable).parent
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))} | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "src"),
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def repro(self) -> list[str]:
        """Run ``dvc repro`` and return the names of the stages that ran."""
        out = self.run("dvc", "repro").stdout
        return [line.split("'")[1] for line in out.splitlines() if line.startswith("Running stage")]

    def change(self, **leaves: Any) -> None:
        """Set leaves of params.yaml (``models__gru__hidden_size=40``); None removes one."""
        yaml = YAML()
        file = self.folder / "params.yaml"
        tree = yaml.load(file)
        for path, value in leaves.items():
            *parents, last = path.split("__")
            node = tree
            for parent in parents:
                node = node[parent]
            if value is None:
                del node[last]
            else:
                node[last] = value
        yaml.dump(tree, file)

    def params(self) -> Any:
        return YAML(typ="safe").load(self.folder / "params.yaml")

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The smoke profile, run once from nothing, in a git repository."""
    project = Project(tmp_path_factory.mktemp("project"))
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        project.run("git", *arguments)
    project.seconds = -time.monotonic()  # type: ignore[attr-defined]
    project.first = project.repro()  # type: ignore[attr-defined]
    project.seconds += time.monotonic()  # type: ignore[attr-defined]
    yield project


def test_every_stage_runs(project: Any) -> None:
    models = list(project.params()["models"])
    stages = ("tune", "train", "evaluate", "probe")
    expected = ["prepare", "encode", "ngram", "plan", *[f"{stage}@{model}" for model in models for stage in stages]]
    expected += ["memory", "exploding", "window", "sparsity", "capacity", "throughput", "compare"]
    assert sorted(project.first) == sorted(expected)
    assert project.first[-1] == "compare"
    print(f"smoke profile: {project.seconds:.0f} s")


def test_report_names_every_model(project: Any) -> None:
    page = (project.folder / "reports/compare/report.html").read_text()
    board = (project.folder / "reports/compare/leaderboard.csv").read_text()
    for name in ("lstm", "gru", "nnlm", "ablation_cifg", "modified_kneser_ney"):
        assert name in board
    assert "bigru" not in board and "bigru" in (project.folder / "reports/compare/bidirectional.csv").read_text()
    assert "lstm_cifg" in (project.folder / "reports/compare/ablation.csv").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page
    table = project.json("reports/compare/gru_vs_lstm.json")
    assert json.dumps(table).count("verdict") > 5


def test_git_stays_clean_of_data(project: Any) -> None:
    status = project.run("git", "status", "--porcelain", "--untracked-files=all").stdout.splitlines()
    assert {line[3:] for line in status} <= {"dvc.lock", "reports/metrics.json"}, status


def test_nothing_to_do_is_fast(project: Any) -> None:
    started = time.monotonic()
    assert project.repro() == []
    assert time.monotonic() - started < 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def test_dvc_views(project: Any) -> None:
    assert "lstm" in project.run("dvc", "metrics", "show").stdout
    assert "train@gru" in project.run("dvc", "dag").stdout


def test_mlflow_holds_the_run(project: Any) -> None:
    code = """
import json, mlflow
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlruns/mlflow.db")
experiment = client.get_experiment_by_name("smoke")
runs = client.search_runs([experiment.experiment_id], max_results=1000)
print(json.dumps([{"id": r.info.run_id, "name": r.info.run_name, "status": r.info.status,
    "parent": r.data.tags.get("mlflow.parentRunId"), "metrics": list(r.data.metrics),
    "note": r.data.tags.get("mlflow.note.content")} for r in runs]))
print(json.dumps([v.name for v in client.search_registered_models()]))
"""
    lines = project.run(sys.executable, "-c", code).stdout.splitlines()
    runs, registered = json.loads(lines[-2]), json.loads(lines[-1])
    assert all(run["status"] == "FINISHED" for run in runs)
    (parent,) = [run for run in runs if run["parent"] is None]
    children = [run for run in runs if run["parent"] == parent["id"]]
    idle = {"plan", *(stage for stage in project.first if stage.startswith("tune@"))} - set(TUNED)  # no run
    assert sorted(run["name"] for run in children) == sorted(set(project.first) - idle)
    (train,) = [run for run in children if run["name"] == "train@gru"]
    for stage, metric in {
        "probe@gru": "effective_context_tokens", "memory": "longest_lag.copy.lstm", "window": "parameters.window_2",
        "capacity": "bits_per_parameter.lstm", "tune@gru": "best_valid_perplexity",
        "exploding": "diverged_share.rnn_clipped_scale_5", "sparsity": "unseen_share.train_1.00.order_2",
    }.items():  # fmt: skip
        assert metric in next(run for run in children if run["name"] == stage)["metrics"]
    seeds = [run for run in runs if run["parent"] == train["id"]]
    assert len(seeds) == 2 and all("valid_perplexity" in run["metrics"] for run in seeds)
    assert {"gru", "lstm", "nnlm"} <= set(registered)
    named = project.json("reports/runs/train/gru.json")
    assert named["run_id"] == train["id"]
    assert named["commit"] == project.run("git", "rev-parse", "HEAD").stdout.strip() and named["dirty"] is False
    (compare,) = [run for run in children if run["name"] == "compare"]
    assert compare["note"] == (project.folder / "reports/compare/summary.md").read_text()


def test_one_leaf_reruns_one_model(project: Any) -> None:
    project.change(models__gru__hidden_size=40)
    diff = project.run("dvc", "params", "diff").stdout
    assert "models.gru.hidden_size" in diff
    assert sorted(project.repro()) == ["compare", "evaluate@gru", "plan", "probe@gru", "train@gru", "tune@gru"]
    assert project.json("reports/train/gru.json")["num_parameters"]["recurrent"] == 3 * 40 * (32 + 40 + 1)


def test_a_list_of_seeds_reruns_one_model(project: Any) -> None:
    """What was tuned stays: seeds are no part of the search."""
    project.change(models__lstm__seeds=[1])
    assert sorted(project.repro()) == ["compare", "evaluate@lstm", "plan", "probe@lstm", "train@lstm"]
    assert [run["seed"] for run in project.json("reports/train/lstm.json")["runs"]] == [1]


def test_the_common_seeds_rerun_the_models_without_their_own(project: Any) -> None:
    models = project.params()["models"]
    without = {name for name, model in models.items() if "seeds" not in model}
    assert without and without != set(models)
    before = project.params()["train"]["seeds"]
    project.change(train__seeds=before[1:])
    expected = {f"{stage}@{name}" for name in without for stage in ("train", "evaluate", "probe")}
    assert set(project.repro()) == {"plan", "compare", *expected}
    project.change(train__checkpoint_seconds=7)  # about the machine: changes no result
    assert project.repro() == ["plan", "compare"]


def test_what_was_tuned_is_what_is_trained(project: Any) -> None:
    for name in TUNED:
        model = name.removeprefix("tune@")
        settings = project.json(f"reports/tune/{model}.json")["settings"]
        trained = project.json(f"models/{model}/seed-1/model.json")["params"]
        assert settings and {key: trained[key] for key in settings} == settings


def test_verdicts_follow_from_what_is_saved(project: Any) -> None:
    """Bit for bit, and from nothing but the reports, the nats and the ids."""
    folder = project.folder / "reports" / "compare"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    project.run(sys.executable, "-m", "pipeline.compare")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == after.keys() and {"gru_vs_lstm.json", "claims.json", "report.html"} <= after.keys()
    assert not [name for name in before if before[name] != after[name]]


def test_one_experiment_reruns_alone(project: Any) -> None:
    project.change(exploding__steps=6)
    assert project.repro() == ["exploding", "compare"]
    assert len(project.json("reports/experiments/exploding.json")["settings"][0]["runs"][0]["losses"]) <= 6


def test_models_come_and_go(project: Any) -> None:
    project.change(models__nnlm=None, models__rnn={"kind": "rnn", "hidden_size": 8, "embedding_size": 8, "seeds": [0]})
    assert sorted(project.repro()) == ["compare", "evaluate@rnn", "plan", "probe@rnn", "train@rnn", "tune@rnn"]
    board = (project.folder / "reports/compare/leaderboard.csv").read_text()
    assert "rnn" in board and "nnlm" not in board


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__batch_size": "many"}, "train.batch_size: got 'many'"),
        ({"models__gru__kind": "grru"}, "unknown kind 'grru'"),
        ({"train__devices_per_run": 3}, "does not divide"),
    ],
)
def test_a_wrong_value_stops_before_any_work(project: Any, changes: dict[str, Any], message: str) -> None:
    file = project.folder / "params.yaml"
    before, models = file.read_text(), sorted((project.folder / "models").rglob("*.safetensors"))
    project.change(**changes)
    try:
        done = project.run(sys.executable, "-m", "pipeline.train", "gru", check=False)
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
        assert sorted((project.folder / "models").rglob("*.safetensors")) == models
    finally:
        file.write_text(before)


def test_without_git(project: Any, tmp_path: Path) -> None:
    """A copy without ``.git`` works once DVC is told so (``make repro`` does)."""
    copy = Project(tmp_path / "zip")
    copy.run("dvc", "config", "--local", "core.no_scm", "true")
    copy.run("dvc", "repro", "prepare", "encode")
    assert (copy.folder / "data/ids/meta.json").exists()
