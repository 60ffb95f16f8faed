"""Loss and gradient norm read one step late, as on devices that are ahead of their process: the same weights, the same
report. Devices of this kind are not at hand here, so the CPU is treated as one."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nextword.config import Params
from nextword.training.worker import Job

WORKER = """
import sys
from nextword.training import fit, module, worker
fit.ROW_SECONDS = 1e9  # to write a row is to read
module.READ_LATE |= set(sys.argv[2:])
sys.exit(worker.main(sys.argv[1:2]))
"""
TIMED = {"seconds", "tokens_per_second", "seconds_to_best", "peak_memory_bytes", "tokens", "history"}


def outcome(params: Params, ids: Path, folder: Path, *late: str) -> tuple[dict[str, Any], str]:
    """What a run reports but for its times, and a digest of its weights."""
    job = Job(params=params, model="lstm", seed=0, ids=ids, folder=folder, fingerprint="same")
    path = job.write()
    done = subprocess.run([sys.executable, "-c", WORKER, str(path), *late], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(job.result.read_text())
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return {key: value for key, value in result.items() if key not in TIMED}, hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize(
    ("learning_rate", "status", "train"),
    [
        (0.02, "finished", {"optimizer": "adamw", "checkpoint_seconds": 0.0}),
        (1e30, "diverged", {"optimizer": "sgd", "clip_norm": None}),
        (1e30, "diverged", {"optimizer": "adamw", "clip_norm": None}),
    ],
)
def test_a_late_reading_changes_nothing(
    learning_rate: float, status: str, train: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    model = tiny_params.models["lstm"].model_copy(update={"learning_rate": learning_rate})
    settings = tiny_params.train.model_copy(update={"max_epochs": 1, **train})
    params = tiny_params.model_copy(update={"train": settings, "models": {"lstm": model}})
    at_once = outcome(params, tiny_ids, tmp_path / "at once")
    late = outcome(params, tiny_ids, tmp_path / "late", "cpu")
    assert late == at_once
    assert late[0]["status"] == status and late[0]["steps"] > 0
