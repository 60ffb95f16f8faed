"""Differences of perplexity between two models, tested on the saved nats of every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nextword.evaluation.bootstrap import Crossed, block_edges, block_sums, crossed_difference
from nextword.evaluation.statistics import Estimate
from nextword.report.collect import Reports
from nextword.report.finding import Claim, Finding, Reading, Side, judge, side_estimate
from nextword.report.schema import Protocol
from nextword.report.tables import exp

SAMPLE_BLOCKS = 20


def crossed_nats(reports: Reports, a: str, b: str, split: str = "test", way: str = "stateful") -> Crossed | None:
    """Nats a target of model ``a`` less those of model ``b``: the logarithm of the ratio of their perplexities.

    Args:
        reports: all.
        a: name of a neural model, all finished seeds of which enter, or of an n-gram model, which has none.
        b: the same.
        split: train_sample, valid or test.
        way: stateful, reset, cache or dynamic; an n-gram model is always scored line by line.

    Returns:
        None where a side has no finished seed.
    """
    if any(name in reports.neural and not reports.neural[name].finished for name in (a, b)):
        return None
    edges = edges_of(reports, split)
    rule = reports.params.compare
    return crossed_difference(
        _sums(reports, a, split, way, edges),
        _sums(reports, b, split, way, edges),
        np.diff(edges),
        rule.confidence,
        rule.resamples,
        a_exact=a not in reports.neural,
        b_exact=b not in reports.neural,
    )


def edges_of(reports: Reports, split: str) -> NDArray[np.int64]:
    """(D + 1,) offsets of the blocks of a split.

    ``train_sample`` is the head of train: few documents, so it is cut into :data:`SAMPLE_BLOCKS` blocks of lines.
    """
    corpus, block = reports.nats.corpus, reports.params.compare.block_tokens
    if split != "train_sample":
        of_split = corpus[split]
        return block_edges(of_split.document_starts, of_split.line_starts if block else [], block)
    train, size = corpus["train"], _sample_tokens(reports)
    starts = np.append(train.document_starts[train.document_starts < size], size)
    lines = np.flatnonzero(train.ids[:size] == train.eos_id) + 1
    return block_edges(starts, lines, block or max(1, size // SAMPLE_BLOCKS))


def _sample_tokens(reports: Reports) -> int:
    scored = (model.metrics("train_sample", "stateful").values() for model in reports.neural.values())
    return next(metrics.num_targets for of_model in scored for metrics in of_model)


def _sums(reports: Reports, name: str, split: str, way: str, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """(S, D) nats by seed and block."""
    if name not in reports.neural:
        return block_sums(reports.nats.ngram(name, split), edges)[None]
    seeds = reports.neural[name].finished
    return np.stack([block_sums(reports.nats.neural(name, seed, split, way), edges) for seed in seeds])


def perplexity_finding(
    reports: Reports,
    key: str,
    claim: Claim,
    names: Sequence[str],
    reading: Reading,
    split: str = "test",
    way: Protocol = "stateful",
) -> Finding:
    """A finding of the perplexities of two models, its interval over documents and seeds, with the practical margin.

    Args:
        reports: all.
        key: of the finding.
        claim: what the notes say.
        names: the two sides, neural or n-gram models.
        reading: how the claim reads.
        split: train_sample, valid or test.
        way: stateful or reset.
    """
    one, other = (Side(name, _perplexity(reports, name, split, way)) for name in names)
    gap = crossed_nats(reports, names[0], names[1], split, way)
    sources = tuple(f"evaluate@{name}" if name in reports.neural else "ngram" for name in names)
    lost = [name for name in names if name in reports.neural and not reports.neural[name].finished]
    note = f"{' and '.join(lost)}: every seed diverged" if lost else ""
    if gap is not None and gap.low is None:
        note = "no interval: one seed, one document or an infinite loss"
    margin = reports.perplexity_margin
    verdict = judge(reading, gap, margin)
    finding = Finding(
        key, claim, f"{split.replace('_', ' ')} perplexity, {way}", one, other, reading, "ratio", gap, verdict, margin
    )
    return replace(finding, effect=gap.effect if gap else None, note=note, sources=tuple(dict.fromkeys(sources)))


def _perplexity(reports: Reports, name: str, split: str, way: Protocol) -> Estimate | None:
    if name in reports.neural:
        nats = list(reports.neural[name].log_perplexity(split, way).values())
        return side_estimate(nats, "ratio", reports.params.compare.confidence)
    return Estimate(exp(reports.ngrams[name].splits[split]["reset"].log_perplexity), None, None, 1)
