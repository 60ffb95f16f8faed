"""Where everything lies, relative to the project folder. dvc.yaml names the same places."""

from pathlib import Path

CORPUS = Path("data/corpus")
IDS = Path("data/ids")
PLAN = Path("data/plan")
MODELS = Path("models")
REPORTS = Path("reports")
NATS = REPORTS / "nats"
RUNS = REPORTS / "runs"
WORK = Path("work")
