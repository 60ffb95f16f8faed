"""The notes on the feed-forward network: against n-grams, its window, its embeddings."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nextword.evaluation.statistics import Difference, Estimate
from nextword.report.finding import Claim, Finding, Side, not_tested
from nextword.report.probes.experiments import WindowModel
from nextword.report.tables import count, number
from nextword.report.textbook.evidence import Evidence, apart, constant, estimate, exact, half_width, measured

BETTER = Claim("NNLM against n-grams", "it goes beyond the n-gram language model")
NO_ZEROS = Claim("NNLM against n-grams", "no problem of sparsity")
UNSEEN = Claim("NNLM against n-grams", "it need not have seen all n-grams")
TOO_SMALL = Claim("NNLM: window", "the fixed window is too small")
GROWS = Claim("NNLM: window", "to enlarge the window is to enlarge the weight matrix")
NEVER = Claim("NNLM: window", "however large, the window is never enough")
UNLIKE = Claim("NNLM: window", "each place of the window has weights of its own: inputs are not treated alike")
SIZES = Claim("Embeddings", "vectors of 50 to 300 dimensions, learned in training without labels by hand")
SIMILAR = Claim("Embeddings", "similar words have similar vectors")
ANALOGIES = Claim("Embeddings", "they support analogies: king - man + woman is close to queen")


def nnlm_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    yield not_tested("embedding_sizes", SIZES, "a convention, and how the model is built")
    yield _similar(evidence)
    yield _analogies(evidence)
    yield evidence.perplexity(
        "nnlm_ngram", BETTER, evidence.nnlm, evidence.ngram, "lower", protocol="reset",
        condition="each line alone, as an n-gram reads it",
    )  # fmt: skip
    yield _no_zeros(evidence)
    yield _unseen(evidence)
    yield from _window(evidence)
    yield not_tested(
        "nnlm_unlike", UNLIKE,
        "how the model is built; that it costs anything would need a network which treats all places alike, such as "
        "the RNN below",
    )  # fmt: skip


def _similar(evidence: Evidence) -> Finding:
    name = evidence.nnlm
    probe = evidence.probe(name)
    found = None if probe is None else probe.embeddings.similarity
    if name is None or found is None or found.spearman is None:
        return not_tested(
            "similar",
            SIMILAR,
            "it needs people's judgements of pairs of words: give a file as probe.embeddings.similarity",
        )
    value = Estimate(found.spearman, found.low, found.high, 1)
    return measured(
        "similar", SIMILAR, "rank correlation of cosines with people's judgements", Side(name, value),
        Side("none", constant(0.0)), "higher", apart(value, constant(0.0)), (f"probe@{name}",),
        note=f"{found.covered} of {found.pairs} pairs of {found.file}",
    )  # fmt: skip


def _analogies(evidence: Evidence) -> Finding:
    name = evidence.nnlm
    probe = evidence.probe(name)
    found = None if probe is None else probe.embeddings.analogies
    if name is None or found is None or found.total.add is None:
        return not_tested(
            "analogies",
            ANALOGIES,
            "it needs questions whose words are in the vocabulary: give a file as probe.embeddings.analogies",
        )
    value = Estimate(found.total.add.accuracy, found.total.add.low, found.total.add.high, found.total.covered)
    chance = constant(1.0 / found.candidates)
    return measured(
        "analogies", ANALOGIES, "analogies answered right (3CosAdd)", Side(name, value), Side("chance", chance),
        "higher", apart(value, chance), (f"probe@{name}",),
        note=f"{found.total.covered} of {found.total.questions} questions of {found.file}; read as: more than chance",
    )  # fmt: skip


def _highest_mle(evidence: Evidence) -> str | None:
    orders = {name: e.order for name, e in evidence.reports.ngrams.items() if e.smoothing == "mle" and e.order > 1}
    return max(orders, key=lambda name: orders[name], default=None)


def _no_zeros(evidence: Evidence) -> Finding:
    name, mle = evidence.nnlm, _highest_mle(evidence)
    found = {} if name is None else evidence.reports.neural[name].metrics("test", "reset")
    if name is None or mle is None or not found:
        return not_tested("nnlm_zeros", NO_ZEROS, "no NNLM, or no n-gram model without smoothing, in params.yaml")
    zeros = evidence.reports.ngrams[mle].splits["test"]["reset"].num_infinite
    if zeros == 0:
        return not_tested("nnlm_zeros", NO_ZEROS, "counts alone give no target of test probability 0")
    return exact(
        "nnlm_zeros",
        NO_ZEROS,
        "targets of test with probability 0",
        (name, max(metrics.num_infinite for metrics in found.values())),
        (mle, zeros),
        "lower",
        (f"evaluate@{name}", "ngram"),
        note="of the worst seed",
    )


def _unseen(evidence: Evidence) -> Finding:
    """Loss where counts know nothing: targets whose n-gram train lacks."""
    name, best, mle = evidence.nnlm, evidence.ngram, _highest_mle(evidence)
    own_SN, other_SN, counts_SN = (evidence.nats(who, "reset") for who in (name, best, mle))
    if name is None or best is None or own_SN is None or other_SN is None or counts_SN is None:
        return not_tested("nnlm_unseen", UNSEEN, "no NNLM, or no n-gram model to compare it with")
    mask_N = np.isinf(counts_SN[0])
    if not mask_N.any():
        return not_tested("nnlm_unseen", UNSEEN, "train holds every n-gram of test")
    gap = evidence.gap(own_SN, other_SN, mask_N, b_exact=True)
    sides = [
        Side(who, Estimate(float(np.exp(nats_SN[:, mask_N].mean())), None, None, len(nats_SN)))
        for who, nats_SN in ((name, own_SN), (best, other_SN))
    ]
    found = evidence.perplexities(
        "nnlm_unseen", UNSEEN, f"perplexity of the {count(int(mask_N.sum()))} targets of test whose n-gram train lacks",
        sides[0], sides[1], "lower", gap, (f"evaluate@{name}", "ngram"),
        condition=f"n-grams of {mle}, each line alone", note="read as: better there than the best n-gram model",
    )  # fmt: skip
    return replace(found, effect=gap.effect)


def _window(evidence: Evidence) -> Iterator[Finding]:
    report = evidence.reports.probes.window
    windows = sorted((model for model in report.models if model.window is not None), key=lambda m: m.window or 0)
    if len(windows) < 2:
        for key, claim in (("small", TOO_SMALL), ("grows", GROWS), ("never", NEVER)):
            yield not_tested(f"window_{key}", claim, "fewer than two windows were tried")
        return
    before, largest = windows[-2:]
    where = f"{count(report.train_tokens)} tokens of train"
    yield _change("window_small", TOO_SMALL, largest, before, where, "read as: twice the window is better", evidence)
    yield exact(
        "window_grows", GROWS, "parameters", (largest.name, largest.parameters.total),
        (windows[0].name, windows[0].parameters.total), "higher", ("window",),
    )  # fmt: skip
    others = [model for model in report.models if model.window is None]
    if not others:
        yield not_tested("window_never", NEVER, "no model without a window was trained beside the windows")
    for other in others[:1]:
        note = "read as: a model without a window is better than the largest"
        yield _change("window_never", NEVER, other, largest, where, note, evidence)


def _change(
    key: str, claim: Claim, a: WindowModel, b: WindowModel, where: str, note: str, evidence: Evidence
) -> Finding:
    """The change of ``a`` against ``b``: over the documents of valid, paired, and over the seeds of either.

    The stage reports an interval of each of the three; the squares of their halves add up (MOVER), which counts twice
    what seeds and documents do together. One seed has no interval, so it decides nothing.
    """
    change = estimate(a.change)
    of_seeds = [estimate(model.over_seeds) for model in (a, b)]
    gap = None
    if change is not None:
        halves = [half_width(value) for value in (change, *of_seeds)]
        half = math.hypot(*(h for h in halves if h is not None)) if None not in halves else None
        low, high = (None, None) if half is None else (change.mean - half, change.mean + half)
        gap = Difference(change.mean, low, high, "none" if half is None else "MOVER")
        note += "; one seed" if half is None else ""
    found = evidence.perplexities(
        key, claim, "valid perplexity, stateful", Side(a.name, estimate(a.perplexity)),
        Side(b.name, estimate(b.perplexity)), "lower", gap, ("window",), condition=where, note=note,
    )  # fmt: skip
    found = replace(found, form=number)
    single = evidence.smoothed(1)
    words = None if single is None else evidence.reports.ngrams[single].splits["valid"]["reset"].perplexity
    worse = [side.name for side in (found.a, found.b) if words and side.value and side.value.mean > words]
    if not worse:
        return found
    why = f"trained too little: {' and '.join(worse)} worse than counts of single words ({number(words)})"
    return replace(found, verdict="undecided", basis="nothing", note=f"{found.note}; {why}")
