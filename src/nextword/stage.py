"""The frame of every stage script: a user's error is one clear message and a non-zero exit."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""


def run_stage(main: Callable[..., None]) -> NoReturn:
    """Call ``main`` with the command line's arguments and exit.

    ValueError (bad input), RuntimeError and OSError (what the machine could not do) end as a message; anything else
    is our own error and keeps its traceback.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        main(*sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    _end()


def _end() -> NoReturn:
    """End well, and at once: taking torch and MLflow apart costs a second, and there are a hundred stages.

    What was registered for the end is done first.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def progress_bar(task: str) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere; yields ``progress(done, of)``."""
    with tqdm(desc=task, disable=None, dynamic_ncols=True) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield progress
