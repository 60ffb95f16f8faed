"""``nextword neighbours`` and ``nextword analogy``."""

from __future__ import annotations

import argparse
from typing import Any

from nextword.commands.opening import add_model, opened


def add_commands(commands: Any) -> None:
    """Add both to the parser."""
    command = commands.add_parser(
        "neighbours",
        help="words with the nearest embeddings",
        description="Words whose input embeddings have the largest cosine to a word's.",
    )
    add_model(command)
    command.add_argument("words", nargs="+", metavar="WORD")
    command.add_argument("--count", type=int, default=10, help="neighbours of each (%(default)s)")
    command.set_defaults(run=_neighbours)

    command = commands.add_parser(
        "analogy",
        help="A is to B as C is to ?",
        description="A is to B as C is to ?, by 3CosAdd and 3CosMul over the input embeddings.",
    )
    add_model(command)
    for name in "abc":
        command.add_argument(name, metavar=name.upper())
    command.set_defaults(run=_analogy)


def _neighbours(given: argparse.Namespace) -> None:
    from nextword.serving.words import neighbours

    with opened(given.model, given) as model:
        for word, near in neighbours(model, given.words, given.count).items():
            found = (f"{one['word']} {one['cosine']:.2f}" for one in near)
            print(f"{word}: {', '.join(found)}")


def _analogy(given: argparse.Namespace) -> None:
    from nextword.serving.words import analogy

    with opened(given.model, given) as model:
        for rule, word in analogy(model, given.a, given.b, given.c).items():
            print(f"{given.a} : {given.b} = {given.c} : {word}  ({rule})")
