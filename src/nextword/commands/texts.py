"""``nextword score`` and ``nextword generate``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextword.commands.opening import add_model, opened
from nextword.serving import Sampling

STDIN = "-"


def add_commands(commands: Any) -> None:
    """Add both to the parser."""
    command = commands.add_parser(
        "score",
        help="log-probability and perplexity of each line of a text",
        description="Log-probability (nats, the end of the line included), perplexity and number of tokens of each "
        "line, each from a fresh state, as tab-separated values. Totals and lines a second go to standard error.",
    )
    add_model(command)
    command.add_argument("file", nargs="?", default=STDIN, metavar="FILE", help="UTF-8 text (standard input)")
    command.set_defaults(run=score)

    default = Sampling()
    command = commands.add_parser(
        "generate",
        help="continue a text",
        description="Continue a text: it is printed as the model read it, with what it drew.",
    )
    add_model(command)
    command.add_argument("prompt", nargs="?", default="", metavar="PROMPT", help="text to continue (none)")
    command.add_argument("--tokens", type=int, default=default.max_tokens, help="tokens to draw (%(default)s)")
    command.add_argument("--count", type=int, default=1, help="continuations to draw (%(default)s)")
    command.add_argument(
        "--temperature", type=float, default=default.temperature, help="0 takes the most probable (%(default)s)"
    )
    command.add_argument("--top-k", type=int, default=default.top_k, help="draw from the k most probable; 0 is all")
    command.add_argument(
        "--top-p", type=float, default=default.top_p, help="draw from the fewest that hold this share (%(default)s)"
    )
    command.add_argument("--seed", type=int, default=default.seed, help="one seed, one result (%(default)s)")
    command.set_defaults(run=generate)


def score(given: argparse.Namespace) -> None:
    """Print a row a line.

    Raises:
        ValueError: the model or the file is not to be had, or the text is not UTF-8.
    """
    from nextword.serving.reading import in_batches
    from nextword.serving.text_model import Score

    with opened(given.model, given) as model:
        num_lines, total, seconds = 0, Score(0.0, 0), 0.0
        print("log_prob_nats\tperplexity\ttokens\tline")
        for lines in in_batches(_lines(given.file)):
            started = time.perf_counter()
            scores = model.score(lines)
            seconds += time.perf_counter() - started
            for line, one in zip(lines, scores, strict=True):
                print(f"{one.log_prob_nats:.6f}\t{one.perplexity:.4f}\t{one.num_tokens}\t{line}")
                total = Score(total.log_prob_nats + one.log_prob_nats, total.num_tokens + one.num_tokens)
            num_lines += len(lines)
    if num_lines:
        print(
            f"{num_lines:,} lines, {total.num_tokens:,} tokens, perplexity {total.perplexity:,.4f}; scored in "
            f"{seconds:.2f} s: {num_lines / seconds:,.0f} lines/s, {total.num_tokens / seconds:,.0f} tokens/s",
            file=sys.stderr,
        )


def generate(given: argparse.Namespace) -> None:
    """Print continuations.

    Raises:
        ValueError: the model is not to be had or cannot continue a text, or a number is out of range.
    """
    if given.count < 1:
        raise ValueError(f"count is {given.count}; give at least 1")
    sampling = Sampling(given.tokens, given.temperature, given.top_k, given.top_p, given.seed)
    with opened(given.model, given) as model:
        prompt = model.prompt_ids(given.prompt)
        for number, drawn in enumerate(model.draw([prompt] * given.count, sampling), start=1):
            if given.count > 1:
                print(f"--- {number}")
            print(model.vocabulary.decode_open([*prompt, *drawn]))


def _lines(file: str) -> Iterator[str]:
    """Lines without the white space around them, blank ones too, so that rows and lines match."""
    from nextword.text.dropped import Dropped
    from nextword.text.reading import decode_lines, read_lines

    if file == STDIN:
        return decode_lines(sys.stdin.buffer, "standard input", Dropped())
    if not Path(file).is_file():
        raise ValueError(f"{file} is no file; give a UTF-8 text file, or - for standard input")
    return read_lines(Path(file), Dropped())
