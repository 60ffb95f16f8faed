"""The n-gram study: every smoothing at every order, from one counting pass, by the scoring rule."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from nextword.config import NgramParams
from nextword.evaluation.rule import Scorer
from nextword.files import write_json
from nextword.ngram import count_ngrams, estimate, sparsity, write_arpa
from nextword.text.ids import load_ids


def study_ngrams(params: NgramParams, ids: Path, out: Path, nats_out: Path) -> dict[str, Any]:
    """Estimate and score all n-gram models.

    Args:
        params: orders and smoothings.
        ids: folder that ``encode`` wrote.
        out: receives the model that is best on valid (and its ARPA file), and ``model.json``, its name and tokenizer.
        nats_out: receives ``NAME.SPLIT.reset.npy``, float32 nats per target.

    Returns:
        the report (reports/ngram.json): sparsity by order, figures by model, the name of the best on valid.
    """
    corpus = load_ids(ids)
    splits = {name: corpus[name] for name in ("valid", "test")}
    scorers = {name: Scorer(corpus, split) for name, split in splits.items()}
    started = time.perf_counter()
    counts = count_ngrams(corpus["train"].ids, corpus.eos_id, params.max_order, corpus.vocab_size)
    counting_seconds = time.perf_counter() - started
    nats_out.mkdir(parents=True, exist_ok=True)
    models: dict[str, Any] = {}
    best: tuple[float, str, Any] | None = None
    for smoothing in params.smoothings:
        for order in range(1, params.max_order + 1):
            started = time.perf_counter()
            model = estimate(counts, smoothing, order, params, splits["valid"].ids)
            seconds = time.perf_counter() - started
            name = f"{smoothing}_{order}"
            results: dict[str, Any] = {}
            for split_name, split in splits.items():
                nats = model.score_ids(split.ids)
                np.save(nats_out / f"{name}.{split_name}.reset.npy", nats.astype(np.float32))
                results[split_name] = {"reset": scorers[split_name].summarize(nats)}
            models[name] = {
                "smoothing": smoothing,
                "order": order,
                "seconds": seconds,
                "num_parameters": model.num_parameters,
                "bytes": model.num_bytes,
                "notes": list(model.notes),
                "splits": results,
            }
            valid = results["valid"]["reset"]["nats"]
            if valid is not None and (best is None or valid < best[0]):
                best = (valid, name, model)
    if best is not None:
        best[2].save(out)
        write_json(out / "model.json", {"name": best[1], "tokenizer_sha256": corpus.tokenizer_sha256})
        if params.arpa:
            write_arpa(best[2], corpus.vocabulary, out / "model.arpa")
    out.mkdir(parents=True, exist_ok=True)
    return {
        "counting_seconds": counting_seconds,
        "orders": sparsity(counts, splits["test"].ids),
        "models": models,
        "best": best and best[1],
    }
