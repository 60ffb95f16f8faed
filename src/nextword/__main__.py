"""The command line: ``nextword COMMAND``, or ``python -m nextword COMMAND``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import NoReturn

from nextword.commands import measures, probe, texts, words
from nextword.stage import run_stage


def main(*arguments: str) -> None:
    """Run a command.

    Raises:
        ValueError: a folder or file is missing, or does not fit.
    """
    parser = argparse.ArgumentParser(prog="nextword", description="A laboratory for language models.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for family in (texts, measures, words, probe):
        family.add_commands(commands)
    given = parser.parse_args(arguments)
    given.run(given)


def run() -> NoReturn:
    """The console script."""
    run_stage(_until_closed)


def _until_closed(*arguments: str) -> None:
    """As :func:`main`; where nobody reads on (``nextword score ... | head``) it tidies up and ends without a word."""
    try:
        main(*arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        sys.exit(128 + signal.SIGPIPE)


if __name__ == "__main__":
    run()
