"""What a search found, for tracking and for people. All take reports/tune/NAME.json of a model that was searched."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nextword.perplexity import perplexity


def rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each training: trial, settings, tokens and valid perplexity (None where it diverged)."""
    return [
        {
            "trial": trial["number"],
            "learning_rate": trial["learning_rate"],
            "dropout": trial["dropout"],
            "tokens": rung["tokens"],
            "valid_perplexity": None if rung["valid_nats"] is None else perplexity(rung["valid_nats"], 1),
        }
        for trial in report["trials"]
        for rung in trial["rungs"]
    ]


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics: the best of the last rung, and what the search took."""
    best = _best(report)
    found = {} if best is None else {"best_valid_nats": best, "best_valid_perplexity": perplexity(best, 1)}
    diverged = sum(row["valid_perplexity"] is None for row in rows(report))
    return {**found, **report["settings"], "diverged_trainings": diverged, "training_seconds": report["seconds"]}


def describe(report: Mapping[str, Any]) -> str:
    """One line for the terminal."""
    best = _best(report)
    if best is None:
        return f"every setting of {report['model']} diverged: it keeps its own"
    settings = ", ".join(f"{key} {value:.3g}" for key, value in report["settings"].items())
    reached = f"valid perplexity {perplexity(best, 1) or math.inf:.1f}"
    return f"{settings}: {reached} after {report['budget']['tokens_by_rung'][-1]:,} tokens ({report['model']})"


def _best(report: Mapping[str, Any]) -> float | None:
    """Lowest nats of valid at the last rung; None where every training of it diverged."""
    last = report["budget"]["tokens_by_rung"][-1]
    nats = [rung["valid_nats"] for trial in report["trials"] for rung in trial["rungs"] if rung["tokens"] == last]
    return min((value for value in nats if value is not None and math.isfinite(value)), default=None)
