"""The stages of dvc.yaml, one thin script each: ``python -m pipeline.NAME``."""

import sys

try:
    import nextword  # noqa: F401
except ModuleNotFoundError:
    raise SystemExit(
        f"error: {sys.executable} does not have nextword. Activate the project's environment first "
        "(`. .venv/bin/activate`; `make env` builds it), then run `dvc repro` again."
    ) from None
