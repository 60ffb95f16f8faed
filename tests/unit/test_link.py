"""The line to the store without MLflow: what happens when a call fails."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from nextword.tracking import link
from nextword.tracking.journal import Journal, journals
from nextword.tracking.link import Link
from nextword.tracking.run import Run
from nextword.tracking.sender import may_wait


class Store:
    """Takes entries as a :class:`Sender` does, or fails."""

    def __init__(self):
        self.taken, self.ids, self.error, self.seconds, self.clock = [], {}, None, 0.0, 0.0
        self.failing = None
        """The action that fails; None: each."""

    def carry_out(self, entry):
        self.clock += self.seconds
        if self.error and self.failing in (None, entry["do"]):
            raise self.error
        self.taken.append(entry)
        return entry["do"]


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr(link, "time", SimpleNamespace(monotonic=lambda: made.clock))
    return made


@pytest.fixture
def connected(store, tmp_path, monkeypatch):
    made = Link("nextword", tmp_path)
    monkeypatch.setattr(made, "_open", lambda what: store)
    return made


def points(*steps):
    return {"do": "metrics", "run": "a", "points": [["loss", 1.0, 0, step] for step in steps]}


def test_what_fails_is_one_warning_and_is_sent_before_what_comes_later(connected, store, caplog):
    caplog.set_level(logging.WARNING, "nextword.tracking")
    store.error = OSError("disk\nfull")
    for step in range(3):
        assert connected.send("log metrics", points(step)) is None
    assert len(caplog.records) == 1
    assert "could not log metrics" in caplog.text
    assert "OSError: disk full" in caplog.text
    assert store.taken == []
    store.error = None
    store.clock += link.PAUSE_SECONDS
    assert connected.send("close the run", {"do": "end", "run": "a"}) == "end"
    assert store.taken == [{**points(0, 1, 2), "kept": True}, {"do": "end", "run": "a"}], "in order and in two calls"
    connected.close()
    assert list(connected.folder.iterdir()) == []


def test_what_can_never_succeed_is_not_kept(connected, store, caplog):
    store.error = ValueError("no such thing")
    assert connected.send("log metrics", points(0)) is None
    assert "the stage goes on without" in caplog.text
    assert not connected.folder.exists()


@pytest.mark.parametrize("error", [TimeoutError("no answer"), None], ids=["no answer", "a late one"])
def test_a_slow_store_pauses_tracking(connected, store, error):
    store.error, store.seconds = error, 5.0
    connected.send("log metrics", points(0))
    store.error = None
    assert connected.send("log metrics", points(1)) is None
    assert connected.call("search", lambda sender: 1) == (1 if error is None else None)
    assert len(store.taken) == (error is None)
    store.clock += link.PAUSE_SECONDS
    store.seconds = 0.0
    assert connected.send("log metrics", points(2)) == "metrics"
    assert [point[3] for entry in store.taken for point in entry["points"]] == [0, 1, 2]


def test_a_signal_in_mid_call_keeps_the_entry(connected, store):
    store.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        connected.send("log metrics", points(0))
    store.error = None
    connected.close()
    assert store.taken == [{**points(0), "kept": True}]


def answer(status):
    """The error of a server that answers with this HTTP status."""
    return requests.HTTPError(str(status), response=SimpleNamespace(status_code=status))


def test_a_file_that_the_server_rejects_holds_nothing_up(connected, store, tmp_path, monkeypatch, caplog):
    (tmp_path / "plot.svg").write_text("<svg/>")
    store.ids = {"a": "1", "b": "2"}
    connected.ids.update(store.ids)
    store.error, store.failing, store.seconds = answer(413), "artifact", 5.0
    artifact = {"do": "artifact", "run": "a", "files": {"path": str(tmp_path / "plot.svg")}, "folder": ""}
    connected.send("log plot.svg", artifact)
    store.clock += link.PAUSE_SECONDS
    for entry in (points(0), {"do": "end", "run": "a"}):
        assert connected.send("go on", entry) == entry["do"]
    connected.close()
    assert [entry["do"] for entry in store.taken] == ["metrics", "end"]
    [journal] = journals(connected.folder)
    assert journal.read()[0]["ids"] == {"a": "1"}, "another run may be swept"
    (tmp_path / "plot.svg").unlink()

    monkeypatch.setattr(link, "Sender", lambda *_: store)
    monkeypatch.setattr(link, "ensure_store", lambda root: None)
    later = Link("nextword", tmp_path)
    assert later.resend() == (0, {"mlruns": 1})
    store.error = None
    assert later.resend() == (1, {})
    assert store.taken[-1]["do"] == "artifact"
    assert list(connected.folder.iterdir()) == []


def test_what_was_kept_behind_a_rejected_model_is_sent(connected, store, tmp_path):
    store.ids = {"a": "1"}
    store.error = ConnectionError("refused")
    (tmp_path / "model").mkdir()
    for entry in (
        points(0), {"do": "model", "run": "a", "files": {"model": str(tmp_path / "model")}}, points(1),
        {"do": "text", "run": "a"}, {"do": "end", "run": "a"},
    ):  # fmt: skip
        connected.send("log", entry)
    store.clock += link.PAUSE_SECONDS
    store.error, store.failing = answer(403), "model"
    connected.close()
    assert [entry["do"] for entry in store.taken] == ["metrics", "metrics", "text", "end"]
    assert [entry["do"] for journal in journals(connected.folder) for entry in journal.read()[1]] == ["model"]


@pytest.mark.parametrize(
    ("do", "error", "waits"),
    [
        ("model", answer(404), True),
        ("model", SimpleNamespace(get_http_status_code=lambda: 403), True),
        ("model", answer(429), False),
        ("text", answer(502), False),
        ("artifact", ConnectionError("refused"), False),
        ("end", answer(403), False),
    ],
)
def test_what_may_wait(do, error, waits):
    assert may_wait({"do": do}, error) is waits


def test_a_journal_that_cannot_be_written_is_a_warning(connected, store, caplog, tmp_path):
    (tmp_path / "work").write_text("in the way")
    store.error = ConnectionError("refused")
    assert connected.send("log metrics", points(0)) is None
    assert "so it is lost" in caplog.text
    connected.close()


@pytest.mark.parametrize("failing", ["take", "read"])
def test_a_journal_that_cannot_be_read_is_left(connected, store, monkeypatch, failing):
    store.error = ConnectionError("refused")
    connected.send("log metrics", points(0))
    connected._journal.release()

    def refuse(journal):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Journal, failing, refuse)
    assert connected.resend() == (0, {link.UNKNOWN: 1})


def test_files_that_a_kill_left_without_their_journal_are_removed(connected, store, tmp_path):
    (tmp_path / "plot.svg").write_text("<svg/>")
    store.error = ConnectionError("refused")
    connected.send("log", {"do": "artifact", "run": "a", "files": {"path": str(tmp_path / "plot.svg")}})
    [journal] = journals(connected.folder)
    journal.path.unlink()
    later = Link("nextword", tmp_path)
    assert later.resend() == (0, {}) and journal.files.exists(), "its process lives"
    connected._journal._lock.release()
    assert later.resend() == (0, {})
    assert list(connected.folder.iterdir()) == []


def test_a_run_without_tracking_takes_everything(connected, store, tmp_path):
    store.error = ConnectionError("refused")
    (tmp_path / "file.txt").write_text("text")
    run = Run(connected, "a")
    run.open("train", {})
    run.params({"a": 1})
    run.metrics({"b": float("nan")})
    run.table([{"a": float("nan")}], "table.json")
    run.artifact(tmp_path / "file.txt")
    run.artifact(tmp_path / "missing.txt")
    with run.child("seed 0", {"seed": 0}) as child:
        child.metric_rows([{"step": 0, "loss": 1.0}])
        assert child.run_id is None
    assert run.log_model("gru", Path("models"), Path("ids")) is None
    store.error = None
    connected.close()
    assert [entry["do"] for entry in store.taken] == [
        "open", "params", "metrics", "text", "tags", "artifact", "open", "params", "metrics", "end"
    ]  # fmt: skip
