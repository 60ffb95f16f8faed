"""How much of the text before a word a trained model uses (Khandelwal et al. 2018, "Sharp Nearby, Fuzzy Far Away").

The same targets are scored with their context cut off, shuffled or thinned out. Each treatment is compared with the
one that differs from it in nothing else, target by target.

Shapes: N targets, L longest context, T steps of a sequence, K conditions, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nextword.config.probes import ContextParams
from nextword.evaluation.neural import nats_of
from nextword.models.language_model import LanguageModel
from nextword.stage import Progress
from nextword.text.ids import EncodedCorpus, Split
from nextword.text.streams import SEGMENT_STEPS, segment_windows

Tokens = NDArray[np.int64]
Floats = NDArray[np.float64]

SIDE_BY_SIDE = 256
"""Sequences scored at once: what a step works on stays in a core's cache."""
RESAMPLES = 1000
CONFIDENCE = 0.95
WITHIN = 4096
"""Targets stand within so many tokens of the first place that will do in their document, so that the pass over whole
documents, which goes step by step, is short."""


def context_use(
    model: LanguageModel,
    corpus: EncodedCorpus,
    split: Split,
    params: ContextParams,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Loss of the same targets under less and less context.

    With n tokens left as they are and L the longest length:

    - ``truncated``: nothing but the n tokens; the model starts as before a text, with one ``<eos>`` read. Against the
      whole document.
    - ``shuffled``: the L - n tokens before them in random order. Against the last L tokens as they are.
    - ``dropped_frequent``, ``dropped_rare``: the half of those L - n tokens whose types are more frequent in train (or
      rarer) left out, so that both lose equally many. Against the last L tokens as they are.

    Intervals are percentiles of a paired bootstrap over targets.

    Args:
        model: left-to-right, in evaluation mode.
        corpus: for the train counts of types.
        split: where the targets stand, L to L + ``WITHIN`` tokens into their documents.
        params: lengths in tokens, number of targets, tolerance.
        seed: of the targets, permutations and resamples.
        progress: called with conditions done and conditions in all.

    Returns:
        ``num_targets``; ``lengths`` and, under ``lengths_left_out``, those that no document reaches; ``document``
        and, by treatment, a list over lengths of ``{"length", "nats": {"mean", "low", "high"}, "increase": {...}}``,
        all in nats per target; ``effective_length``: ``{"tokens", "low", "high", "tolerance"}``, the length from which
        the truncated loss is within ``tolerance`` (a share) of that with the whole document, on a logarithmic scale
        between lengths, infinite where the longest is too short.

    Raises:
        ValueError: the model is not left-to-right, or no document is longer than the shortest length.
    """
    if not model.left_to_right:
        raise ValueError("context use is of left-to-right models; a bidirectional one sees both sides of a word")
    longest_document = int(np.diff(split.document_starts).max(initial=0))
    lengths = sorted({length for length in params.lengths if length < longest_document})
    if not lengths:
        raise ValueError(
            f"no document of {split.name} has more than {min(params.lengths)} tokens before a target; "
            "give shorter probe.context.lengths"
        )
    rng = np.random.default_rng(seed)
    places = draw_targets(split, lengths[-1], params.targets, rng)
    targets = split.ids[places].astype(np.int64)
    context_NL = split.ids[places[:, None] - np.arange(lengths[-1], 0, -1)].astype(np.int64)

    shorter = lengths[:-1]
    total = 1 + len(lengths) + 3 * len(shorter)
    nats = {("document", 0): document_nats(model, split, places)}
    for treatment, length, sequence_NT in _conditions(context_NL, lengths, corpus.train_counts, rng):
        if progress is not None:
            progress(len(nats), total)
        nats[treatment, length] = sequence_nats(model, sequence_NT, targets)
    if progress is not None:
        progress(total, total)

    names = list(nats)
    values_NK = np.stack([nats[name] for name in names], axis=1)
    weights_RN = rng.multinomial(len(targets), np.full(len(targets), 1 / len(targets)), size=RESAMPLES) / len(targets)
    with np.errstate(invalid="ignore"):  # infinite nats of a model that diverged
        means_RK = weights_RN @ values_NK
        means_K = values_NK.mean(0)

    def row(treatment: str, length: int) -> dict[str, Any]:
        here = names.index((treatment, length))
        base = names.index(("document", 0) if treatment == "truncated" else ("truncated", lengths[-1]))
        with np.errstate(invalid="ignore"):
            increase = _interval(means_K[here] - means_K[base], means_RK[:, here] - means_RK[:, base])
        return {"length": length, "nats": _interval(means_K[here], means_RK[:, here]), "increase": increase}

    truncated = [names.index(("truncated", length)) for length in lengths]
    effective = [
        effective_length(lengths, curve[:, truncated], curve[:, 0], params.tolerance)
        for curve in (means_K[None], means_RK)
    ]
    return {
        "num_targets": len(targets),
        "lengths": lengths,
        "lengths_left_out": sorted(set(params.lengths) - set(lengths)),
        "document": {"nats": _interval(means_K[0], means_RK[:, 0])},
        "truncated": [row("truncated", length) for length in lengths],
        **{name: [row(name, length) for length in shorter] for name in TREATMENTS},
        "effective_length": {
            "tokens": float(effective[0][0]),
            **dict(zip(("low", "high"), _quantiles(effective[1]), strict=True)),
            "tolerance": params.tolerance,
        },
    }


TREATMENTS = ("shuffled", "dropped_frequent", "dropped_rare")
"""Of the context beyond n, besides cutting it off."""


def draw_targets(split: Split, depth: int, count: int, rng: np.random.Generator) -> Tokens:
    """At most ``count`` random places of a split, ascending, each with ``depth`` tokens of its document before it."""
    first = split.document_starts[:-1] + depth
    room = np.clip(split.document_starts[1:] - first, 0, WITHIN)
    ends = np.cumsum(room)
    drawn = np.sort(rng.choice(ends[-1], min(count, int(ends[-1])), replace=False, shuffle=False))
    document = np.searchsorted(ends, drawn, side="right")
    return np.asarray(first[document] + drawn - (ends - room)[document], dtype=np.int64)


def _conditions(
    context_NL: Tokens, lengths: list[int], train_counts: Tokens, rng: np.random.Generator
) -> Iterator[tuple[str, int, Tokens]]:
    """Treatment, n, and the context that is read: (N, T)."""
    for length in lengths:
        yield "truncated", length, context_NL[:, -length:]
    for length in lengths[:-1]:
        far_NM, near_NT = context_NL[:, :-length], context_NL[:, -length:]
        yield "shuffled", length, np.hstack([rng.permuted(far_NM, axis=1), near_NT])
        frequent_first = np.argsort(rng.random(far_NM.shape) - train_counts[far_NM], axis=1)  # ties by chance
        half = far_NM.shape[1] // 2
        kept = far_NM.shape[1] - half
        for name, places in (
            ("dropped_frequent", frequent_first[:, half:]),
            ("dropped_rare", frequent_first[:, :kept]),
        ):
            yield name, length, np.hstack([np.take_along_axis(far_NM, np.sort(places, axis=1), axis=1), near_NT])


@torch.inference_mode()
def sequence_nats(model: LanguageModel, context_NT: Tokens, targets_N: Tokens) -> Floats:
    """``-log p`` of each target in nats, (N,), given its context alone: the model starts anew before each."""
    found = []
    for start in range(0, len(targets_N), SIDE_BY_SIDE):
        part = slice(start, start + SIDE_BY_SIDE)
        tokens_TB = np.ascontiguousarray(np.column_stack([context_NT[part], targets_N[part]]).T)
        tokens = torch.from_numpy(tokens_TB).to(model.output.weight.device)
        hidden_NE, _ = model.hidden(tokens, model.initial_state(tokens.shape[1]))
        found.append(_score(model, hidden_NE.view(*tokens.shape, -1)[-1], tokens[-1]))
    return np.concatenate(found)


@torch.inference_mode()
def document_nats(model: LanguageModel, split: Split, places_N: Tokens) -> Floats:
    """``-log p`` in nats, (N,), of the tokens at ascending places, given all of their document before them."""
    document_N = np.searchsorted(split.document_starts, places_N, side="right") - 1
    read, last = np.unique(document_N[::-1], return_index=True)  # documents, up to their last target
    begins = split.document_starts[read]
    ends = places_N[::-1][last] + 1
    ids = np.concatenate([split.ids[begin:end] for begin, end in zip(begins, ends, strict=True)])
    starts = np.concatenate([[0], np.cumsum(ends - begins)])
    places_N = places_N + (starts[:-1] - begins)[np.searchsorted(read, document_N)]
    nats = np.empty(len(places_N))
    state: Any = None
    for window in segment_windows(ids, starts, SIDE_BY_SIDE, SEGMENT_STEPS):
        if window.first:
            state = model.initial_state(window.tokens.shape[1])
        tokens = torch.from_numpy(window.tokens).to(model.output.weight.device)
        hidden_NE, state = model.hidden(tokens, state)
        wanted = np.isin(window.place, places_N)
        if wanted.any():
            chosen = torch.from_numpy(wanted.reshape(-1)).to(tokens.device)
            rows = np.searchsorted(places_N, window.place[wanted])
            nats[rows] = _score(model, hidden_NE[chosen], tokens.reshape(-1)[chosen])
    return nats


def _score(model: LanguageModel, hidden_NE: torch.Tensor, targets_N: torch.Tensor) -> Floats:
    return nats_of(model.output.score(hidden_NE, targets_N)[0]).astype(np.float64)


def effective_length(lengths: list[int], truncated_RK: Floats, full_R: Floats, tolerance: float) -> Floats:
    """Shortest length whose loss is at most ``(1 + tolerance)`` times the full one; infinite where none is.

    Args:
        lengths: K, ascending.
        truncated_RK: loss at each length, in R samples.
        full_R: loss with the whole context.
        tolerance: a share.

    Returns:
        (R,) tokens; between two lengths the loss is taken as linear in log n.
    """
    limit_R1 = (1 + tolerance) * full_R[:, None]
    enough = (truncated_RK <= limit_R1) & np.isfinite(limit_R1)
    with np.errstate(invalid="ignore"):  # both may be infinite
        excess_RK = truncated_RK - limit_R1
    first = enough.argmax(1)
    rows, before = np.arange(len(first)), np.maximum(first - 1, 0)
    above, below = excess_RK[rows, before], excess_RK[rows, first]
    log_n = np.log(lengths)
    crossed = (first > 0) & np.isfinite(above)
    share = np.where(crossed, above / np.where(crossed, above - below, 1), 1)
    found = np.exp(log_n[before] + share * (log_n[first] - log_n[before]))
    return np.where(enough.any(1), found, np.inf)


def _interval(mean: float, means_R: Floats) -> dict[str, float]:
    return {"mean": float(mean), **dict(zip(("low", "high"), _quantiles(means_R), strict=True))}


def _quantiles(values_R: Floats) -> list[float]:
    # A value that was drawn, never one between two of them: some may be infinite.
    tail = (1 - CONFIDENCE) / 2
    return [float(q) for q in np.quantile(values_R, [tail, 1 - tail], method="inverted_cdf")]
