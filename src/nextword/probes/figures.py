"""The numbers of an experiment that stand for the rest, as nested names for tracking."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median
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


def _capacity(report: dict[str, Any]) -> Figures:
    """Most bits memorised a parameter, mean over seeds; loss on train and gap by network and size of the corpus."""
    most = {
        name: {run["seed"]: 0.0 for run in report["random"]["runs"] if run["network"] == name}
        for name in report["networks"]
    }
    for run in report["random"]["runs"]:
        seeds = most[run["network"]]
        seeds[run["seed"]] = max(seeds[run["seed"]], run["bits_per_parameter"])
    real: Figures = {field: {} for field in ("train_nats", "gap")}
    for field, figures in real.items():
        for run in report["real"]["runs"]:
            if run[field] is not None:
                figures.setdefault(f"{run['network']}_{run['tokens']}", []).append(run[field])
    return {
        "bits_per_parameter": {name: mean(seeds.values()) for name, seeds in most.items()},
        **{field: {name: mean(values) for name, values in figures.items()} for field, figures in real.items()},
    }


def _throughput(report: dict[str, Any]) -> Figures:
    """Median tokens a second by network, batch size and devices, and the peak."""
    return {
        "tokens_per_second": {
            f"{point['network']}_batch_{point['batch_size']}_devices_{point['devices']}": median(
                point["tokens_per_second"]
            )
            for point in report["points"]
        },
        "peak_operations_per_second": {
            f"devices_{count}": peak for count, peak in report["peak_operations_per_second"].items()
        },
    }


FIGURES: dict[str, Callable[[dict[str, Any]], Figures]] = {
    "memory": _memory, "exploding": _exploding, "window": _window, "sparsity": _sparsity, "capacity": _capacity,
    "throughput": _throughput,
}  # fmt: skip
"""By name of the experiment, from its report."""
