"""The numbers of an experiment that stand for the rest, as nested names for tracking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Figures = dict[str, Any]


def _memory(report: dict[str, Any]) -> Figures:
    """Longest lag that every seed solved, by task and variant."""
    tasks = {name: task["variants"] for name, task in report["tasks"].items()}
    return {
        "longest_lag": {
            task: {name: variant["longest_lag"]["all_seeds"] for name, variant in variants.items()}
            for task, variants in tasks.items()
        }
    }


def _exploding(report: dict[str, Any]) -> Figures:
    """Share of diverged runs, by kind, clipping and scale."""
    return {
        "diverged_share": {
            f"{one['kind']}_{'clipped' if one['clipped'] else 'not_clipped'}_scale_{one['scale']:g}": one["diverged"][
                "rate"
            ]
            for one in report["settings"]
        }
    }


def _window(report: dict[str, Any]) -> Figures:
    """Perplexity of valid and parameters, by model."""
    models = {model["name"].replace(" ", "_"): model for model in report["models"]}
    return {
        "valid_perplexity": {name: model["perplexity"]["mean"] for name, model in models.items()},
        "parameters": {name: model["parameters"]["total"] for name, model in models.items()},
    }


def _sparsity(report: dict[str, Any]) -> Figures:
    """Share of valid's n-grams that train lacks, by share of train and order."""
    return {
        "unseen_share": {
            f"train_{part['share']:.2f}": {f"order_{row['order']}": row["unseen_share"] for row in part["orders"]}
            for part in report["parts"]
        }
    }


FIGURES: dict[str, Callable[[dict[str, Any]], Figures]] = {
    "memory": _memory, "exploding": _exploding, "window": _window, "sparsity": _sparsity,
}  # fmt: skip
"""By name of the experiment, from its report."""
