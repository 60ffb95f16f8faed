"""Tracking outages: training finishes, and the store ends with all that was logged, in order and once."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from tracking_servers import OUT, ROWS, Line, Server, check, run_stage

from nextword.files import write_json
from nextword.tracking import ensure_store, link
from nextword.tracking.store import Store
from nextword.tuning import not_searched

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server")).start()
    yield made
    made.kill()


@pytest.fixture
def line(server, tmp_path, monkeypatch):
    """A project folder whose store is the server at the other end of a line."""
    made = Line(server.port)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    for name in ("DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(link, "PAUSE_SECONDS", 0.0)
    yield made
    made.close()


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def waiting() -> list[Path]:
    return sorted(Path("work/tracking").glob("*.jsonl"))


def resend(**more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "nextword.tracking.resend"]
    pipe, environment = subprocess.PIPE, ENVIRONMENT | {"MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"]}
    return subprocess.Popen(words, env=environment | more, text=True, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    [
        ("down", 5, 20),
        ("down", -1, 20),
        ("lose", 5, 20),
        ("lose", -1, 10),
        ("hang", 10, 12),
    ],
)
def test_a_server_that_comes_back_in_mid_training(server, line, monkeypatch, mode, first, last):
    """The same process sends what was missed; ``first`` = -1: the run could not even be opened."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    line.mode = mode if first < 0 else "up"
    line.match = b"runs/create" if first < 0 else b""  # runs are made, and nobody hears of it

    def before_row(step: int) -> None:
        line.mode = {first: mode, last: "up"}.get(step, line.mode)

    experiment = f"{mode} {first}"
    run_stage(experiment, before_row)
    client = Store(server.uri).client()
    check(client, experiment)
    written = json.loads(OUT.read_text())
    assert client.get_run(written["run_id"]).data.tags["nextword.key"] == written["key"], "known by the end"


@pytest.mark.parametrize("first", [-1, 5], ids=["never opened", "in mid-training"])
def test_a_server_that_stays_away(server, line, caplog, first):
    """The next stage that reaches it sends what this one logged."""
    caplog.set_level(logging.WARNING, "nextword.tracking")
    line.mode = "down" if first < 0 else "up"

    def before_row(step: int) -> None:
        line.mode = "down" if step == first else line.mode

    experiment = f"away {first}"
    run_stage(experiment, before_row)
    assert [record.message for record in caplog.records if "it waits in work/tracking" in record.message]
    assert len(waiting()) == 1
    assert (json.loads(OUT.read_text())["run_id"] is None) == (first < 0)
    line.mode = "up"
    run_stage(f"after {experiment}")
    client = Store(server.uri).client()
    check(client, experiment)
    check(client, f"after {experiment}")


def test_a_server_that_takes_no_files(server, line):
    """All else of the stage is there when it ends, and the files when they are taken."""
    line.mode, line.match = "reject", b"PUT "
    run_stage("rejected")
    client = Store(server.uri).client()
    found = client.search_runs([client.get_experiment_by_name("rejected").experiment_id])
    assert [run.info.status for run in found] == ["FINISHED"] * 3
    kept = [json.loads(row)["do"] for journal in waiting() for row in journal.read_text().splitlines()[1:]]
    assert sorted(kept) == ["artifact", "text"]
    line.mode = "up"
    sender = resend()
    output, errors = sender.communicate(timeout=120)
    assert (sender.returncode, output) == (0, "2 entries sent\n"), errors
    check(client, "rejected")


def test_a_training_whose_server_goes_away(server, line, tiny_ids, tiny_params):
    """A stage with a worker, for real: it ends as ever, and each curve arrives whole when it is sent."""
    Path("data").mkdir()
    Path("data/ids").symlink_to(tiny_ids)
    write_json(Path("reports/tune/gru.json"), not_searched("gru"))
    train = tiny_params.train.model_dump(mode="json") | {"max_epochs": 6, "seeds": [0]}
    model = {"kind": "gru", "embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02}
    tracking = {"experiment": "training", "register_models": False}
    Path("params.yaml").write_text(yaml.safe_dump({"train": train, "models": {"gru": model}, "tracking": tracking}))
    with Path("log.txt").open("w") as log:
        stage = subprocess.Popen(
            [sys.executable, "-m", "pipeline.train", "gru"], stdout=log, stderr=log,
            env=ENVIRONMENT | {"MLFLOW_TRACKING_URI": line.uri, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        )  # fmt: skip
    while stage.poll() is None and not Path("work/gru/seed-0/progress.jsonl").exists():
        time.sleep(0.01)
    line.mode = "down"
    assert stage.wait(timeout=300) == 0, Path("log.txt").read_text()
    assert "it waits in work/tracking" in Path("log.txt").read_text()
    line.mode = "up"
    sender = resend()
    _, errors = sender.communicate(timeout=120)
    assert (sender.returncode, waiting()) == (0, []), errors
    client = Store(server.uri).client()
    found = client.search_runs([client.get_experiment_by_name("training").experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    [seed] = [run for run in found if run.data.params.get("seed") == "0"]
    [report] = json.loads(Path("reports/train/gru.json").read_text())["runs"]
    curve = client.get_metric_history(seed.info.run_id, "valid_perplexity")
    epochs = [row["valid_perplexity"] for row in report["history"]]
    assert len(epochs) == 6
    assert [point.value for point in sorted(curve, key=lambda point: point.step)] == epochs


def test_resending_that_is_killed_again_and_again(server, line):
    line.mode = "down"
    run_stage("killed", model=True)
    for folder in ("model", "ids"):
        for file in Path(folder).iterdir():
            file.unlink()
    left = resend()
    _, errors = left.communicate(timeout=120)
    assert left.returncode == 1
    assert f"entries for {line.uri} are left in work/tracking" in errors
    line.mode = "up"
    for parts in (3, 15, 60):
        target, sender = line.passed + parts, resend()
        while line.passed < target and sender.poll() is None:
            time.sleep(0.001)
        sender.kill()
        sender.communicate()
    for sent in (True, False):
        sender = resend()
        output, errors = sender.communicate(timeout=120)
        assert sender.returncode == 0, errors
        assert output.startswith("0 entries") != sent
    check(Store(server.uri).client(), "killed", model=True)


def test_what_waits_for_one_server_is_not_sent_to_another(server, line, tmp_path):
    line.mode = "down"
    run_stage("mine")
    [journal] = waiting()
    content = journal.read_bytes()
    sender = resend(MLFLOW_TRACKING_URI=server.uri)
    _, errors = sender.communicate(timeout=120)
    assert (sender.returncode, journal.read_bytes()) == (1, content)
    assert f"entries for {line.uri} are left" in errors


def test_a_slow_server_costs_seconds(server, line, monkeypatch):
    """Each part of a request takes 0.3 s: one call a row would take ``ROWS`` times that and more."""
    line.delay = 0.3
    monkeypatch.setattr(link, "SLOW_SECONDS", 0.25)
    monkeypatch.setattr(link, "PAUSE_SECONDS", 60.0)
    rows: list[float] = []
    run_stage("slow", lambda step: rows.append(time.monotonic()))
    assert len(rows) == ROWS and rows[-1] - rows[0] < 0.3 * ROWS, "rows wait for no server"
    check(Store(server.uri).client(), "slow")


def test_a_server_that_is_killed_and_started_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(link, "PAUSE_SECONDS", 0.0)
    server = Server(tmp_path).start()
    try:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        actions = {10: server.kill, 20: server.start}
        run_stage("restarted", lambda step: actions.get(step, lambda: None)() and None)
        check(Store(server.uri).client(), "restarted")
    finally:
        server.kill()


def test_a_locked_database(local):
    """Another program holds the database while rows come in: SQLite gives up after 20 s, once."""
    ensure_store()
    with closing(sqlite3.connect(local / "mlruns" / "mlflow.db", isolation_level=None)) as other:
        actions = {5: "BEGIN EXCLUSIVE", ROWS - 1: "ROLLBACK"}
        began = time.monotonic()
        run_stage("locked", lambda step: actions.get(step) and other.execute(actions[step]).close())
        assert 10 < time.monotonic() - began < 240, "it was locked, and waited for once"
    check(ensure_store().client(), "locked")


# Runs in a mount namespace of its own: mlruns is a small file system there, which fills up or turns read-only.
TROUBLE = """
import json, subprocess, sys
from pathlib import Path
from tracking_servers import check, run_stage
from nextword.tracking import ensure_store

kind = sys.argv[1]
Path("mlruns").mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", "mlruns"], check=True)
# In a process of its own: a file system on which somebody writes does not turn read-only.
subprocess.run([sys.executable, "-c", "from tracking_servers import run_stage; run_stage('before')"], check=True)

def strike(step):
    if kind == "read-only" or step != 5:
        return
    with open("mlruns/ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            pass

if kind == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", "mlruns"], check=True)
run_stage("during", strike, model=True)
waited = [path.read_text().count('"do"') for path in Path("work/tracking").glob("*.jsonl")]
if kind == "read-only":
    subprocess.run(["mount", "-o", "remount,rw", "mlruns"], check=True)
else:
    Path("mlruns/ballast").unlink()
run_stage("after")
for experiment in ("before", "during", "after"):
    check(ensure_store().client(), experiment, model=experiment == "during")
print(json.dumps(waited))
"""


@pytest.mark.usefixtures("mount_namespace")
@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_trouble_with_the_disk_under_mlruns(local, kind):
    (local / "trouble.py").write_text(TROUBLE)
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "trouble.py", kind],
        cwd=local, env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [waited] = json.loads(done.stdout.splitlines()[-1])
    assert waited > 10
