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
from typing import TYPE_CHECKING, Any

from nextword.config import TrackingParams
from nextword.files import write_json
from nextword.tracking.link import Link
from nextword.tracking.overview import write_overview
from nextword.tracking.process import Process, find_dvc, own_command, same_start, this_process
from nextword.tracking.run import Run, Terminated, create_run, verdict
from nextword.tracking.store import Store, project_root
from nextword.tracking.sweep import close_orphans

if TYPE_CHECKING:
    from mlflow import MlflowClient

PACKAGES = ("torch", "lightning", "mlflow", "dvc", "numpy", "tokenizers")
# What DVC writes while it runs says nothing about the code.
WRITTEN_BY_DVC = (":!dvc.lock", ":!reports", ":!*.gitignore")


@contextmanager
def stage_run(params: TrackingParams, stage: str, config: Mapping[str, Any], out: Path) -> Iterator[Run]:
    """Track one stage: open its run, close it as the block ends, name it in ``out``.

    The run is a child of the run of the ``dvc`` process above (any of ``dvc repro``, ``dvc exp run``), which the first
    stage opens and every stage brings up to date; a stage run by hand gets a parent of its own, named ``manual``.
    It ends FINISHED, FAILED (the block raised) or KILLED (Ctrl-C, SIGTERM). Exceptions of the block go on; trouble
    with tracking never raises.

    Args:
        params: the section ``tracking`` of params.yaml.
        stage: name of the stage, used where DVC gives none (``DVC_STAGE``).
        config: logged as the run's params.
        out: JSON file that receives ``run_id``, ``parent_run_id``, ``experiment_id`` (null where tracking is down)
            and ``stage``.

    Yields:
        The run. ``run.run_id`` is None where tracking is down.
    """
    stage = os.environ.get("DVC_STAGE") or stage
    link = Link()
    with sigterm_raises():
        opened = link.call("open the run", lambda client: _open(client, link.store, params.experiment, stage))
        run = Run(link, *(opened or (None, None, None)))
        try:
            with run.ending():
                _write_ids(out, run, stage)
                run.params(config)
                yield run
        except BaseException as error:
            _close_parent(run, stage, verdict(error)[0], _runs_folder(out))
            raise
        _close_parent(run, stage, "FINISHED", _runs_folder(out))


def _open(client: MlflowClient, store: Store | None, experiment: str, stage: str) -> tuple[str, str, str]:
    """Experiment id, id of the stage's run, id of its parent."""
    assert store is not None
    owner = this_process()
    source = _source_tags()
    with store.lock():
        experiment_id = ensure_experiment(client, store, experiment)
        close_orphans(client, experiment_id)
        parent = _open_parent(client, experiment_id, source)
    for key, value in owner.tags("owner").items():
        client.set_tag(parent, key, value)
    tags = {"nextword.role": "stage", "nextword.stage": stage, **owner.tags("owner"), **source, **_version_tags()}
    if "DVC_STAGE" in os.environ:
        tags["dvc.stage"] = stage
    return experiment_id, create_run(client, experiment_id, stage, tags, parent), parent


def ensure_experiment(client: MlflowClient, store: Store, name: str) -> str:
    """Id of the experiment ``name``: found, brought back from the bin, or made."""
    found = client.get_experiment_by_name(name)
    if found is None:
        folder = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
        place = f"{store.artifacts_uri}/{folder}" if store.folder else None
        return str(client.create_experiment(name, place, tags={"mlflow.experimentKind": "custom_model_development"}))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _open_parent(client: MlflowClient, experiment_id: str, source: Mapping[str, str]) -> str:
    """Id of the run of the ``dvc`` process above, RUNNING again; a new one where there is none yet."""
    dvc = find_dvc()
    if dvc is None:
        tags = {"nextword.role": "repro", **source, **this_process().tags("owner")}
        return create_run(client, experiment_id, "manual", tags, None)
    where = f"tags.`nextword.repro_pid` = '{dvc.pid}' and tags.`nextword.repro_host` = '{dvc.host}'"
    for run in client.search_runs([experiment_id], where, max_results=20, order_by=["attributes.start_time DESC"]):
        same = same_start(float(run.data.tags["nextword.repro_started"]), dvc.started)
        if same and run.data.tags.get("dvc.exp_name", "") == os.environ.get("DVC_EXP_NAME", ""):
            client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
    tags = {"nextword.role": "repro", **source, **dvc.tags("repro"), "mlflow.source.name": dvc.command}
    return create_run(client, experiment_id, _name_of(dvc), {**tags, **this_process().tags("owner")}, None)


def _name_of(dvc: Process) -> str:
    """``dvc repro -f`` for ``/venv/bin/python /venv/bin/dvc repro -f``, with the name of a DVC experiment."""
    words = dvc.command.split()
    at = next((i for i, word in enumerate(words) if Path(word).stem == "dvc"), None)
    words = ["dvc", *words[at + 1 :]] if at is not None else ["dvc"]
    if name := os.environ.get("DVC_EXP_NAME"):
        words.append(f"({name})")
    return " ".join(words)[:120]


def _close_parent(run: Run, stage: str, status: str, reports: Path) -> None:
    """The parent ends as its worst stage so far; the next stage of the same repro opens it again."""
    parent = run.parent_run_id
    if parent is None:
        return

    def send(client: MlflowClient) -> None:
        assert run.experiment_id is not None
        where = f"tags.`mlflow.parentRunId` = '{parent}'"
        stages = client.search_runs([run.experiment_id], where, max_results=1000, order_by=["attributes.start_time"])
        write_overview(client, run.experiment_id, parent, stages, reports)
        ended = [s.info.status for s in stages] + [status]
        client.set_terminated(parent, next((bad for bad in ("KILLED", "FAILED") if bad in ended), "FINISHED"))

    run._link.call(f"close the parent of {stage}", send, even_if_paused=True)


def _runs_folder(out: Path) -> Path:
    """``reports/runs`` for ``reports/runs/train/lstm.json``."""
    return next((folder for folder in out.parents if folder.name == "runs"), out.parent)


def _write_ids(out: Path, run: Run, stage: str) -> None:
    ids = {"run_id": run.run_id, "parent_run_id": run.parent_run_id, "experiment_id": run.experiment_id}
    write_json(out, {"stage": stage, **ids})


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
