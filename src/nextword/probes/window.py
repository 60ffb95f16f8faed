"""The NNLM's fixed window: what each word more of it costs in parameters and gives in perplexity."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextword.config import ModelParams, TrainParams
from nextword.config.probes import WindowParams
from nextword.evaluation.neural import score_split
from nextword.evaluation.statistics import mean_interval
from nextword.models import build_model, check_model
from nextword.perplexity import perplexity
from nextword.pool import run_jobs
from nextword.probes.intervals import by_document, perplexity_interval, ratio_interval
from nextword.stage import Progress
from nextword.text.ids import load_ids
from nextword.training.brief import train_briefly

EVALUATION_BATCH = 32
"""Documents of valid side by side; no figure depends on it."""


def nnlm_window(
    ids: Path,
    params: WindowParams,
    train: TrainParams,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train an NNLM for each window on the same tokens, once, and score valid.

    Args:
        ids: folder that ``encode`` wrote.
        params: windows, references (recurrent models, which have none), sizes, tokens, seeds.
        train: batch, optimiser, schedule (over the one pass), clipping, precision.
        workers: processes.
        progress: called with trainings done and in all.

    Returns:
        ``train_tokens`` (each saw), ``num_targets`` and ``num_documents`` of valid, and ``models``, windows ascending,
        then references: ``{"name", "kind", "window" (None for a reference), "parameters", "operations_per_token",
        "perplexity": {"mean", "low", "high"}, "nats", "change", "over_seeds", "runs"}``. ``nats`` per target, mean of
        seeds, with a t-interval over documents; ``change`` is that less the next smaller window's (for a reference:
        the largest window's), paired by document; ``over_seeds`` has the t-interval over seeds. ``runs``: ``{"seed",
        "perplexity", "seconds", "diverged_at"}``, the last one a step or None.

    Raises:
        ValueError: an unknown kind among the references, or train is shorter than a batch.
    """
    size = {key: getattr(params, key) for key in ("embedding_size", "hidden_size", "learning_rate")}
    variants = {f"window {n}": ModelParams(kind="nnlm", window=n, **size) for n in sorted(set(params.windows))}
    variants |= {kind: ModelParams(kind=kind, **size) for kind in params.references}
    for variant in variants.values():
        check_model(variant)
    jobs = [(ids, params.train_tokens, seed, variant, train) for variant in variants.values() for seed in params.seeds]
    # the references and the largest windows take longest: they go first
    results = run_jobs(_train_and_score, jobs[::-1], workers, progress)[::-1]
    sizes = np.diff(load_ids(ids)["valid"].document_starts)
    models: list[dict[str, Any]] = []
    previous: np.ndarray[Any, Any] | None = None
    for number, (name, variant) in enumerate(variants.items()):
        runs = results[number * len(params.seeds) : (number + 1) * len(params.seeds)]
        nats_D = np.mean([run["nats_by_document"] for run in runs], axis=0)
        nats = ratio_interval(nats_D, sizes)
        totals = [float(np.sum(run["nats_by_document"])) / int(sizes.sum()) for run in runs]
        finite = [total for total in totals if math.isfinite(total)]
        with np.errstate(invalid="ignore"):  # both may be infinite
            change = None if previous is None else ratio_interval(nats_D - previous, sizes)
        models.append(
            {
                "name": name,
                "kind": variant.kind,
                "window": variant.window,
                "parameters": runs[0]["parameters"],
                "operations_per_token": runs[0]["operations_per_token"],
                "perplexity": perplexity_interval(nats),
                "nats": asdict(nats),
                "change": change and asdict(change),
                "over_seeds": asdict(mean_interval(finite)) if finite else None,
                "runs": [
                    {"seed": seed, "perplexity": perplexity(total, 1)}
                    | {key: run[key] for key in ("seconds", "diverged_at")}
                    for seed, total, run in zip(params.seeds, totals, runs, strict=True)
                ],
            }
        )
        if variant.window is not None:
            previous = nats_D
    return {
        "train_tokens": results[0]["tokens"],
        "num_targets": int(sizes.sum()),
        "num_documents": len(sizes),
        "models": models,
    }


def _train_and_score(ids: Path, num_tokens: int, seed: int, params: ModelParams, train: TrainParams) -> dict[str, Any]:
    """One pass over the first ``num_tokens`` of train, then the nats of each document of valid."""
    torch.manual_seed(seed)
    corpus = load_ids(ids)
    model = build_model(params, corpus.vocab_size, corpus.eos_id)
    brief = train_briefly(model, corpus["train"].ids[:num_tokens], train, params.learning_rate)
    valid = corpus["valid"]
    nats, _ = score_split(model.eval(), valid, "stateful", EVALUATION_BATCH)
    return {
        "tokens": brief.tokens,
        "seconds": brief.seconds,
        "diverged_at": brief.diverged_at,
        "nats_by_document": by_document(nats, valid.document_starts),
        "parameters": model.num_parameters(),
        "operations_per_token": model.operations_per_token(),
    }
