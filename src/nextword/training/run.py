"""All seeds of one model: what the stage ``train@NAME`` does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nextword.config import Params
from nextword.config.conditions import of_training
from nextword.files import digest, write_json
from nextword.text.ids import load_ids
from nextword.training.placement import OnRow, Runs
from nextword.training.worker import Job


class Training:
    """The training of every seed of one model; entered, it has begun.

    Runs that an earlier, interrupted call finished with the same parameters and data are kept, not repeated.

    Args:
        params: the whole tree.
        name: key under ``models:``.
        ids: folder that ``encode`` wrote.
        out: receives ``seed-K/model.safetensors`` and ``seed-K/model.json``.
        work: for files that outlive an interruption; emptied when all is done.

    Raises:
        ValueError: no such model, ids missing, or a placement that this machine cannot give; before any training.
    """

    def __init__(self, params: Params, name: str, ids: Path, out: Path, work: Path) -> None:
        params.require_model(name)
        corpus = load_ids(ids)
        key = digest([
            of_training(params, name), corpus.tokenizer_sha256, corpus["train"].sha256, corpus["valid"].sha256,
        ])  # fmt: skip
        self.params, self.name, self.out, self.work = params, name, out, work
        self.jobs = [
            Job(params=params, model=name, seed=seed, ids=ids, folder=work / name / f"seed-{seed}", fingerprint=key)
            for seed in params.seeds_of(name)
        ]
        self._runs = Runs(self.jobs, params.train)

    def __enter__(self) -> Training:
        self._runs.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._runs.__exit__(*error)

    def write_jobs(self) -> list[Path]:
        """Write the job files of the runs that are not done, for torchrun or SLURM to carry out; not once entered."""
        return [job.write() for job in self._runs.jobs]

    def finish(self, on_row: OnRow) -> dict[str, Any]:
        """Wait for all seeds and gather the results.

        Args:
            on_row: called with each row of progress.

        Returns:
            the report of the model (reports/train/NAME.json).

        Raises:
            RuntimeError: runs that failed, with the ends of their logs; the others are finished and kept.
        """
        failures = self._runs.wait(on_row)
        if failures:
            raise RuntimeError(
                f"{len(failures)} of {len(self.jobs)} runs of {self.name} failed; the others are kept in "
                f"{self.work / self.name}.\n" + "\n".join(failures)
            )
        results = []
        for job in self.jobs:
            result = job.outcome()
            assert result is not None
            results.append(result)
            left_by_kills = shutil.ignore_patterns(".*")
            shutil.copytree(
                job.folder / "model", self.out / f"seed-{job.seed}", ignore=left_by_kills, dirs_exist_ok=True
            )
        return {
            "model": self.name,
            "kind": self.params.models[self.name].kind,
            **{key: results[0][key] for key in _SAME_FOR_ALL_SEEDS},
            "runs": [{key: r[key] for key in r if key not in (*_SAME_FOR_ALL_SEEDS, "fingerprint")} for r in results],
        }


def train_model(params: Params, name: str, ids: Path, out: Path, work: Path, on_row: OnRow) -> dict[str, Any]:
    """Train every seed of a model from beginning to end; see :class:`Training`."""
    with Training(params, name, ids, out, work) as training:
        return training.finish(on_row)


_SAME_FOR_ALL_SEEDS = ("num_parameters", "operations_per_token")


def finish(name: str, report: dict[str, Any], report_path: Path, work: Path) -> None:
    """Write the report, after which what interruption would need can go."""
    write_json(report_path, report)
    shutil.rmtree(work / name, ignore_errors=True)
