"""Open MLflow's pages on the project's store: ``python -m nextword.tracking.ui``.

Makes the store if there is none, closes runs whose process died, prints the link and becomes ``mlflow ui``.
``--port`` or the environment variable ``PORT`` changes the port (5000).
"""

from __future__ import annotations

import argparse
import os
import sys

from nextword.config import TrackingParams, load_params
from nextword.tracking.link import Link
from nextword.tracking.stage import ensure_experiment
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
    link = Link()
    store = ensure_store()
    if store.folder is None:
        sys.exit(f"MLFLOW_TRACKING_URI is set: open {store.uri} in a browser, or unset it to see this project's store")
    experiment_id = link.call("find the experiment", lambda client: ensure_experiment(client, store, experiment))
    if experiment_id is not None:
        for run_id in link.call("close orphans", lambda client: close_orphans(client, experiment_id)) or []:
            print(f"run {run_id} was closed as FAILED: its process is gone")
        print(f"\n  {page(experiment_id, int(port))}\n", flush=True)
    words = command(store, int(port))
    os.execv(words[0], words)


if __name__ == "__main__":
    main()
