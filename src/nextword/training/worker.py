"""One training run in a process of its own: ``python -m nextword.training.worker JOB.json``.

The stage starts one such process a run (several at once where there are several devices); ``torchrun`` and SLURM may
start the same command on several nodes. A worker reads its job, trains, and writes into the job's folder:
``progress.jsonl`` (a row every few seconds and at each epoch end), ``best.safetensors``, and, last, ``result.json``.
It never talks to MLflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from nextword.config import Params

STOPPED = 143
"""Exit status of a worker that was told to stop and has saved (128 + SIGTERM)."""


class Job(BaseModel):
    """Everything a worker needs to know."""

    model_config = ConfigDict(frozen=True)

    params: Params
    model: str
    seed: int
    ids: Path
    folder: Path
    """Where progress, weights and result go."""
    accelerator: str
    """cpu or cuda."""
    devices: int
    """Processes of this run (DDP when more than one)."""
    threads: int
    """CPU threads of each process."""
    fingerprint: str
    """Digest of the parameters and the data: a result with the same one need not be computed again."""

    @property
    def label(self) -> str:
        """How the run is called in progress bars and messages."""
        return f"{self.model} seed {self.seed}"

    @property
    def result(self) -> Path:
        """Written last; its presence with the same fingerprint means that the run is done."""
        return self.folder / "result.json"


def main(arguments: list[str] | None = None) -> int:
    """Train one run; exit status 1 with a message on a user's error."""
    (path,) = arguments if arguments is not None else sys.argv[1:]
    job = Job.model_validate(json.loads(Path(path).read_text(encoding="utf-8")), strict=False)
    from nextword.training.checkpoint import Stopped, end_with_parent
    from nextword.training.fit import fit

    end_with_parent()
    try:
        fit(job)
    except Stopped:
        return STOPPED
    except ValueError as error:
        print(f"error: {job.label}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
