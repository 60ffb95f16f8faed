"""All seeds of one model: what the stage ``train@NAME`` does."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from nextword.config import Params
from nextword.files import write_json
from nextword.text.ids import load_ids
from nextword.training.placement import OnRow, devices_per_run, find_devices, run_jobs
from nextword.training.worker import Job


def train_model(params: Params, name: str, ids: Path, out: Path, work: Path, on_row: OnRow) -> dict[str, Any]:
    """Train every seed of model ``name`` and gather the results.

    Runs that an earlier, interrupted call finished with the same parameters and data are kept, not repeated.

    Args:
        params: the whole tree.
        name: key under ``models:``.
        ids: folder that ``encode`` wrote.
        out: receives ``seed-K/model.safetensors`` and ``seed-K/model.json``.
        work: for files that outlive an interruption; emptied when all is done.
        on_row: called with each row of progress.

    Returns:
        the report of the model (reports/train/NAME.json).

    Raises:
        ValueError: no such model, ids missing, or a placement that this machine cannot give; before any training.
        RuntimeError: runs that failed, with the ends of their logs; the others are finished and kept.
    """
    params.require_model(name)
    corpus = load_ids(ids)
    devices = find_devices(params.train.accelerator)
    per_run = devices_per_run(params.train, devices)
    digest = hashlib.sha256(
        json.dumps(
            [params.train.model_dump(mode="json", exclude={"seeds", "max_parallel_runs"}),
             params.models[name].model_dump(mode="json", exclude={"seeds"}),
             corpus.tokenizer_sha256, corpus["train"].sha256, corpus["valid"].sha256],
            sort_keys=True,
        ).encode()
    ).hexdigest()  # fmt: skip
    jobs = [
        Job(
            params=params, model=name, seed=seed, ids=ids, folder=work / name / f"seed-{seed}",
            accelerator=devices.accelerator, devices=per_run, threads=1, fingerprint=digest,
        )
        for seed in params.seeds_of(name)
    ]  # fmt: skip
    unfinished = [job for job in jobs if _result(job) is None]
    failures = run_jobs(unfinished, params.train, devices, on_row) if unfinished else []
    if failures:
        raise RuntimeError(
            f"{len(failures)} of {len(jobs)} runs of {name} failed; the others are kept in {work / name}.\n"
            + "\n".join(failures)
        )
    results = []
    for job in jobs:
        result = _result(job)
        assert result is not None
        results.append(result)
        shutil.copytree(job.folder / "model", out / f"seed-{job.seed}", dirs_exist_ok=True)
    report = {
        "model": name,
        "kind": params.models[name].kind,
        **{key: results[0][key] for key in _SAME_FOR_ALL_SEEDS},
        "runs": [{key: r[key] for key in r if key not in (*_SAME_FOR_ALL_SEEDS, "fingerprint")} for r in results],
    }
    return report


_SAME_FOR_ALL_SEEDS = ("num_parameters", "operations_per_token")


def _result(job: Job) -> dict[str, Any] | None:
    try:
        result: dict[str, Any] = json.loads(job.result.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return result if result.get("fingerprint") == job.fingerprint else None


def finish(name: str, report: dict[str, Any], report_path: Path, work: Path) -> None:
    """Write the report, after which what interruption would need can go."""
    write_json(report_path, report)
    shutil.rmtree(work / name, ignore_errors=True)
