"""What the store has not got yet: JSON lines under ``work/tracking``, in the order in which they were logged.

A process has one file. Its first line is a header (``store``, ``experiment``, and ``ids``: MLflow's run id by our
key), each other line is an entry (see :mod:`nextword.tracking.sender`). Files that an entry needs are copied into the
folder of the same name: the next stage may delete the originals. The process that writes or sends a journal holds its
lock, which the system lets go when the process dies.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

Entry = dict[str, Any]


class Journal:
    """Entries of one process.

    Invariants: what :meth:`append` returned from survives a power cut (fsync); a line that could not be written whole
    is taken back, and one that a power cut left half-written is passed over; :meth:`replace` is all or nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = path.with_suffix("")
        self._lock = FileLock(path.with_suffix(".lock"), timeout=0, thread_local=False)

    @classmethod
    def new(cls, folder: Path) -> Journal:
        """A journal for this process; nothing is made before the first entry."""
        return cls(folder / f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}.jsonl")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send."""
        return not self.path.exists() or self.path.stat().st_size == 0

    def take(self) -> bool:
        """Take the lock; False where another process has it."""
        try:
            self._lock.acquire()
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Let the lock go."""
        if self._lock.is_locked:
            if self.is_empty:
                Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()

    def append(self, header: Entry, entry: Entry) -> None:
        """Keep an entry; the first one comes after ``header``.

        Raises:
            OSError: the disk is full or read-only, or a file that the entry needs cannot be read. Nothing is kept.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._lock.is_locked:
            self._lock.acquire()
        entry = {**entry, "kept": True}
        if "files" in entry:
            entry["files"] = self._copy_files(entry["files"], entry.get("only", {}))
        _write(self.path, [entry] if not self.is_empty else [header, entry])

    def read(self) -> tuple[Entry, list[Entry]]:
        """Header and entries; both are empty where not even the header was written whole."""
        rows: list[Entry] = []
        for line in self.path.read_bytes().splitlines() if self.path.exists() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return (rows[0], rows[1:]) if rows else ({}, [])

    def locate(self, entry: Entry) -> Entry:
        """The entry with the paths of its files as they are now."""
        if "files" not in entry:
            return entry
        return {**entry, "files": {name: str(self.path.parent / path) for name, path in entry["files"].items()}}

    def replace(self, header: Entry, entries: Iterable[Entry]) -> None:
        """Write the journal anew."""
        part = self.path.with_suffix(".part")
        part.unlink(missing_ok=True)
        _write(part, [header, *entries])
        os.replace(part, self.path)
        _sync(self.path.parent)

    def refuse(self, entry: Entry, error: Exception) -> None:
        """Note, for people, what the store will never take."""
        _write(self.path.with_name("refused.log"), [{"error": f"{type(error).__name__}: {error}", **entry}])

    def remove(self) -> None:
        """All is sent."""
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.files, ignore_errors=True)

    def _copy_files(self, files: dict[str, str], only: dict[str, list[str]]) -> dict[str, str]:
        place = self.files / f"{len(list(self.files.glob('*'))):06d}"
        try:
            return {
                name: _copy(Path(source), place / name / Path(source).name, only.get(name))
                .relative_to(self.path.parent)
                .as_posix()
                for name, source in files.items()
            }
        except OSError:
            shutil.rmtree(place, ignore_errors=True)
            raise


def journals(folder: Path) -> list[Journal]:
    """All journals, the oldest first; also one of which a kill left the files alone."""
    files = (lock.with_suffix(".jsonl") for lock in folder.glob("*.lock") if lock.with_suffix("").is_dir())
    return [Journal(path) for path in sorted({*folder.glob("*.jsonl"), *files})]


def known_runs(folder: Path) -> set[str]:
    """Ids of the runs about which a journal may still have something to say, their end for one."""
    return {run_id for journal in journals(folder) for run_id in journal.read()[0].get("ids", {}).values()}


def merge(entries: Iterable[Entry]) -> list[Entry]:
    """The same with fewer calls: metrics of a run join those before them, unless the run had other entries between."""
    merged: list[Entry] = []
    latest: dict[str, Entry] = {}
    for entry in entries:
        before = latest.get(entry["run"])
        if before is not None and before["do"] == entry["do"] == "metrics":
            before["points"] += entry["points"]
        else:
            latest[entry["run"]] = entry = dict(entry)
            merged.append(entry)
    return merged


def _write(path: Path, rows: Sequence[Entry]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    is_new = not path.exists()
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    if is_new:
        _sync(path.parent)


def _copy(source: Path, target: Path, only: Sequence[str] | None) -> Path:
    """Copy a file, a folder, or ``only`` those files of a folder, down to the disk."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        names = only or [str(path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file()]
        pairs = [(source / name, target / name) for name in names]
    else:
        pairs = [(source, target)]
    for original, copy in pairs:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with original.open("rb") as reader, copy.open("wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
    return target


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
