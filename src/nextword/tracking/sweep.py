"""Close the runs of stages that died without a word (kill -9, out of memory): nobody else will."""

from __future__ import annotations

import socket
from collections.abc import Collection
from typing import TYPE_CHECKING

from nextword.tracking.process import is_gone

if TYPE_CHECKING:
    from mlflow import MlflowClient


def close_orphans(client: MlflowClient, experiment_id: str, keep: Collection[str] = ()) -> list[str]:
    """End as FAILED each RUNNING run of this host whose process is gone.

    Args:
        client: of the store.
        experiment_id: whose runs.
        keep: ids of runs to leave alone: how they ended is known, but not yet sent.

    Returns:
        Ids of the runs that were closed.
    """
    where = f"attributes.status = 'RUNNING' and tags.`nextword.owner_host` = '{socket.gethostname()}'"
    closed = []
    for run in client.search_runs([experiment_id], where, max_results=1000):
        tags = run.data.tags
        pid, started = tags.get("nextword.owner_pid", ""), tags.get("nextword.owner_started", "")
        if run.info.run_id in keep or not pid.isdecimal() or not started or not is_gone(int(pid), float(started)):
            continue
        reason = f"process {pid} ended without closing its run (killed, or out of memory)"
        client.set_tag(run.info.run_id, "nextword.error", reason)
        client.set_tag(run.info.run_id, "mlflow.note.content", f"**FAILED**: {reason}")
        client.set_terminated(run.info.run_id, "FAILED")
        closed.append(str(run.info.run_id))
    return closed
