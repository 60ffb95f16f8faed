"""Differences of perplexity between two models, tested on the saved nats of every target."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nextword.evaluation.bootstrap import Crossed, block_edges, block_sums, crossed_difference, crossed_to_one
from nextword.evaluation.statistics import Estimate
from nextword.report.collect import Reports
from nextword.report.finding import Basis, Claim, Finding, Reading, Side, judge_by, side_estimate
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


def crossed_nats_to_one(reports: Reports, control: str, names: Iterable[str], way: Protocol) -> dict[str, Crossed]:
    """Nats a target of test of each neural model less those of the control; all intervals hold at once.

    Args:
        reports: all.
        control: name of a neural model.
        names: of those that are set against it; a model that was not scored in this way is left out.
        way: stateful or reset.

    Returns:
        By name; none where the control was not scored in this way.
    """
    rule, edges = reports.params.compare, edges_of(reports, "test")
    scored = [name for name in (control, *names) if reports.neural[name].metrics("test", way)]
    if control not in scored:
        return {}
    sides = {name: _sums(reports, name, "test", way, edges) for name in scored}
    return crossed_to_one(sides.pop(control), sides, np.diff(edges), rule.confidence, rule.resamples)


def beyond_chance(reports: Reports, name: str, split: str, way: Protocol) -> list[bool]:
    """Of each finished seed of a neural model, whether it predicts worse than a uniform guess."""
    chance, model = math.log(reports.ids.get("vocab_size", math.inf)), reports.neural.get(name)
    return [] if model is None else [nats > chance for nats in model.log_perplexity(split, way).values()]


def basis_of(reports: Reports, a: str, b: str, split: str, way: Protocol) -> Basis:
    """What decides between two models: a seed worse than chance makes the spread, and so an interval, meaningless.

    Where every seed of one, of two at least, is worse than chance and none of the other, the one is worse.
    """
    lost = beyond_chance(reports, a, split, way), beyond_chance(reports, b, split, way)
    if not any(map(any, lost)):
        return "interval"

    def worse(one: list[bool], other: list[bool]) -> bool:
        return len(one) > 1 and all(one) and not any(other)

    return "a beyond chance" if worse(*lost) else "b beyond chance" if worse(*lost[::-1]) else "nothing"


def chance_note(basis: Basis, a: str, b: str) -> str:
    """Why :func:`basis_of` lets no interval decide."""
    if basis == "nothing":
        return f"seeds of {a} or {b} predict worse than a uniform guess, and others do not or are too few"
    lost = {"a beyond chance": a, "b beyond chance": b}.get(basis)
    return f"every seed of {lost} predicts worse than a uniform guess" if lost else ""


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
    names: tuple[str, str],
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
    gap, basis = crossed_nats(reports, names[0], names[1], split, way), basis_of(reports, *names, split, way)
    sources = tuple(f"evaluate@{name}" if name in reports.neural else "ngram" for name in names)
    lost = [name for name in names if name in reports.neural and not reports.neural[name].finished]
    note = f"{' and '.join(lost)}: every seed diverged" if lost else chance_note(basis, *names)
    if gap is not None and basis != "interval":
        gap = replace(gap, low=None, high=None, method="none")
    elif gap is not None and gap.low is None:
        note = "no interval: one seed, one document or an infinite loss"
    margin = reports.perplexity_margin
    return Finding(
        key, claim, f"{split.replace('_', ' ')} perplexity, {way}", one, other, reading, "ratio", gap,
        judge_by(basis, reading, gap, margin), margin, effect=gap.effect if gap else None, note=note,
        sources=tuple(dict.fromkeys(sources)), basis=basis,
    )  # fmt: skip


def _perplexity(reports: Reports, name: str, split: str, way: Protocol) -> Estimate | None:
    if name in reports.neural:
        nats = list(reports.neural[name].log_perplexity(split, way).values())
        return side_estimate(nats, "ratio", reports.params.compare.confidence)
    return Estimate(exp(reports.ngrams[name].splits[split]["reset"].log_perplexity), None, None, 1)
