"""What a person sees of runs at work: a bar on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from tqdm import tqdm

from nextword.training.worker import Job

CURVES = (
    "step", "seconds", "tokens", "train_perplexity", "valid_perplexity", "tokens_per_second", "learning_rate",
    "grad_norm", "clipped_share",
)  # fmt: skip
"""What is drawn of a run against its steps."""
OUTCOMES = ("epochs", "best_epoch", "seconds_to_best", "tokens_to_best", "peak_memory_bytes")
"""What is one number a run."""
CONDITIONS = ("status", "engine", "precision", "device", "num_devices", "threads")
"""What a run's figures were got under."""


def curves(row: dict[str, Any]) -> dict[str, Any]:
    """The part of a row of progress that is drawn."""
    return {key: row[key] for key in CURVES if key in row}


class Progress:
    """One bar for all runs of a model, in tokens.

    Args:
        num_runs: runs in all; the total is this many times the tokens of one.
    """

    def __init__(self, num_runs: int) -> None:
        self.num_runs = num_runs
        self.latest: dict[str, dict[str, Any]] = {}
        self.bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=None, unit="tok", unit_scale=True, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def row(self, job: Job, row: dict[str, Any]) -> None:
        """Show a row of progress."""
        self.latest[job.label] = row
        if self.bar is not None:
            self.bar.total = self.num_runs * row["total_tokens"]
            self.bar.n = sum(latest["tokens"] for latest in self.latest.values())
            self.bar.set_description(job.label, refresh=False)
            self.bar.set_postfix_str(f"train ppl {_number(row['train_perplexity'])}{_valid(row)}", refresh=True)
        elif "valid_perplexity" in row:
            print(
                f"{job.label}: epoch {row['epoch']}, train perplexity {_number(row['train_perplexity'])}{_valid(row)}, "
                f"{row['tokens_per_second']:,.0f} tokens/s, {row['seconds']:.0f} s",
                flush=True,
            )


def _number(value: float | None) -> str:
    return "inf" if value is None else f"{value:.2f}"


def _valid(row: dict[str, Any]) -> str:
    return f", valid {_number(row['valid_perplexity'])}" if "valid_perplexity" in row else ""
