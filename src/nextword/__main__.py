"""The command line: ``nextword COMMAND``, or ``python -m nextword COMMAND``."""

from __future__ import annotations

import argparse
import signal
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `nextword score ... | head` ends without a complaint
    run_stage(main)


if __name__ == "__main__":
    run()
