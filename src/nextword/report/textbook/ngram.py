"""The notes on n-grams: order, sparsity, smoothing, context, storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nextword.evaluation.statistics import Estimate
from nextword.report.finding import Claim, Finding, Side, not_tested
from nextword.report.probes.experiments import SparseOrder, SparsityFile
from nextword.report.probes.seeds import figures
from nextword.report.schema import NgramEntry
from nextword.report.tables import percent
from nextword.report.textbook.evidence import (
    Evidence,
    apart,
    constant,
    estimate,
    exact,
    logarithm,
    measured,
)

DEFINITIONS = Claim(
    "Language models", "perplexity, cross entropy, the chain rule, the Markov assumption and the estimate by counts"
)
GROWTH = Claim("n-grams: order", "as n grows the number of parameters grows exponentially")
WEAKER = Claim("n-grams: order", "as n grows the advantage in generalisation gets weaker")
TOO_SMALL = Claim("n-grams: order", "with n too small an n-gram holds too little of the language")
ZERO = Claim("n-grams: sparsity", "many n-grams do not occur in the corpus: their probability is 0")
SMOOTHING = Claim("n-grams: smoothing", "smoothing mends the zero probabilities")
CONTEXT = Claim("n-grams: context", "only a context of limited length: dependencies from afar cannot be modelled")
STORAGE = Claim("n-grams: storage", "statistics of the whole corpus must be computed and stored: they need much room")
SMALL_TASKS = Claim("n-grams: data", "they do well on small tasks where there is enough data")
SIMPLE = Claim("n-grams: simplicity", "simple, intuitive, easy to implement")


def ngram_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    yield not_tested(
        "definitions", DEFINITIONS,
        "definitions, not statements about data: the code keeps to them, and its tests check that (probabilities sum "
        "to 1, each target is scored once, counts against hand-made ones)",
    )  # fmt: skip
    yield not_tested("ngram_simple", SIMPLE, "a judgement: no number of a report speaks to it")
    yield from _data(evidence)
    yield from _growth(evidence.reports.probes.sparsity)
    yield _weaker(evidence)
    yield _too_small(evidence)
    yield from _zeros(evidence)
    yield _smoothing(evidence)
    yield _context(evidence)
    yield _storage(evidence)


def _orders(report: SparsityFile) -> list[SparseOrder]:
    """Of the largest part of train."""
    part = max(report.parts, key=lambda part: part.tokens, default=None)
    return [] if part is None else sorted(part.orders, key=lambda order: order.order)


def _data(evidence: Evidence) -> Iterator[Finding]:
    """The same smoothed model counted on little and on all of train."""
    report = evidence.reports.probes.sparsity
    parts = sorted(report.parts, key=lambda part: part.tokens)
    best = evidence.ngram
    smoothing = None if best is None else evidence.reports.ngrams[best].smoothing
    found = []
    for part in parts[:1] + parts[-1:]:
        models = [m for o in part.orders for m in o.models if m.smoothing == smoothing and o is part.orders[-1]]
        found += [Side(f"{part.tokens:,} tokens", estimate(models[0].perplexity))] if models else []
    if len(found) < 2 or found[0].value is None or found[1].value is None or parts[0] is parts[-1]:
        yield not_tested("ngram_data", SMALL_TASKS, "the sparsity stage did not count the best smoothing on two sizes")
        return
    gap = apart(logarithm(found[1].value), logarithm(found[0].value))
    yield evidence.perplexities(
        "ngram_data", SMALL_TASKS, f"valid perplexity of {_words(smoothing)} at the highest order", found[1], found[0],
        "lower", gap, ("sparsity",),
        note="read as: enough data makes it better; what is well is not said",
    )  # fmt: skip


def _words(name: str | None) -> str:
    return (name or "").replace("_", " ")


def _growth(report: SparsityFile) -> Iterator[Finding]:
    """Exponential growth is growth by the same factor from order to order."""
    orders = _orders(report)
    if len(orders) < 3:
        yield not_tested("ngram_growth", GROWTH, "fewer than three orders were counted")
        return
    size = float(report.vocab_size)
    for key, what, (first, last) in (
        ("possible", "n-grams that are possible, V^n", (size, size)),
        ("stored", "n-grams that occur in train and are stored",
         (orders[1].types / orders[0].types, orders[-1].types / orders[-2].types)),
    ):  # fmt: skip
        yield exact(
            f"ngram_growth_{key}", GROWTH, f"factor from one order to the next: {what}",
            (f"order {orders[-1].order}", last), (f"order {orders[1].order}", first), "not lower", ("sparsity",),
            note="read as: the factor stays at least what it was; "
            + ("the table of the formula" if key == "possible" else "no more n-grams than the corpus has tokens"),
        )  # fmt: skip


def _weaker(evidence: Evidence) -> Finding:
    """What one word more of context gives, late and early."""
    top = evidence.reports.params.ngram.max_order
    steps = [(n, n + 1) for n in (top - 1, 1)]
    nats = [[evidence.nats(evidence.smoothed(n), "reset") for n in step] for step in steps]
    with np.errstate(invalid="ignore"):  # of counts alone, infinite nats
        gains = [low - high for low, high in nats if low is not None and high is not None]
    if top < 3 or len(gains) < 2 or not all(np.isfinite(gain).all() for gain in gains):
        return not_tested("ngram_weaker", WEAKER, "it needs a smoothed model of three orders or more")
    sides = [
        Side(f"order {low} to {high}", Estimate(float(gain.mean()), None, None, 1))
        for (low, high), gain in zip(steps, gains, strict=True)
    ]
    gap = evidence.gap(gains[0], gains[1], a_exact=True, b_exact=True)
    found = measured(
        "ngram_weaker",
        WEAKER,
        "test nats a target that one word more of context saves, reset",
        sides[0],
        sides[1],
        "lower",
        gap,
        ("ngram",),
    )
    return replace(found, effect=gap.effect)


def _too_small(evidence: Evidence) -> Finding:
    best = evidence.ngram
    order = evidence.reports.ngrams[best].order if best else 1
    if order < 2:
        return not_tested("ngram_too_small", TOO_SMALL, "there is no best n-gram model of an order above 1")
    return evidence.perplexity(
        "ngram_too_small", TOO_SMALL, evidence.smoothed(order - 1 if order < 3 else 2), best, "higher",
        protocol="reset",
    )  # fmt: skip


def _zeros(evidence: Evidence) -> Iterator[Finding]:
    orders = _orders(evidence.reports.probes.sparsity)
    if not orders:
        yield not_tested("ngram_zero", ZERO, "no order was counted")
        return
    last, first = orders[-1], orders[0]
    value = estimate(last.zero_probability)
    yield measured(
        "ngram_zero", ZERO, "share of valid's targets to which counts alone give probability 0",
        Side(f"order {last.order}", value), Side("none", constant(0.0)), "higher", apart(value, constant(0.0)),
        ("sparsity",), note=f"n-grams of valid that train lacks: {percent(last.unseen_share)} at order {last.order}",
    )  # fmt: skip
    if last is not first:
        low = estimate(first.zero_probability)
        yield measured(
            "ngram_zero_order", ZERO, "share of valid's targets to which counts alone give probability 0",
            Side(f"order {last.order}", value), Side(f"order {first.order}", low), "higher", apart(value, low),
            ("sparsity",), note="read as: the more, the higher the order",
        )  # fmt: skip


def _unsmoothed(evidence: Evidence) -> NgramEntry | None:
    entries = [entry for entry in evidence.reports.ngrams.values() if entry.smoothing == "mle" and entry.order > 1]
    return max(entries, key=lambda entry: entry.order, default=None)


def _smoothing(evidence: Evidence) -> Finding:
    mle = _unsmoothed(evidence)
    name = evidence.smoothed(mle.order) if mle is not None else None
    if mle is None or name is None or evidence.reports.ngrams[name] is mle:
        return not_tested("smoothing", SMOOTHING, "params.yaml names no mle beside a smoothing with finite perplexity")
    smoothed = evidence.reports.ngrams[name]
    zeros = [float(entry.splits["test"]["reset"].num_infinite) for entry in (smoothed, mle)]
    if zeros[1] == 0:
        return not_tested("smoothing", SMOOTHING, "counts alone give no target of test probability 0")
    return exact(
        "smoothing", SMOOTHING, "targets of test with probability 0", (name, zeros[0]),
        (f"mle_{mle.order}", zeros[1]), "lower", ("ngram",),
    )  # fmt: skip


def _context(evidence: Evidence) -> Finding:
    """What the words before an n-gram's context are worth to a model that reads them."""
    name, best = evidence.lstm, evidence.ngram
    found = evidence.contexts(name)
    words = evidence.reports.ngrams[best].order - 1 if best else None
    if not found or words is None or name is None:
        return not_tested("ngram_context", CONTEXT, "no LSTM, or no n-gram model, to show what lies beyond the context")
    length = min((n for one in found.values() for n in one.lengths if n >= words), default=None)
    if length is None:
        return not_tested("ngram_context", CONTEXT, f"no context of {words} words was probed")
    increase = figures(found, lambda one: next(row.increase.mean for row in one.truncated if row.length == length))
    return evidence.by_seed(
        "ngram_context", CONTEXT,
        f"nats a target that {name} loses with the last {length} tokens alone (the best n-gram has {words})",
        (f"last {length} tokens", increase), ("whole document", 0.0), "higher", (f"probe@{name}", "ngram"),
        note="read as: what lies beyond is of use",
    )  # fmt: skip


def _storage(evidence: Evidence) -> Finding:
    best, name = evidence.ngram, evidence.lstm
    stored = None if best is None else evidence.reports.ngrams[best].num_parameters
    if best is None or stored is None or name is None:
        return not_tested("ngram_storage", STORAGE, "no n-gram model, or no LSTM to compare it with")
    total = evidence.reports.neural[name].train.num_parameters.total
    return exact(
        "ngram_storage", STORAGE, "numbers stored", (best, stored), (name, total), "higher",
        ("ngram", f"train@{name}"), note="read as: more than a neural model holds",
    )  # fmt: skip
