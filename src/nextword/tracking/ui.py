"""Open MLflow's pages on the project's store: ``python -m nextword.tracking.ui``.

Makes the store if there is none, sends it what waits, closes runs whose process died, prints the link and becomes
``mlflow ui``.
``--port`` or the environment variable ``PORT`` changes the port (5000).
"""

from __future__ import annotations

import argparse
import os
import sys

from nextword.config import TrackingParams, load_params
from nextword.tracking.journal import known_runs
from nextword.tracking.link import Link
from nextword.tracking.store import Store, ensure_store
from nextword.tracking.sweep import close_orphans


def command(store: Store, port: int) -> list[str]:
    """The command line that serves ``store`` on this machine alone."""
    words = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1"]
    if store.artifacts_uri:
        words += ["--default-artifact-root", store.artifacts_uri]
    return [*words, "--port", str(port), "--workers", "1"]


def page(experiment_id: str, port: int) -> str:
    """Address of the table of runs, parents with their children under them."""
    return f"http://127.0.0.1:{port}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m nextword.tracking.ui", description="MLflow's pages on this project"
    )
    parser.add_argument("--port", default=os.environ.get("PORT", "5000"), help="default: $PORT, else 5000")
    port = parser.parse_args().port
    if not port.isdecimal() or not 0 < int(port) < 65536:
        parser.error(f"port is {port!r}; give a number from 1 to 65535, e.g. 5001")
    try:
        experiment = load_params().tracking.experiment
    except (ValueError, ImportError):
        experiment = TrackingParams().experiment
    store = ensure_store()
    if store.folder is None:
        sys.exit(f"MLFLOW_TRACKING_URI is set: open {store.uri} in a browser, or unset it to see this project's store")
    link = Link(experiment)
    link.resend()
    keep = known_runs(link.folder)
    closed = link.call("close orphans", lambda sender: close_orphans(sender.client, sender.experiment_id, keep))
    for run_id in closed or []:
        print(f"run {run_id} was closed as FAILED: its process is gone")
    if link.experiment_id is not None:
        print(f"\n  {page(link.experiment_id, int(port))}\n", flush=True)
    words = command(store, int(port))
    os.execv(words[0], words)


if __name__ == "__main__":
    main()
