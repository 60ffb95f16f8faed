"""One MLflow run, through a client of its own: no global active run, so threads and processes do not meet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from nextword.tracking import values
from nextword.tracking.link import Link, logger
from nextword.tracking.process import this_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

    from nextword.text.ids import EncodedCorpus

Item = TypeVar("Item")
Result = TypeVar("Result")
Status = Literal["FINISHED", "FAILED", "KILLED"]


class Terminated(SystemExit):
    """SIGTERM arrived."""


class Run:
    """A run that is open. Every method is safe to call where tracking is down: it then does nothing."""

    def __init__(self, link: Link, experiment_id: str | None, run_id: str | None, parent_run_id: str | None) -> None:
        self.experiment_id = experiment_id
        self.run_id = run_id
        """Id of this run; None where tracking is down."""
        self.parent_run_id = parent_run_id
        self._link = link
        self._params: dict[str, str] = {}
        self._note = ""
        self._tables: list[str] = []
        self._began_ms = _now_ms()

    def params(self, params: Mapping[str, Any]) -> None:
        """Log params; nested mappings become dotted names, values are cut at MLflow's limit.

        MLflow keeps the first value of a param: giving another one later is a warning.
        """
        new: dict[str, str] = {}
        for key, value in values.flatten(params):
            written = values.text(value)
            if self._params.setdefault(key, written) != written:
                logger.warning("param %s is already %s; %s is not logged", key, self._params[key], written)
            else:
                new[key] = written

        def send(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import Param

            for part in _parts(sorted(new.items()), values.MAX_PARAMS_A_CALL):
                client.log_batch(run_id, params=[Param(key, value) for key, value in part])

        if new:
            self._call("log params", send)

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        written = [(values.name(key), values.text(value, values.MAX_TAG)) for key, value in tags.items()]

        def send(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import RunTag

            for part in _parts(written, values.MAX_PARAMS_A_CALL):
                client.log_batch(run_id, tags=[RunTag(key, value) for key, value in part])

        if written:
            self._call("set tags", send)

    def metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the numbers among ``metrics`` (nested mappings become dotted names)."""
        now = _now_ms()
        self._metrics([(key, value, now, step or 0) for key, value in values.numbers(metrics)])

    def metric_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Log curves: one row a point, with ``step`` and any number of metrics.

        Where a row has ``seconds`` (since the start of the run), the point is drawn at that time, so that MLflow's
        wall-time axis is right for curves sent after the fact.
        """
        points = []
        for index, row in enumerate(rows):
            step = index if row.get("step") is None else int(row["step"])
            seconds = row.get("seconds")
            when = self._began_ms + int(seconds * 1000) if isinstance(seconds, int | float) else _now_ms()
            points += [(key, value, when, step) for key, value in values.numbers(row) if key != "step"]
        self._metrics(points)

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Upload a file, or all files of a folder, into ``folder`` of the run's artifacts."""
        path = Path(path)

        def send(client: MlflowClient, run_id: str) -> None:
            if path.is_dir():
                client.log_artifacts(run_id, str(path), folder or None)
            else:
                client.log_artifact(run_id, str(path), folder or None)

        self._call(f"log the artifact {path}", send)

    def table(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Log a list of rows as a table that MLflow's pages show; ``file`` ends in ``.json``."""
        self._tables.append(file)
        shown = json.dumps([{"path": path, "type": "table"} for path in dict.fromkeys(self._tables)])

        def send(client: MlflowClient, run_id: str) -> None:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[values.cell(row.get(column)) for column in columns] for row in rows]
            content = json.dumps({"columns": columns, "data": data}, ensure_ascii=False, allow_nan=False, default=str)
            client.log_text(run_id, content, file)
            client.set_tag(run_id, "mlflow.loggedArtifacts", shown)

        self._call(f"log the table {file}", send)

    def figure(self, figure: Figure, file: str) -> None:
        """Log a matplotlib figure; the end of ``file`` (``.svg``, ``.png``) is its format."""
        self._call(f"log the figure {file}", lambda client, run_id: client.log_figure(run_id, figure, file))

    def dataset(self, name: str, digest: str, path: str | Path, num_rows: int) -> None:
        """Record a data set that this run read.

        Args:
            name: e.g. ``sotu/train``; shown as the data set's context too (the part after the slash).
            digest: hash of its content; cut at MLflow's 36 characters.
            path: where it lies.
            num_rows: its size (tokens of an id file, lines of a text).
        """

        def send(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import Dataset, DatasetInput, InputTag

            source, profile = json.dumps({"uri": Path(path).as_posix()}), json.dumps({"num_rows": num_rows})
            dataset = Dataset(name[:500], digest[:36], "local", source, profile=profile)
            context = InputTag("mlflow.data.context", name.rpartition("/")[2][:500])
            client.log_inputs(run_id, [DatasetInput(dataset, [context])])

        self._call(f"record the data set {name}", send)

    def ids(self, corpus: EncodedCorpus, *splits: str) -> None:
        """Record splits of an encoded corpus as data sets."""
        for name in splits:
            split = corpus[name]
            self.dataset(f"ids/{name}", split.sha256, corpus.folder / f"{name}.npy", split.num_tokens)

    def note(self, markdown: str) -> None:
        """Set the text shown on top of the run's page (Markdown, tables too)."""
        self._note = markdown
        self.tags({"mlflow.note.content": markdown})

    def log_model(self, name: str, model: Path, ids: Path, *, register: bool = True) -> str | None:
        """Log a trained model as pyfunc: raw text in, score or continuation out.

        Args:
            name: name of the model, also in the registry.
            model: folder with ``model.safetensors`` and ``model.json``.
            ids: folder with ``tokenizer.json`` and ``meta.json``.
            register: also make a version of it in the model registry.

        Returns:
            ``models:/NAME/VERSION`` (``models:/ID`` where it is not registered), or None where tracking is down.
        """
        from nextword.tracking.models import log_pyfunc

        def send(client: MlflowClient, run_id: str) -> str:
            return log_pyfunc(client, run_id, self.experiment_id or "0", name, model, ids, register)

        return self._call(f"log the model {name}", send)

    @contextmanager
    def child(
        self, name: str, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None
    ) -> Iterator[Run]:
        """A run under this one, e.g. one seed; ends as the block ends."""

        def send(client: MlflowClient, parent: str) -> str:
            all_tags = {"nextword.role": "part", **this_process().tags("owner"), **(tags or {})}
            return create_run(client, self.experiment_id or "0", name, all_tags, parent)

        run_id = self._call(f"open the run {name}", send)
        run = Run(self._link, self.experiment_id, run_id, self.run_id)
        with run.ending():
            run.params(params or {})
            yield run

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Close the run as the block ends: FINISHED, FAILED or KILLED; the exception goes on."""
        try:
            yield
        except BaseException as error:
            self.end(*verdict(error))
            raise
        self.end("FINISHED")

    def end(self, status: Status, reason: str = "") -> None:
        """Close the run; ``reason`` goes into the tag ``nextword.error`` and into the note."""

        def send(client: MlflowClient, run_id: str) -> None:
            if reason:
                client.set_tag(run_id, "nextword.error", values.text(reason, values.MAX_TAG))
                note = values.text(f"**{status}**: `{reason}`\n\n{self._note}", values.MAX_TAG)
                client.set_tag(run_id, "mlflow.note.content", note)
            client.set_terminated(run_id, status)

        self._call("close the run", send, even_if_paused=True)

    def _call(
        self, what: str, send: Callable[[MlflowClient, str], Result], *, even_if_paused: bool = False
    ) -> Result | None:
        run_id = self.run_id
        if run_id is None:
            return None
        return self._link.call(what, lambda client: send(client, run_id), even_if_paused=even_if_paused)

    def _metrics(self, points: list[tuple[str, float, int, int]]) -> None:
        def send(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import Metric

            for part in _parts(points, values.MAX_METRICS_A_CALL):
                client.log_batch(run_id, metrics=[Metric(*point) for point in part])

        if points:
            self._call("log metrics", send)


def create_run(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, Any], parent: str | None) -> str:
    """Create a run (RUNNING) and return its id."""
    written = {key: values.text(value, values.MAX_TAG) for key, value in tags.items()}
    if parent is not None:
        written["mlflow.parentRunId"] = parent
    run = client.create_run(experiment_id, start_time=_now_ms(), tags=written, run_name=name)
    return str(run.info.run_id)


def verdict(error: BaseException) -> tuple[Status, str]:
    """Status and reason of a run that ended with ``error``."""
    if isinstance(error, Terminated):
        return "KILLED", "SIGTERM"
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", "KeyboardInterrupt"
    if isinstance(error, SystemExit):
        return ("FAILED", f"exit: {error.code}") if error.code else ("FINISHED", "")
    return "FAILED", f"{type(error).__name__}: {error}"


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _now_ms() -> int:
    return int(time.time() * 1000)
