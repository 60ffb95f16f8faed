"""One MLflow run, through a client of its own: no global active run, so threads and processes do not meet."""

from __future__ import annotations

import json
import math
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from nextword.tracking import values
from nextword.tracking.link import Link, logger
from nextword.tracking.process import this_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nextword.text.ids import EncodedCorpus

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Terminated(SystemExit):
    """SIGTERM arrived."""


class Run:
    """A run that is open. Where tracking is down, what it is told waits (see :mod:`nextword.tracking.link`)."""

    def __init__(self, link: Link, key: str, parent_key: str | None = None) -> None:
        self.key = key
        """Our name of this run, its tag ``nextword.key``; known before MLflow has an id for it."""
        self._link = link
        self._parent_key = parent_key
        self._params: dict[str, str] = {}
        self._note = ""
        self._tables: list[str] = []
        self._began_ms = now_ms()

    @property
    def run_id(self) -> str | None:
        """MLflow's id; None as long as the store has not got this run."""
        return self._link.ids.get(self.key)

    @property
    def parent_run_id(self) -> str | None:
        """MLflow's id of the run above."""
        return self._link.ids.get(self._parent_key) if self._parent_key else None

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None as long as the store was not reached."""
        return self._link.experiment_id

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
        if new:
            self._send("log params", "params", params=dict(sorted(new.items())))

    def tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags."""
        written = {values.name(key): values.text(value, values.MAX_TAG) for key, value in tags.items()}
        if written:
            self._send("set tags", "tags", tags=written)

    def metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log the numbers among ``metrics`` (nested mappings become dotted names)."""
        now = now_ms()
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
            when = self._began_ms + int(seconds * 1000) if isinstance(seconds, int | float) else now_ms()
            points += [(key, value, when, step) for key, value in values.numbers(row) if key != "step"]
        self._metrics(points)

    def artifact(self, path: str | Path, folder: str = "") -> None:
        """Upload a file, or all files of a folder, into ``folder`` of the run's artifacts."""
        self._send(f"log the artifact {path}", "artifact", files={"path": str(Path(path).absolute())}, folder=folder)

    def table(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Log a list of rows as a table that MLflow's pages show; ``file`` ends in ``.json``."""
        with self._link.harmless(f"write the table {file}"):
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[values.cell(row.get(column)) for column in columns] for row in rows]
            content = json.dumps({"columns": columns, "data": data}, ensure_ascii=False, allow_nan=False, default=str)
            self._send(f"log the table {file}", "text", text=content, file=file)
            self._tables.append(file)
            shown = [{"path": path, "type": "table"} for path in dict.fromkeys(self._tables)]
            self.tags({"mlflow.loggedArtifacts": json.dumps(shown)})

    def figure(self, figure: Figure, file: str) -> None:
        """Log a matplotlib figure; the end of ``file`` (``.svg``, ``.png``) is its format."""
        place = PurePosixPath(file)
        with self._link.harmless(f"draw the figure {file}"), tempfile.TemporaryDirectory() as scratch:
            figure.savefig(Path(scratch) / place.name)
            self.artifact(Path(scratch) / place.name, "" if place.parent == PurePosixPath() else str(place.parent))

    def dataset(self, name: str, digest: str, path: str | Path, num_rows: int) -> None:
        """Record a data set that this run read.

        Args:
            name: e.g. ``sotu/train``; shown as the data set's context too (the part after the slash).
            digest: hash of its content; cut at MLflow's 36 characters.
            path: where it lies.
            num_rows: its size (tokens of an id file, lines of a text).
        """
        self._send(
            f"record the data set {name}",
            "dataset",
            name=name[:500],
            digest=digest[:36],
            source=json.dumps({"uri": Path(path).as_posix()}),
            profile=json.dumps({"num_rows": num_rows}),
            context=name.rpartition("/")[2][:500],
        )

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
            model: folder with ``model.safetensors`` and ``model.json``, or of an n-gram model.
            ids: folder with ``tokenizer.json`` and ``meta.json``.
            register: also make a version of it in the model registry.

        Returns:
            ``models:/NAME/VERSION`` (``models:/ID`` where it is not registered), or None where tracking is down.
        """
        with self._link.harmless(f"log the model {name}"):
            from nextword.serving import TOKENIZER_FILES
            from nextword.tracking.models import model_files

            made: str | None = self._send(
                f"log the model {name}",
                "model",
                key=new_key(),
                name=name,
                files={"model": str(model.absolute()), "ids": str(ids.absolute())},
                only={"model": model_files(model), "ids": list(TOKENIZER_FILES)},
                register=register,
            )
            return made
        return None

    @contextmanager
    def child(
        self, name: str, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None
    ) -> Iterator[Run]:
        """A run under this one, e.g. one seed; ends as the block ends."""
        run = Run(self._link, new_key(), self.key)
        run.open(name, {"nextword.role": "part", **this_process().tags("owner"), **(tags or {})})
        with run.ending():
            run.params(params or {})
            yield run

    def open(self, name: str, tags: Mapping[str, Any]) -> None:
        """Create the run (RUNNING)."""
        written = {key: values.text(value, values.MAX_TAG) for key, value in tags.items()}
        self._send(
            f"open the run {name}", "open", parent=self._parent_key, name=name, tags=written, start_ms=self._began_ms
        )

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
        if reason:
            note = f"**{status}**: `{reason}`\n\n{self._note}"
            self.tags({"nextword.error": reason, "mlflow.note.content": note})
        self._send("close the run", "end", status=status, end_ms=now_ms())

    def _metrics(self, points: list[tuple[str, float, int, int]]) -> None:
        if points:  # JSON has no NaN
            written = [(name, v if math.isfinite(v) else str(v), when_ms, step) for name, v, when_ms, step in points]
            self._send("log metrics", "metrics", points=written)

    def _send(self, what: str, do: str, **rest: Any) -> Any:
        return self._link.send(what, {"do": do, "run": self.key, **rest})


def verdict(error: BaseException) -> tuple[Status, str]:
    """Status and reason of a run that ended with ``error``."""
    if isinstance(error, Terminated):
        return "KILLED", "SIGTERM"
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", "KeyboardInterrupt"
    if isinstance(error, SystemExit):
        return ("FAILED", f"exit: {error.code}") if error.code else ("FINISHED", "")
    return "FAILED", f"{type(error).__name__}: {error}"


def new_key() -> str:
    """A key that nothing else has."""
    return uuid.uuid4().hex


def now_ms() -> int:
    """MLflow's time."""
    return int(time.time() * 1000)
