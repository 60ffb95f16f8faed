"""The journal of what the store has not got: durable, in order, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from nextword.tracking import journal as module
from nextword.tracking.journal import Journal, journals, known_runs, merge
from nextword.tracking.store import Store

HEADER = {"store": "mlruns", "experiment": "nextword", "ids": {"a": "123"}}


def entry(do: str, run: str = "a", **rest):
    return {"do": do, "run": run, **rest}


def metrics(run: str, *steps: int):
    return entry("metrics", run, points=[["loss", 1.0, 0, step] for step in steps])


@pytest.fixture
def journal(tmp_path):
    made = Journal.new(tmp_path / "waiting")
    assert made.is_empty
    yield made
    made.release()


def test_entries_come_back_in_order(journal):
    for number in range(20):
        journal.append(HEADER, entry("tags", tags={"number": f"{number} ä\n"}))
    header, entries = journal.read()
    assert header == HEADER
    assert [item["tags"]["number"] for item in entries] == [f"{number} ä\n" for number in range(20)]
    assert all(item["kept"] for item in entries)
    assert known_runs(journal.path.parent) == {"123"}
    journal.replace(HEADER, entries[15:])
    assert journal.read()[1] == entries[15:]
    journal.remove()
    journal.release()
    assert list(journal.path.parent.iterdir()) == []


@pytest.mark.parametrize("lost", [1, 30])
def test_a_line_that_a_power_cut_left_half_written(journal, lost):
    journal.append(HEADER, entry("params", params={"a": "1"}))
    journal.append(HEADER, entry("params", params={"b": "2"}))
    os.truncate(journal.path, journal.path.stat().st_size - lost)
    kept = [{"a": "1"}, {"b": "2"}] if lost == 1 else [{"a": "1"}]  # a line that lacks its newline alone is whole
    assert [item["params"] for item in journal.read()[1]] == kept
    os.truncate(journal.path, 5)
    assert journal.read() == ({}, [])


def test_a_full_disk_leaves_no_half_line(journal, monkeypatch):
    journal.append(HEADER, entry("end"))
    size = journal.path.stat().st_size

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            journal.append(HEADER, entry("end"))
        with pytest.raises(OSError, match="No space"):
            journal.append(HEADER, entry("artifact", files={"path": __file__}))
    assert journal.path.stat().st_size == size
    assert list(journal.files.iterdir()) == []
    journal.append(HEADER, entry("end"))
    assert len(journal.read()[1]) == 2


def test_files_are_copied(journal, tmp_path):
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "a.txt").write_text("a")
    (model / "b.txt").write_text("b")
    journal.append(HEADER, entry("artifact", files={"path": str(model)}))
    journal.append(HEADER, entry("model", files={"model": str(model)}, only={"model": ["b.txt"]}))
    journal.append(HEADER, entry("artifact", files={"path": str(model / "b.txt")}))
    with pytest.raises(FileNotFoundError):
        journal.append(HEADER, entry("artifact", files={"path": str(model / "c.txt")}))
    (model / "b.txt").unlink()
    moved = journal.path.parent.rename(tmp_path / "moved")
    again = Journal(moved / journal.path.name)
    copies = [again.locate(item)["files"] for item in again.read()[1]]
    found = {str(path.relative_to(moved / again.files.name)) for path in moved.rglob("*.txt")}
    assert found == {
        "000000/path/model/deep/a.txt", "000000/path/model/b.txt", "000001/model/model/b.txt", "000002/path/b.txt"
    }  # fmt: skip
    assert Path(copies[2]["path"]).read_text() == "b"
    assert copies[0]["path"] == str(moved / again.files.name / "000000/path/model")


def test_a_journal_has_one_owner(journal):
    journal.append(HEADER, entry("end"))
    [other] = journals(journal.path.parent)
    assert not other.take()
    journal.release()
    assert other.take()
    other.release()


def test_merged_metrics_stay_in_order():
    entries = [
        entry("open", "a"), metrics("a", 0), entry("open", "b"), metrics("b", 0), metrics("a", 1), metrics("b", 1),
        entry("end", "a"), metrics("a", 2), entry("end", "b"),
    ]  # fmt: skip
    assert merge(entries) == [
        entry("open", "a"), metrics("a", 0, 1), entry("open", "b"), metrics("b", 0, 1), entry("end", "a"),
        metrics("a", 2), entry("end", "b"),
    ]  # fmt: skip


def test_what_is_refused_is_noted(journal):
    journal.append(HEADER, entry("end"))
    journal.refuse(entry("end"), ValueError("no such run"))
    [line] = (journal.path.parent / "refused.log").read_text().splitlines()
    assert json.loads(line) == {"error": "ValueError: no such run", "do": "end", "run": "a"}
    assert len(journals(journal.path.parent)) == 1


def test_a_store_is_named_without_its_password():
    assert Store("https://me:secret@tracking.example:5000/x").name == "https://tracking.example:5000/x"
    assert Store("postgresql://me:secret@db/mlflow").name == "postgresql://db/mlflow"
    assert Store("sqlite:///elsewhere.db").name == "sqlite:///elsewhere.db"
