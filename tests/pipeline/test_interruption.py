"""Runs that are killed at any moment go on to the same bits."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from nextword.config import ModelParams, Params, ScheduleParams
from nextword.training.checkpoint import LATEST, PREVIOUS
from nextword.training.worker import STOPPED, Job

SIZE = {"embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02, "dropout": 0.3}
MODELS = {
    "lstm": ModelParams(kind="lstm", num_layers=2, variational=True, weight_drop=0.2, **SIZE),
    "gru": ModelParams(kind="gru", **SIZE),
    "high": ModelParams(kind="gru", **(SIZE | {"learning_rate": 0.5})),
}


def job(tiny_params: Params, ids: Path, folder: Path, name: str, devices: int = 1, **train: Any) -> Path:
    changes = {"checkpoint_seconds": 0.0, "max_epochs": 3, **train}
    params = tiny_params.model_copy(update={"train": tiny_params.train.model_copy(update=changes), "models": MODELS})
    folder.mkdir(parents=True, exist_ok=True)
    made = Job(
        params=params, model=name, seed=1, ids=ids, folder=folder, accelerator="cpu", devices=devices, threads=1,
        fingerprint="same",
    )  # fmt: skip
    (folder / "job.json").write_text(made.model_dump_json())
    return folder / "job.json"


def start(path: Path) -> subprocess.Popen[str]:
    rows = path.parent / "progress.jsonl"
    if rows.exists():
        os.replace(rows, rows.with_suffix(".previous"))
    return subprocess.Popen(
        [sys.executable, "-m", "nextword.training.worker", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def run(path: Path) -> None:
    process = start(path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def interrupted(path: Path, seed: int, number: signal.Signals, most: int = 4) -> int:
    """Run to the end, stopped on the way by ``number`` at random steps; returns how often."""
    rng, stops = random.Random(seed), 0
    while True:
        process = start(path)
        checkpoint = path.parent / LATEST
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        if stops < most:
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != before):
                time.sleep(0.01)
            time.sleep(rng.random() * 0.5)
            if process.poll() is None:
                os.killpg(process.pid, number)
                stops += 1
        output, _ = process.communicate(timeout=120)
        if process.returncode == 0:
            return stops
        assert process.returncode in (-number, STOPPED.get(number)), output


@pytest.fixture(scope="module")
def whole(tiny_ids: Path, tiny_params: Params, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of the GRU, trained without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    run(job(tiny_params, tiny_ids, folder, "gru"))
    return digest(folder)


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("lstm", {}),
        ("lstm", {"optimizer": "nt_asgd", "nonmonotone_interval": 1, "random_bptt": True, "bptt": 20, "max_epochs": 8}),
    ],
)
def test_killed_runs_end_in_the_same_bits(
    name: str, train: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    run(job(tiny_params, tiny_ids, tmp_path / "whole", name, **train))
    path = job(tiny_params, tiny_ids, tmp_path / "killed", name, **train)
    assert interrupted(path, 0, signal.SIGKILL, most=2) > 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")


def test_a_plateau_is_seen_in_the_epoch_of_a_resume(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    """Its rate is so high that valid gets worse from the second epoch on: the schedule steps after each."""
    train = {"schedule": ScheduleParams(kind="plateau", factor=0.5, patience=0), "max_epochs": 4}
    run(job(tiny_params, tiny_ids, tmp_path / "whole", "high", **train))
    path = job(tiny_params, tiny_ids, tmp_path / "killed", "high", **train)
    assert interrupted(path, 0, signal.SIGKILL, most=3) > 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
    rates = []
    for folder in ("whole", "killed"):
        history = json.loads((tmp_path / folder / "result.json").read_text())["history"]
        rates.append([row["learning_rate"] for row in history])
    assert rates[0] == rates[1] and rates[0][-1] < rates[0][0]


@pytest.mark.parametrize(
    ("number", "devices", "accumulate"),
    [
        (signal.SIGTERM, 1, 1),
        (signal.SIGUSR1, 1, 1),
        (signal.SIGTERM, 2, 1),
        (signal.SIGTERM, 3, 1),  # where the order of a sum decides its last bits
        (signal.SIGTERM, 1, 2),
    ],
)
def test_a_run_told_to_stop_saves_first(
    number: signal.Signals, devices: int, accumulate: int, whole: str, tiny_ids: Path, tiny_params: Params,
    tmp_path: Path,
) -> None:  # fmt: skip
    settings = {"devices": devices, "accumulate": accumulate} | ({"batch_size": 6} if devices == 3 else {})
    if devices * accumulate > 1:
        run(job(tiny_params, tiny_ids, tmp_path / "whole", "gru", **settings))
        whole = digest(tmp_path / "whole")
    path = job(tiny_params, tiny_ids, tmp_path, "gru", checkpoint_seconds=1e9, **settings)
    process = start(path)
    while process.poll() is None and not (tmp_path / "progress.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == STOPPED[number] == 128 + number, output
    assert (tmp_path / LATEST).exists()
    run(path)
    assert digest(tmp_path) == whole
    assert not (tmp_path / LATEST).exists()


def test_ctrl_c_is_left_to_the_stage(whole: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    process = start(job(tiny_params, tiny_ids, tmp_path, "gru"))
    while process.poll() is None and not (tmp_path / LATEST).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert digest(tmp_path) == whole


def test_training_gives_signals_back(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    """Whoever trains in a process of its own goes on with its handlers: Ctrl-C is not ignored for good."""
    path = job(tiny_params, tiny_ids, tmp_path, "gru", max_epochs=1)
    script = """if True:
        import json, signal, sys
        from nextword.training.fit import fit
        from nextword.training.worker import Job
        taken = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        signal.signal(signal.SIGTERM, print)
        before = [signal.getsignal(number) for number in taken]
        fit(Job.model_validate(json.load(open(sys.argv[1])), strict=False))
        assert [signal.getsignal(number) for number in taken] == before
        """
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.json").exists()


@pytest.mark.parametrize("damage", ["truncated", "other data"])
def test_a_broken_checkpoint_costs_nothing_but_time(
    damage: str, whole: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    path = job(tiny_params, tiny_ids, tmp_path, "gru")
    process = start(path)
    while process.poll() is None and not (tmp_path / PREVIOUS).exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    if damage == "other data":
        path.write_text(path.read_text().replace('"fingerprint":"same"', '"fingerprint":"other"'))
    else:
        newest = next(path for path in (tmp_path / LATEST, tmp_path / PREVIOUS) if path.exists())
        content = newest.read_bytes()
        newest.write_bytes(content[: len(content) // 2])
    run(path)
    assert digest(tmp_path) == whole


def test_no_run_outlives_what_started_it(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    path = job(tiny_params, tiny_ids, tmp_path, "gru", max_epochs=10_000)
    program = (
        "import subprocess, sys, time; "
        "print(subprocess.Popen([sys.executable, '-m', 'nextword.training.worker', sys.argv[1]]).pid, flush=True); "
        "time.sleep(1000)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = psutil.Process(int(parent.stdout.readline()))
    while worker.is_running() and not (tmp_path / LATEST).exists():
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([worker], timeout=30)
    assert gone == [worker]


def test_two_processes_go_on_to_the_same_bits(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    run(job(tiny_params, tiny_ids, tmp_path / "whole", "lstm", devices=2))
    path = job(tiny_params, tiny_ids, tmp_path / "killed", "lstm", devices=2)
    assert interrupted(path, 1, signal.SIGKILL, most=2) > 0
    assert digest(tmp_path / "killed") == digest(tmp_path / "whole")
