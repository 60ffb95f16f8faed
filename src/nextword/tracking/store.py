"""The store: SQLite in ``mlruns/mlflow.db`` with artifacts beside it, or the server in ``MLFLOW_TRACKING_URI``.

Invariants of the local store, whatever happens and however many processes start at once:
the database appears complete or not at all (made beside its place, then renamed, under a file lock), and the
artifact paths in it point into the folder in which it lies now (MLflow stores them absolute).
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 120.0
BUSY_SECONDS = 15  # how long SQLite waits for another process's transaction

# Every column in which MLflow 3 stores an absolute artifact path.
PATH_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Store:
    """Where runs go."""

    uri: str
    """MLflow tracking URI."""
    folder: Path | None = None
    """``mlruns`` of the project for the local store, None for a server."""

    @property
    def name(self) -> str:
        """What tells it from other stores, wherever the project folder is moved; without the password of a server."""
        return "mlruns" if self.folder else re.sub(r"//[^/@]*@", "//", self.uri)

    @property
    def database(self) -> Path | None:
        """The SQLite file of the local store."""
        return self.folder / "mlflow.db" if self.folder else None

    @property
    def artifacts_uri(self) -> str | None:
        """``file://`` URI of the local artifact folder."""
        return (self.folder / "artifacts").as_uri() if self.folder else None

    def lock(self) -> Any:
        """Context manager: one process at a time on the local store."""
        return FileLock(self.folder / ".lock", timeout=LOCK_SECONDS) if self.folder else nullcontext()

    def client(self) -> MlflowClient:
        """A client of this store (imports MLflow: 1.5 s; opens the database: 0.7 s)."""
        with quiet():
            from mlflow import MlflowClient

            uri = f"{self.uri}?timeout={BUSY_SECONDS}" if self.folder else self.uri
            return MlflowClient(tracking_uri=uri, registry_uri=uri)


def project_root() -> Path:
    """The project folder: the current one, or the one whose temporary copy ``dvc exp run --temp`` runs in."""
    here = Path.cwd().resolve()
    for folder in here.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return here


def find_store(root: Path | None = None) -> Store:
    """The store of a project folder, without touching the disk."""
    folder = (root or project_root()).resolve() / "mlruns"
    local = Store(f"sqlite:///{(folder / 'mlflow.db').as_posix()}", folder)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    given_as_path = Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None
    return Store(uri) if uri and given_as_path != local.database else local


def ensure_store(root: Path | None = None) -> Store:
    """Find the store; create it if there is none, relocate it if the project folder was moved.

    Args:
        root: the project folder; None takes the current one.

    Returns:
        The store. Nothing is created for a server given by ``MLFLOW_TRACKING_URI``.
    """
    store = find_store(root)
    if store.folder is None or store.database is None:
        return store
    store.folder.mkdir(parents=True, exist_ok=True)
    with store.lock():
        if not store.database.exists():
            _create(store)
        relocate(store)
    return store


def relocate(store: Store) -> bool:
    """Point the stored artifact paths at the folder in which the database lies now.

    The default experiment, made with the database, remembers the artifact folder as it was.

    Returns:
        Whether anything had to be changed.
    """
    assert store.database is not None and store.artifacts_uri is not None
    with closing(sqlite3.connect(store.database, timeout=BUSY_SECONDS)) as database, database:
        row = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id = 0").fetchone()
        old, new = (row[0].removesuffix("/0") if row else store.artifacts_uri), store.artifacts_uri
        if old == new:
            return False
        for table, column in PATH_COLUMNS:
            database.execute(
                f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "
                f"WHERE substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                (new, old),
            )
    return True


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


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow's own warnings and progress notes out of the stage's output (and out of ``-W error``)."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _create(store: Store) -> None:
    """Make the database beside its place and rename it, so that a killed process leaves no half of one."""
    assert store.folder is not None and store.database is not None and store.artifacts_uri is not None
    (store.folder / "artifacts").mkdir(exist_ok=True)
    draft = store.folder / ".mlflow.db.draft"
    for stale in (draft, Path(f"{draft}-journal")):
        stale.unlink(missing_ok=True)
    with quiet():
        import mlflow  # noqa: F401  (loads the logging set-up that quiet() has to overrule)

    with quiet():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        made: Any = SqlAlchemyStore(f"sqlite:///{draft.as_posix()}", store.artifacts_uri)  # type: ignore[no-untyped-call]
        made._dispose_engine()
    os.replace(draft, store.database)
