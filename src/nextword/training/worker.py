r"""One training run in a process of its own: ``python -m nextword.training.worker JOB.json``.

The stage starts one such process a run (several at once where there are several devices). ``torchrun`` and SLURM start
the same command on several nodes, as many processes on each as the job has devices, from job files that
``python -m pipeline.train NAME --jobs`` writes; slurm/train.sbatch does all of it::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        -m nextword.training.worker work/lstm/seed-0/job.json

A worker reads its job, trains, and writes into the job's folder:
``progress.jsonl`` (a row every few seconds and at each epoch end), ``best.safetensors``, and, last, ``result.json``.
It never talks to MLflow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from nextword.config import Params
from nextword.stage import disk_trouble, end_once

STOPPED: dict[int, int] = {number: 128 + number for number in (signal.SIGUSR1, signal.SIGTERM)}
"""Exit status of a worker that was told to stop by a signal and has saved: SLURM's job asks to be queued again after
SIGUSR1, which says that its time is nearly over, but not after SIGTERM, with which it is cancelled. Where the processes
of a run were told by different ones, the first of these counts."""

STARTED_BY = "NEXTWORD_STARTED_BY"
"""Environment variable: process id of the stage, which may be gone before its worker can ask for it."""


class Job(BaseModel):
    """Everything a worker needs to know."""

    model_config = ConfigDict(frozen=True)

    params: Params
    model: str
    seed: int
    ids: Path
    folder: Path
    """Where progress, weights and result go."""
    fingerprint: str
    """Digest of the parameters and the data: a result with the same one need not be computed again."""
    accelerator: str = "cpu"
    """cpu or cuda."""
    devices: int = 1
    """Processes of this run on each node (DDP when there are more than one in all)."""
    threads: int = 1
    """CPU threads of each process."""

    @property
    def label(self) -> str:
        """How the run is called in progress bars and messages."""
        return f"{self.model} seed {self.seed}"

    @property
    def result(self) -> Path:
        """Written last; its presence with the same fingerprint means that the run is done."""
        return self.folder / "result.json"

    @property
    def rows(self) -> Path:
        """Rows of progress."""
        return self.folder / "progress.jsonl"

    def outcome(self) -> dict[str, Any] | None:
        """The result, once the run is done with these parameters and this data."""
        try:
            result: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return result if result.get("fingerprint") == self.fingerprint else None

    def write(self) -> Path:
        """Write what ``python -m nextword.training.worker`` reads, into the job's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "job.json"
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return path

    def set_rows_aside(self) -> Path:
        """Where the rows of an earlier start are, from which a run takes those that it goes on from."""
        previous = self.rows.with_suffix(".previous")
        if self.rows.exists():
            os.replace(self.rows, previous)
        return previous


def main(arguments: list[str] | None = None) -> int:
    """Train one run, unless it is done; exit status 1 with a message on a user's error, or a lack of memory or disk."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    parent = int(os.environ.pop(STARTED_BY, os.getppid()))  # not passed on: DDP's other processes are our children
    end_once(lambda: os.getppid() != parent)
    job = Job.model_validate(json.loads(Path(path).read_text(encoding="utf-8")), strict=False)
    if job.outcome() is not None:
        return 0
    from nextword.training.checkpoint import Stopped
    from nextword.training.fit import fit
    from nextword.training.memory import memory_advice, ran_out_of_memory

    try:
        fit(job)
    except Stopped as stopped:
        return STOPPED[stopped.number]
    except Exception as error:
        message = memory_advice(job) if ran_out_of_memory(error) else disk_trouble(error)
        if message == str(error) and not isinstance(error, ValueError):
            raise
        print(f"error: {job.label}: {message}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    if status in STOPPED.values():
        os._exit(status)  # at once: a signal that came now, as other tasks end, would say otherwise
    sys.exit(status)
