"""Sparsity of n-grams against order and size of the corpus, and what smoothing makes of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextword.config import NgramParams
from nextword.config.probes import SparsityParams
from nextword.ngram import NgramCounts, count_ngrams, estimate, sparsity
from nextword.perplexity import perplexity
from nextword.probes.intervals import by_document, perplexity_interval, ratio_interval
from nextword.stage import Progress
from nextword.text.ids import Ids, Split, load_ids


def ngram_sparsity(
    ids: Path, params: SparsityParams, ngram: NgramParams, progress: Progress | None = None
) -> dict[str, Any]:
    """Count growing parts of train, and score valid with models of every order made from each.

    Parts are whole documents in a random order, the last one cut at a line: as train may be in order of time, its
    first documents would be not only fewer but also farther from valid than all of it. Each part holds the one before.
    The vocabulary stays that of the whole of train; a part may lack some of its types.

    Args:
        ids: folder that ``encode`` wrote.
        params: shares of train, smoothings, seed of the order.
        ngram: highest order, and the smoothings' own numbers.
        progress: called with parts done and in all.

    Returns:
        ``num_targets`` and ``num_documents`` of valid, ``vocab_size``, and ``parts``, a list over shares of
        ``{"share" (as measured), "tokens", "types_seen", "orders"}``; ``orders``: ``{"order", "types", "tokens",
        "singletons", "possible" (V^n, as a float), "unseen_share", "unseen_context_share",
        "zero_probability": {"mean", "low", "high", "count"}, "models": [{"smoothing", "perplexity": {"mean", "low",
        "high"}, "infinite_share", "perplexity_of_finite"}]}``. ``zero_probability`` is the share of
        valid's words that maximum likelihood gives no probability. Intervals are t-intervals over valid's documents
        (a perplexity's is of its logarithm); a perplexity of None is infinite.

    Raises:
        ValueError: an unknown smoothing, or no tokens.
    """
    corpus = load_ids(ids)
    valid = corpus["valid"]
    valid_ids = np.asarray(valid.ids)
    shuffled, line_ends = _shuffled_documents(corpus["train"], params.seed)
    parts = []
    for number, fraction in enumerate(sorted(params.fractions)):
        end = int(line_ends[np.searchsorted(line_ends, fraction * len(shuffled)).clip(max=len(line_ends) - 1)])
        counts = count_ngrams(shuffled[:end], corpus.eos_id, ngram.max_order, corpus.vocab_size)
        measured = sparsity(counts, valid_ids)
        parts.append(
            {
                "share": end / len(shuffled),
                "tokens": end,
                "types_seen": int((counts[1].counts > 0).sum()),
                "orders": [
                    {
                        "order": order,
                        **{key: value for key, value in found.items() if key != "zero_probability_share"},
                        "possible": float(corpus.vocab_size) ** order,
                        **_score(counts, order, valid, params, ngram),
                    }
                    for order, found in measured.items()
                ],
            }
        )
        if progress is not None:
            progress(number + 1, len(params.fractions))
    return {
        "num_targets": valid.num_tokens,
        "num_documents": valid.num_documents,
        "vocab_size": corpus.vocab_size,
        "parts": parts,
    }


def _shuffled_documents(train: Split, seed: int) -> tuple[Ids, NDArray[np.int64]]:
    """Train with its documents in a random order, and where its lines then end."""
    documents = np.split(np.asarray(train.ids), train.document_starts[1:-1])
    order = np.random.default_rng(seed).permutation(len(documents))
    shuffled = np.concatenate([documents[i] for i in order])
    return shuffled, np.flatnonzero(shuffled == train.eos_id) + 1


def _score(counts: NgramCounts, order: int, valid: Split, params: SparsityParams, ngram: NgramParams) -> dict[str, Any]:
    sizes = np.diff(valid.document_starts)
    valid_ids = np.asarray(valid.ids)
    nats = {
        smoothing: estimate(counts, smoothing, order, ngram, valid_ids).score_ids(valid_ids)
        for smoothing in dict.fromkeys(["mle", *params.smoothings])
    }
    models = []
    for smoothing in params.smoothings:
        finite = np.isfinite(nats[smoothing])
        mean = ratio_interval(by_document(nats[smoothing], valid.document_starts), sizes)
        models.append(
            {
                "smoothing": smoothing,
                "perplexity": perplexity_interval(mean),
                "infinite_share": float(1 - finite.mean()),
                "perplexity_of_finite": perplexity(float(nats[smoothing][finite].sum()), int(finite.sum())),
            }
        )
    zero = ratio_interval(by_document(np.isinf(nats["mle"]), valid.document_starts), sizes)
    return {"zero_probability": asdict(zero), "models": models}
