"""A stage that DVC started ends with it, waits for an earlier one, and says what to do about a disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nextword.files import whole_file
from nextword.stage import FULL, disk_trouble
from nextword.training.worker import STARTED_BY

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DVC_STAGE": "train@lstm"}
STAGE = """
import os, subprocess, sys, time
from pathlib import Path
from nextword.stage import run_stage

def main(seconds, worker_seconds="0"):
    Path("began").open("a").write(f"{os.getpid()} {time.time()}\\n")
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({worker_seconds})"], close_fds=False)
    time.sleep(float(seconds))

run_stage(main)
"""
DVC = """
import os, subprocess, sys, time
subprocess.Popen(sys.argv[2:])
time.sleep(float(sys.argv[1]))
os._exit(0)
"""


@pytest.fixture
def stage(tmp_path: Path) -> list[str]:
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "dvc.py").write_text(DVC)
    return [sys.executable, "stage.py"]


def begun(folder: Path, number: int = 1) -> list[tuple[int, float]]:
    """Process ids and times of the stages that began, once there are so many."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = (folder / "began").read_text().splitlines() if (folder / "began").exists() else []
        if len(lines) >= number and lines[-1].count(" ") == 1:
            return [(int(line.split()[0]), float(line.split()[1])) for line in lines]
        time.sleep(0.02)
    raise AssertionError("no stage began")


@pytest.mark.parametrize("shell", [False, True], ids=["at once below", "with a shell between"])
def test_a_stage_ends_with_its_dvc(shell: bool, stage: list[str], tmp_path: Path) -> None:
    words = ["sh", "-c", f"{sys.executable} stage.py 100; true"] if shell else [*stage, "100"]
    with subprocess.Popen([sys.executable, "dvc.py", "100", *words], cwd=tmp_path, env=ENVIRONMENT) as dvc:
        process = psutil.Process(begun(tmp_path)[0][0])
        assert process.is_running()
        dvc.kill()
    gone, _ = psutil.wait_procs([process], timeout=30)
    assert gone == [process]


def test_a_stage_begins_not_where_its_dvc_is_gone(stage: list[str], tmp_path: Path) -> None:
    words = ["sh", "-c", f"sleep 0.5; {sys.executable} stage.py 100 2> said; touch ended"]
    subprocess.run([sys.executable, "dvc.py", "0", *words], cwd=tmp_path, env=ENVIRONMENT, check=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ended").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "the dvc that started this stage is gone" in (tmp_path / "said").read_text()
    assert not (tmp_path / "began").exists()


def test_a_stage_waits_for_the_workers_of_an_earlier_one(stage: list[str], tmp_path: Path) -> None:
    started = time.time()
    subprocess.run([*stage, "0", "2"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    assert time.time() - started < 2, "it ends before its worker"
    subprocess.run([*stage, "0"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    (_, first), (_, second) = begun(tmp_path, 2)
    assert second - first > 2


def test_a_worker_whose_stage_was_gone_at_once_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "job.json")  # reading it takes for ever
    words = [sys.executable, "-m", "nextword.training.worker", str(tmp_path / "job.json")]
    done = subprocess.run(words, env=ENVIRONMENT | {STARTED_BY: str(2**22 + 1)}, timeout=60)
    assert done.returncode == -signal.SIGTERM


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), whole_file(path) as part:
        part.write_text("ne")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
    with whole_file(path) as part:
        part.write_text("new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("said", ["[Errno 28] No space left on device", "1024 requested and 0 written"])
def test_a_full_disk_is_named(said: str) -> None:
    assert disk_trouble(OSError(said)) == f"{said}; {FULL}"
    assert disk_trouble(OSError("no such host")) == "no such host"
