"""MODEL on the command line: a folder, or a ``models:/`` URI."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nextword.paths import IDS
from nextword.serving import TextModel, load_text_model

HELP = (
    "folder of a trained model (models/lstm/seed-0, models/ngram) or models:/NAME/VERSION, models:/NAME@ALIAS of MLflow"
)


def add_model(command: argparse.ArgumentParser, *names: str) -> None:
    """Add arguments for models, and where they find their tokenizer and compute."""
    for name in names or ("model",):
        command.add_argument(name, metavar=name.upper(), help=HELP)
    command.add_argument(
        "--ids", type=Path, help=f"folder that `dvc repro encode` wrote ({IDS}; a model of MLflow brings its own)"
    )
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where neural models compute (%(default)s)"
    )


@contextmanager
def opened(model: str, given: argparse.Namespace) -> Iterator[TextModel]:
    """The model that was named.

    Raises:
        ValueError: it is not to be had, or was trained with another tokenizer.
    """
    from nextword.tracking.fetching import SCHEME, fetch_model

    if not model.startswith(SCHEME):
        yield load_text_model(Path(model), given.ids or IDS, given.device)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder, own = fetch_model(model, Path(scratch))
        yield load_text_model(folder, given.ids or own, given.device)
