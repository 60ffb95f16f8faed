"""Everything that touches MLflow: the store, the runs of the stages, the user interface.

Importing this package is cheap; MLflow itself is imported when a store is first opened. Whatever goes wrong between
here and the tracking server is one warning in the log, never an exception in the stage; what the store has missed waits
in ``work/tracking`` and is sent later, in order and once.
"""

import os

# Read by MLflow when it is imported, so they are set before anything here can import it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_DISABLE_AGENT_HINT", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# A dead server costs seconds: one try of ten seconds instead of eight of two minutes. What fails is kept and sent
# later; a blind second try of a request whose answer was lost would create its run twice.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from nextword.tracking.run import Run
from nextword.tracking.stage import git_commit, stage_run
from nextword.tracking.store import Store, ensure_store
from nextword.tracking.sweep import close_orphans

__all__ = ["Run", "Store", "close_orphans", "ensure_store", "git_commit", "stage_run"]
