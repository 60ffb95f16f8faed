"""Entries carried out on a store.

An entry is plain JSON: ``do`` (a key of ``ACTIONS``), ``run`` (our key of the run, made before MLflow has an id for
it), and what the action needs. Every action may be carried out twice and leaves what it leaves when it is carried out
once: MLflow drops a metric point, param, tag or data set that it has; a run and a model carry our key as the tag
``nextword.key`` and are looked up by it before an entry that was kept (``kept``) makes another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nextword.tracking import values
from nextword.tracking.journal import Entry
from nextword.tracking.overview import write_overview
from nextword.tracking.process import same_start
from nextword.tracking.store import Store, ensure_experiment, quiet

KEY = "nextword.key"
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"}
FILES = {"artifact", "text", "model"}
"""Actions that nothing later depends on."""
TOO_BUSY = {408, 429}
"""HTTP statuses that pass."""

Item = TypeVar("Item")


def is_refused(error: Exception) -> bool:
    """Whether an entry that failed with this can never succeed, on whatever day it is sent."""
    if isinstance(error, OSError):  # requests' errors are some; of these, a file of ours that is gone
        return isinstance(error, FileNotFoundError)
    mistakes = (ValueError, TypeError, LookupError, AttributeError, AssertionError)
    return getattr(error, "error_code", None) in REFUSALS or isinstance(error, mistakes)


def may_wait(entry: Entry, error: Exception) -> bool:
    """Whether the server will not have this entry as things are (HTTP 4xx), and may have it after the run's end."""
    status = getattr(getattr(error, "response", None), "status_code", None)  # of requests' errors
    if status is None:
        status = getattr(error, "get_http_status_code", lambda: 500)()  # of MLflow's
    return entry["do"] in FILES and 400 <= status < 500 and status not in TOO_BUSY


class Sender:
    """Carries entries out.

    Input: entries, those of a run after the one that opens it. Output: ``ids``, MLflow's run id by our key.
    """

    def __init__(self, store: Store, experiment: str, ids: dict[str, str]) -> None:
        self.store = store
        self.ids = ids
        with quiet():
            self.client = store.client()
            with store.lock():
                self.experiment_id = ensure_experiment(self.client, store, experiment)

    def carry_out(self, entry: Entry) -> Any:
        """Do what the entry says; raises what MLflow raises."""
        with quiet():
            return ACTIONS[entry["do"]](self, entry)

    def _id(self, key: str) -> str:
        if key not in self.ids:
            raise LookupError(f"its run {key} was never opened")
        return self.ids[key]

    def _open_repro(self, entry: Entry) -> None:
        """The run of the ``dvc`` process above, RUNNING again; a new one where there is none yet."""
        with self.store.lock():
            found = self._find_repro(**entry["dvc"]) if entry["dvc"] else None
            run_id = found or self._create(entry)
            for key, value in entry["owner"].items():  # first: a sweep closes a RUNNING run whose owner is dead
                self.client.set_tag(run_id, key, value)
            if found:
                self.client.update_run(found, status="RUNNING")
        self.ids[entry["run"]] = run_id

    def _find_repro(self, host: str, pid: int, started: float, experiment: str) -> str | None:
        where = f"tags.`nextword.repro_pid` = '{pid}' and tags.`nextword.repro_host` = '{host}'"
        newest = ["attributes.start_time DESC"]
        for run in self.client.search_runs([self.experiment_id], where, max_results=20, order_by=newest):
            tags = run.data.tags
            same = same_start(float(tags["nextword.repro_started"]), started)
            if same and tags.get("dvc.exp_name", "") == experiment:
                return str(run.info.run_id)
        return None

    def _open(self, entry: Entry) -> None:
        self.ids[entry["run"]] = self._create(entry)

    def _create(self, entry: Entry) -> str:
        from mlflow.entities import ViewType

        if entry.get("kept"):
            where = f"tags.`{KEY}` = '{entry['run']}'"
            for run in self.client.search_runs([self.experiment_id], where, ViewType.ALL, max_results=1):
                return str(run.info.run_id)
        tags = {key: values.text(value, values.MAX_TAG) for key, value in entry["tags"].items()}
        tags[KEY] = entry["run"]
        if entry.get("parent"):
            tags["mlflow.parentRunId"] = self._id(entry["parent"])
        made = self.client.create_run(
            self.experiment_id, start_time=entry["start_ms"], tags=tags, run_name=entry["name"]
        )
        return str(made.info.run_id)

    def _params(self, entry: Entry) -> None:
        from mlflow.entities import Param

        for part in _parts(list(entry["params"].items()), values.MAX_PARAMS_A_CALL):
            self.client.log_batch(self._id(entry["run"]), params=[Param(key, value) for key, value in part])

    def _tags(self, entry: Entry) -> None:
        from mlflow.entities import RunTag

        for part in _parts(list(entry["tags"].items()), values.MAX_PARAMS_A_CALL):
            self.client.log_batch(self._id(entry["run"]), tags=[RunTag(key, value) for key, value in part])

    def _metrics(self, entry: Entry) -> None:
        from mlflow.entities import Metric

        for part in _parts(entry["points"], values.MAX_METRICS_A_CALL):
            points = [Metric(name, float(value), when_ms, step) for name, value, when_ms, step in part]
            self.client.log_batch(self._id(entry["run"]), metrics=points)

    def _artifact(self, entry: Entry) -> None:
        path = Path(entry["files"]["path"])
        log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
        log(self._id(entry["run"]), str(path), entry["folder"] or None)

    def _text(self, entry: Entry) -> None:
        self.client.log_text(self._id(entry["run"]), entry["text"], entry["file"])

    def _dataset(self, entry: Entry) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(entry["name"], entry["digest"], "local", entry["source"], profile=entry["profile"])
        context = InputTag("mlflow.data.context", entry["context"])
        self.client.log_inputs(self._id(entry["run"]), [DatasetInput(dataset, [context])])

    def _model(self, entry: Entry) -> str:
        from nextword.tracking.models import log_pyfunc

        return log_pyfunc(
            self.client,
            (self.experiment_id, self._id(entry["run"])),
            {KEY: entry["key"]},
            entry["name"],
            {name: Path(path) for name, path in entry["files"].items()},
            register=entry["register"],
            again=entry.get("kept", False),
        )

    def _end(self, entry: Entry) -> None:
        self.client.set_terminated(self._id(entry["run"]), entry["status"], entry["end_ms"])

    def _close_repro(self, entry: Entry) -> None:
        """The run of a ``dvc`` ends as its worst stage so far; the next stage opens it again."""
        run_id, oldest = self._id(entry["run"]), ["attributes.start_time"]
        where = f"tags.`mlflow.parentRunId` = '{run_id}'"
        stages = self.client.search_runs([self.experiment_id], where, max_results=1000, order_by=oldest)
        write_overview(self.client, self.experiment_id, run_id, stages, Path(entry["reports"]))
        ended = {stage.info.status for stage in stages} | {entry["status"]}
        status = next((bad for bad in ("KILLED", "FAILED") if bad in ended), "FINISHED")
        self.client.set_terminated(run_id, status, entry["end_ms"])


ACTIONS: dict[str, Callable[[Sender, Entry], Any]] = {
    "open_repro": Sender._open_repro,
    "open": Sender._open,
    "params": Sender._params,
    "tags": Sender._tags,
    "metrics": Sender._metrics,
    "artifact": Sender._artifact,
    "text": Sender._text,
    "dataset": Sender._dataset,
    "model": Sender._model,
    "end": Sender._end,
    "close_repro": Sender._close_repro,
}


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
