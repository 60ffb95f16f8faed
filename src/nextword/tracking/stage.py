"""The run of a stage, under the run of its ``dvc repro``."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from nextword.config import TrackingParams
from nextword.files import write_json
from nextword.tracking.journal import known_runs
from nextword.tracking.link import Link
from nextword.tracking.process import Process, find_dvc, own_command, this_process
from nextword.tracking.run import Run, Terminated, new_key, now_ms, verdict
from nextword.tracking.sender import Sender
from nextword.tracking.store import project_root
from nextword.tracking.sweep import close_orphans

PACKAGES = ("torch", "lightning", "mlflow", "dvc", "numpy", "tokenizers")
# What DVC writes while it runs says nothing about the code.
WRITTEN_BY_DVC = (":!dvc.lock", ":!reports", ":!*.gitignore")


@contextmanager
def stage_run(params: TrackingParams, stage: str, config: Mapping[str, Any], out: Path) -> Iterator[Run]:
    """Track one stage: open its run, close it as the block ends, name it in ``out``.

    The run is a child of the run of the ``dvc`` process above (any of ``dvc repro``, ``dvc exp run``), which the first
    stage opens and every stage brings up to date; a stage run by hand gets a parent of its own, named ``manual``.
    It ends FINISHED, FAILED (the block raised) or KILLED (Ctrl-C, SIGTERM). Exceptions of the block go on; trouble
    with tracking never raises: what the store could not take waits in ``work/tracking`` and is sent by a later stage.

    Args:
        params: the section ``tracking`` of params.yaml.
        stage: name of the stage, used where DVC gives none (``DVC_STAGE``).
        config: logged as the run's params.
        out: JSON file that receives ``run_id``, ``parent_run_id``, ``experiment_id`` (null where tracking was down to
            the end), ``stage``, ``key``, the run's tag ``nextword.key``, and the git state of the project as the stage
            began: ``commit``, and ``dirty``, whether tracked files differed from it (both null where there is none).

    Yields:
        The run. ``run.run_id`` is None where tracking is down.
    """
    stage = os.environ.get("DVC_STAGE") or stage
    link = Link(params.experiment)
    with sigterm_raises():
        try:
            link.resend()
            source = _source_tags()
            run, repro = _open(link, stage, source)
            known = run.run_id
            try:
                with run.ending():
                    _write_ids(out, run, stage, source)
                    run.params(config)
                    yield run
            except BaseException as error:
                _close_repro(link, repro, verdict(error)[0], out)
                raise
            _close_repro(link, repro, "FINISHED", out)
        finally:
            link.close()
        if run.run_id != known:  # the store came back in the meantime
            _write_ids(out, run, stage, source)


def _open(link: Link, stage: str, source: Mapping[str, str]) -> tuple[Run, str]:
    """The run of the stage, and the key of the run of the ``dvc`` above it."""
    me, dvc, repro = this_process(), find_dvc(), new_key()
    opening: dict[str, Any] = {"do": "open_repro", "run": repro, "start_ms": now_ms(), "owner": me.tags("owner")}
    tags = {"nextword.role": "repro", **source, **me.tags("owner")}
    if dvc is None:
        opening |= {"name": "manual", "tags": tags, "dvc": None}
    else:
        experiment = os.environ.get("DVC_EXP_NAME", "")
        identity = {"host": dvc.host, "pid": dvc.pid, "started": dvc.started, "experiment": experiment}
        tags |= {**dvc.tags("repro"), "mlflow.source.name": dvc.command}
        opening |= {"name": _name_of(dvc), "tags": tags, "dvc": identity}
    link.send("open the run", opening)
    run = Run(link, new_key(), repro)
    tags = {"nextword.role": "stage", "nextword.stage": stage, **me.tags("owner"), **source, **_version_tags()}
    if "DVC_STAGE" in os.environ:
        tags["dvc.stage"] = stage
    run.open(stage, tags)
    link.call("close the runs of dead processes", lambda sender: _sweep(sender, link.folder))
    return run, repro


def _sweep(sender: Sender, waiting: Path) -> None:
    with sender.store.lock():
        close_orphans(sender.client, sender.experiment_id, known_runs(waiting))


def _name_of(dvc: Process) -> str:
    """``dvc repro -f`` for ``/venv/bin/python /venv/bin/dvc repro -f``, with the name of a DVC experiment."""
    words = dvc.command.split()
    at = next((i for i, word in enumerate(words) if Path(word).stem == "dvc"), None)
    words = ["dvc", *words[at + 1 :]] if at is not None else ["dvc"]
    if name := os.environ.get("DVC_EXP_NAME"):
        words.append(f"({name})")
    return " ".join(words)[:120]


def _close_repro(link: Link, repro: str, status: str, out: Path) -> None:
    reports = _runs_folder(out).as_posix()
    link.send(
        "close the run of this repro",
        {"do": "close_repro", "run": repro, "status": status, "end_ms": now_ms(), "reports": reports},
    )


def _runs_folder(out: Path) -> Path:
    """``reports/runs`` for ``reports/runs/train/lstm.json``."""
    return next((folder for folder in out.parents if folder.name == "runs"), out.parent)


def _write_ids(out: Path, run: Run, stage: str, source: Mapping[str, str]) -> None:
    ids = {"run_id": run.run_id, "parent_run_id": run.parent_run_id, "experiment_id": run.experiment_id}
    changed = {"true": True, "false": False}.get(source.get("git.dirty", ""))
    git = {"commit": source.get("mlflow.source.git.commit"), "dirty": changed}
    write_json(out, {"stage": stage, "key": run.key, **ids, **git})


def _source_tags() -> dict[str, str]:
    """Command, user and git state, under the names that MLflow's pages show."""
    tags = {"mlflow.source.name": own_command(), "mlflow.source.type": "LOCAL", "nextword.folder": str(project_root())}
    with suppress(OSError, KeyError, ImportError):  # a container may run under a user id without a name
        tags["mlflow.user"] = getpass.getuser()
    if name := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.exp_name"] = name
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN_BY_DVC)
        tags["git.dirty"] = str(bool(changed)).lower()
    return tags


def git_commit() -> str:
    """The commit of the project folder, or an empty string where there is none."""
    return _git("rev-parse", "--verify", "-q", "HEAD")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version_tags() -> dict[str, str]:
    versions = {"version.python": platform.python_version(), "version.platform": platform.platform()}
    for package in PACKAGES:
        try:
            versions[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise :class:`Terminated` (exit code 143) inside the block, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
