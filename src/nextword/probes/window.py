"""The NNLM's fixed window: what each word more of it costs in parameters and gives in perplexity."""

from __future__ import annotations

import math
import time
import warnings
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
from nextword.probes.intervals import by_document, perplexity_interval, ratio_interval
from nextword.probes.pool import run_jobs
from nextword.stage import Progress
from nextword.text.ids import load_ids
from nextword.text.streams import Columns
from nextword.training.fit import resolve_precision
from nextword.training.module import LanguageModelModule

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
    columns = Columns(corpus["train"].ids[:num_tokens], train.batch_size, train.bptt)
    model = build_model(params, corpus.vocab_size, corpus.eos_id).train()
    module = LanguageModelModule(model, train, params.learning_rate, len(columns), 1)
    plan = module.configure_optimizers()
    optimizer, schedule = plan["optimizer"], plan["lr_scheduler"]
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    precision = types[resolve_precision(train.precision, "cpu")]
    started, diverged_at = time.perf_counter(), None
    with warnings.catch_warnings():
        # Of the sums that the module keeps; here a loss that is not a number is a result.
        warnings.filterwarnings("ignore", "Encountered `nan` values")
        for step, tokens in enumerate(columns):
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                loss = module.training_step(torch.from_numpy(tokens), step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm or math.inf)
            if not (loss.isfinite() and norm.isfinite()):
                diverged_at = step
                break
            optimizer.step()
            if schedule["interval"] == "step":
                schedule["scheduler"].step()
    seconds = time.perf_counter() - started
    valid = corpus["valid"]
    nats, _ = score_split(model.eval(), valid, "stateful", EVALUATION_BATCH)
    return {
        "tokens": columns.length * train.batch_size,
        "seconds": seconds,
        "diverged_at": diverged_at,
        "nats_by_document": by_document(nats, valid.document_starts),
        "parameters": model.num_parameters(),
        "operations_per_token": model.operations_per_token(),
    }
