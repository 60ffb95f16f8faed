"""``nextword perplexity`` and ``nextword compare``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nextword.commands.opening import add_model, opened
from nextword.files import write_json
from nextword.serving.measuring import compare, describe_comparison, describe_measure, measure
from nextword.serving.reading import SEPARATORS, read_split


def add_commands(commands: Any) -> None:
    """Add both to the parser."""
    command = commands.add_parser(
        "perplexity",
        help="perplexity of a text under both protocols, OOV and bits a byte",
        description="Perplexity of a text by the scoring rule: state carried through each document (stateful), and "
        "begun anew at each line (reset); without OOV; bits a byte.",
    )
    add_model(command)
    _add_text(command)
    command.set_defaults(run=_perplexity)

    command = commands.add_parser(
        "compare",
        help="difference of two models on a text, with an interval",
        description="Perplexity of A over that of B on the same text, with an interval over documents or blocks of "
        "lines. It is about these two trained models, not about other seeds of theirs.",
    )
    add_model(command, "a", "b")
    _add_text(command)
    command.add_argument(
        "--block-tokens",
        type=int,
        metavar="N",
        help="resample blocks of lines with about N tokens, at most 2,000 blocks (whole documents; 20 blocks with "
        "fewer than 5 documents)",
    )
    command.add_argument("--confidence", type=float, default=0.95, help="of the interval (%(default)s)")
    command.set_defaults(run=_compare)


def _add_text(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path, metavar="FILE", help="UTF-8 text")
    command.add_argument(
        "--documents",
        choices=SEPARATORS,
        help="what separates documents (NAME.documents.tsv where it lies beside FILE, else blank_line)",
    )
    command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers there")


def _perplexity(given: argparse.Namespace) -> None:
    with opened(given.model, given) as model:
        report = measure(model, read_split(given.file, model.vocabulary, given.documents))
    _finish(given, report, describe_measure(report))


def _compare(given: argparse.Namespace) -> None:
    if given.block_tokens is not None and given.block_tokens < 1:
        raise ValueError(f"block-tokens is {given.block_tokens}; give at least 1")
    with opened(given.a, given) as a, opened(given.b, given) as b:
        split = read_split(given.file, a.vocabulary, given.documents)
        report = compare(a, b, split, given.block_tokens, given.confidence)
    _finish(given, report, describe_comparison(report))


def _finish(given: argparse.Namespace, report: dict[str, Any], text: str) -> None:
    print(text)
    if given.out is not None:
        write_json(given.out, report)
        print(f"numbers: {given.out}")
