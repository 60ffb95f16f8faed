"""What the sender asks of MLflow, and in which order."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

from nextword.tracking.sender import Sender


def test_a_repro_run_has_its_new_owner_before_it_is_running_again():
    """Else a sweep in between would take it for a dead process's."""
    calls = []
    found = SimpleNamespace(
        info=SimpleNamespace(run_id="1"), data=SimpleNamespace(tags={"nextword.repro_started": "5.0"})
    )
    sender = object.__new__(Sender)
    sender.store, sender.ids, sender.experiment_id = SimpleNamespace(lock=nullcontext), {}, "0"
    sender.client = SimpleNamespace(
        search_runs=lambda *_, **__: [found],
        set_tag=lambda run, key, value: calls.append((run, key, value)),
        update_run=lambda run, status: calls.append((run, status)),
    )
    dvc = {"host": "here", "pid": 7, "started": 5.0, "experiment": ""}
    owner = {"nextword.owner_pid": "8", "nextword.owner_started": "6.0"}
    sender._open_repro({"run": "a", "dvc": dvc, "owner": owner})
    assert calls == [("1", "nextword.owner_pid", "8"), ("1", "nextword.owner_started", "6.0"), ("1", "RUNNING")]
    assert sender.ids == {"a": "1"}
