"""The notes on vanishing and exploding gradients and their cures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from nextword.evaluation.statistics import Estimate
from nextword.report.finding import Claim, Finding, Reading, Side, not_tested
from nextword.report.probes.schema import Flow, Gradients
from nextword.report.probes.seeds import figures
from nextword.report.tables import count, number
from nextword.report.textbook.evidence import (
    Evidence,
    exact,
    lacking,
    measured,
)
from nextword.report.textbook.exploding import clipping_findings, exploding_findings
from nextword.report.textbook.tasks import (
    across_tasks,
    average,
    by_task,
    geometric,
    lags_solved,
    log_growth,
    longest_lag_finding,
)

NEVER_FALLS = Claim(
    "Vanishing gradients", "the loss does not fall for long; the model cannot learn dependencies from afar"
)
LATE = Claim(
    "Vanishing gradients",
    "in a long sentence the probability of the right answer in a blank falls with the amount of context before it",
)
MEASURE = Claim("Vanishing gradients", "the gradient measures how much the past bears on the future")
FAR_LOST = Claim(
    "Vanishing gradients", "the gradient from afar is much smaller than that from near: weights follow the near"
)
VANISHING = Claim("Vanishing gradients", "in backpropagation the gradient shrinks from step to step")
SUM = Claim(
    "Norm of the gradient",
    "dE/dW is the sum over t and k of the chains dE_t/dy_t dy_t/dh_t (prod dh_j/dh_{j-1}) dh_k/dW, "
    "with dh_j/dh_{j-1} = W^T diag(s'(h_{j-1})) and s the activation",
)
BOUND = Claim("Norm of the gradient", "it is at most (β_W β_h)^(t-k)")
BELOW_ONE = Claim("Norm of the gradient", "where β_W β_h < 1 the gradient vanishes exponentially")
ABOVE_ONE = Claim("Norm of the gradient", "where β_W β_h > 1 the gradient grows exponentially: it explodes")
ALL_NETWORKS = Claim(
    "Not of RNNs alone", "all neural structures have the problem, feed-forward and convolutional too, if deep"
)
UNSTABLE = Claim("Not of RNNs alone", "RNNs are the least stable, as they multiply by the same matrix again and again")

SLOW_LOW = Claim("Not of RNNs alone", "the gradient gets small on its way back: lower layers learn very slowly")

CURES: dict[str, tuple[str, Claim]] = {
    "identity": ("relu", Claim(
        "Cure: identity", "a recurrent matrix that starts as the identity eases vanishing over long chains")),
    "relu": ("tanh", Claim("Cure: ReLU", "its derivative is 0 or 1: gradients vanish less than with tanh")),
    "residual_time": ("tanh", Claim(
        "Cure: residual in time", "h_t = F(h_{t-1}, x_t) + h_{t-1} gives the gradient a direct path")),
    "residual": ("tanh_2", Claim(
        "Cure: residual across layers", "a direct path for the gradient: deep networks train more easily")),
    "highway": ("tanh_2", Claim("Cure: highway", "as the residual, with a gate between identity and layer")),
    "lstm": ("tanh", Claim("Cure: LSTM", "gates give the gradient a shortcut: vanishing is eased")),
    "gru": ("tanh", Claim("Cure: GRU", "gates give the gradient a shortcut: vanishing is eased")),
}  # fmt: skip
"""By network of the memory stage: the one without the cure, and what the notes say."""
DEPTH = {"residual", "highway"}
"""Cures whose direct path leads through the layers, not through time."""
CROSSED = "memory tasks, crossed with seeds"
Weights = Literal["initial", "trained"]
WEIGHTS: dict[Weights, str] = {"initial": "at the start", "trained": "trained"}
"""With which weights a gradient was measured, in words."""
TOKEN_MORE = "factor of the norm of d h_t / d h_k a token more, after the first"


def gradient_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    yield from exploding_findings(evidence)
    yield longest_lag_finding(evidence, "never_falls", NEVER_FALLS, "tanh", "lower") or not_tested(
        "never_falls", NEVER_FALLS, "the memory stage ran no plain RNN"
    )
    yield _late(evidence)
    yield from _vanishing(evidence)
    yield not_tested(
        "gradient_measure", MEASURE, "how a gradient is read: it is what the norms of d h_t / d h_k here stand for"
    )
    yield not_tested(
        "gradient_sum", SUM,
        "a formula, which tests hold to autograd. One slip of the notes: the derivative s' belongs at what the "
        "activation of step j is applied to, W h_{j-1} + W_x x_j, not at h_{j-1}",
    )  # fmt: skip
    yield from _bounds(evidence)
    yield from clipping_findings(evidence)
    for name, (plain, claim) in CURES.items():
        yield from _cure(evidence, name, plain, claim)
    yield not_tested("dense", Claim("Cure: dense", "everything is connected to everything directly"),
                     "no memory task is run with it; its perplexity is among the RNN variants")  # fmt: skip
    yield not_tested(
        "all_networks", ALL_NETWORKS, "feed-forward and convolutional networks of many layers are not built here; "
        "the depth of RNNs and connections across layers are tested above",
    )  # fmt: skip
    yield not_tested(
        "slow_low", SLOW_LOW, "no stage follows the updates of single layers during training; that a deep RNN learns "
        "worse, and that direct connections mend it, is tested (depth, RNN variants)",
    )  # fmt: skip
    yield not_tested(
        "unstable", UNSTABLE, "it needs the same network with another matrix at each step, which is no model of "
        "sequences of any length",
    )  # fmt: skip


def _late(evidence: Evidence) -> Finding:
    """The RNN's loss on the later words of the lines less that on the earlier ones, each line alone.

    Left out are the first word of a line, which has no context, and its end, which is no word. The two halves are of
    equal size but for ties: they meet at the median position.
    """
    name = evidence.rnn
    nats_SN = evidence.nats(name, "reset")
    if name is None or nats_SN is None:
        return not_tested("late_in_line", LATE, lacking(name))
    corpus = evidence.reports.nats.corpus
    ids_N, starts = np.asarray(corpus["test"].ids), corpus["test"].line_starts
    position_N = np.arange(len(ids_N)) - np.repeat(starts[:-1], np.diff(starts)) + 1
    words_N = (position_N > 1) & (ids_N != corpus.eos_id)
    middle = int(np.median(position_N[words_N])) if words_N.any() else 0
    late_N, early_N = words_N & (position_N > middle), words_N & (position_N <= middle)
    if not late_N.any() or not np.isfinite(nats_SN).all():
        return not_tested("late_in_line", LATE, "every line has two words at most, or a loss is infinite")
    sides = [
        Side(label, Estimate(float(nats_SN[:, chosen_N].mean()), None, None, len(nats_SN)))
        for label, chosen_N in ((f"words beyond {middle}", late_N), (f"words 2 to {middle}", early_N))
    ]
    return measured(
        "late_in_line", LATE, "nats a target of test, each line alone, by place in the line", sides[0], sides[1],
        "higher", evidence.contrast(nats_SN, late_N, early_N), (f"evaluate@{name}",), margin=evidence.margin,
        condition=name, note="the words at the two places are others",
    )  # fmt: skip


def _vanishing(evidence: Evidence) -> Iterator[Finding]:
    name = evidence.rnn
    found = evidence.gradients(name)
    if not found or name is None:
        yield not_tested("vanishing", VANISHING, lacking(name))
        yield not_tested("far_lost", FAR_LOST, lacking(name))
        return
    for weights, words in WEIGHTS.items():
        yield evidence.by_seed(
            f"vanishing_{weights}", VANISHING, TOKEN_MORE, (name, _growths(found, weights)), ("no change", 1.0),
            "lower", (f"probe@{name}",), condition=words,
        )  # fmt: skip
    halves = figures(found, lambda one: one.trained.layers[-1].loss_by_weights.half_life.tokens)
    yield evidence.by_seed(
        "far_lost", FAR_LOST, "tokens after which a word's share of dE/dW is half",
        (name, {seed: math.log(tokens) for seed, tokens in halves.items()}),
        ("tokens that training looks back", math.log(evidence.reports.params.train.bptt)), "lower", (f"probe@{name}",),
        scale="ratio", condition="trained",
    )  # fmt: skip


def _growths(found: Mapping[int, Gradients], weights: Weights) -> dict[int, float]:
    """Factor of the norm of d h_t / d S_k a token, by seed: below 1 it falls, above 1 it grows."""
    return figures(found, lambda one: _flow(one, weights).stack.growth)


def _flow(gradients: Gradients, weights: Weights) -> Flow:
    return gradients.initial if weights == "initial" else gradients.trained


def _bounds(evidence: Evidence) -> Iterator[Finding]:
    found = [
        (name, layer.bound)
        for name, probe in evidence.reports.probes.models.items()
        for seed in probe.seeds if seed.gradients is not None
        for flow in (seed.gradients.initial, seed.gradients.trained)
        for layer in flow.layers if layer.bound is not None
    ]  # fmt: skip
    if not found:
        for key, claim in (("bound", BOUND), ("below_one", BELOW_ONE), ("above_one", ABOVE_ONE)):
            yield not_tested(key, claim, "no vanilla RNN was probed")
        return
    checked = sum(bound.checked for _, bound in found)
    yield exact(
        "bound", BOUND, f"norms above it, of {count(checked)} that were checked",
        ("violations", sum(bound.violations for _, bound in found)), ("none", 0), "equal",
        tuple(dict.fromkeys(f"probe@{name}" for name, _ in found)),
    )  # fmt: skip
    yield _regime(evidence, "below_one", BELOW_ONE, "lower")
    yield _regime(evidence, "above_one", ABOVE_ONE, "higher")


def _regime(evidence: Evidence, key: str, claim: Claim, reading: Reading) -> Finding:
    """The growth of the gradient of the RNN of one layer of which most seeds have a product on one side of 1."""
    most: tuple[str, Weights, dict[int, Gradients]] = ("", "initial", {})
    for name in evidence.reports.left_to_right:
        for weights in WEIGHTS:
            of_side = {
                seed: one for seed, one in evidence.gradients(name).items()
                if (product := _product(_flow(one, weights))) is not None and (product < 1.0) == (reading == "lower")
            }  # fmt: skip
            most = max(most, (name, weights, of_side), key=lambda found: len(found[2]))
    name, weights, found = most
    if not found:
        side = "below" if reading == "lower" else "above"
        return not_tested(key, claim, f"no vanilla RNN of one layer here has a product {side} 1")
    products = [product for one in found.values() if (product := _product(_flow(one, weights))) is not None]
    limits = " to ".join(dict.fromkeys(number(limit, 3) for limit in (min(products), max(products))))
    return evidence.by_seed(
        key, claim, TOKEN_MORE, (name, _growths(found, weights)), ("no change", 1.0), reading, (f"probe@{name}",),
        condition=f"{WEIGHTS[weights]}: β_W β_h = {limits}",
        note="the condition is necessary, not sufficient (Pascanu, Mikolov & Bengio 2013)"
        if reading == "higher" else "",
    )  # fmt: skip


def _product(flow: Flow) -> float | None:
    """``beta_W beta_h`` of a vanilla RNN of one layer, None of all else."""
    bound = flow.layers[0].bound
    return None if bound is None or len(flow.layers) > 1 else bound.beta_W * bound.beta_h


def _cure(evidence: Evidence, name: str, plain: str, claim: Claim) -> Iterator[Finding]:
    """Whether the gradient shrinks less a step, and whether longer lags are solved."""
    report = evidence.reports.probes.memory
    labels = {key: variant.label for task in report.tasks.values() for key, variant in task.variants.items()}
    if name not in labels or plain not in labels:
        yield not_tested(f"cure_{name}", claim, "the memory stage ran no such network, or none without the cure")
        return
    pair = (name, plain)
    for weights, words in WEIGHTS.items():
        growths = by_task(report, pair, log_growth(weights))
        if growths is None:
            continue
        yield measured(
            f"cure_{name}_{weights}", claim, f"factor of the gradient's norm a step, {words}",
            Side(labels[name], geometric(growths[0])), Side(labels[plain], geometric(growths[1])), "higher",
            across_tasks(evidence, growths[0], growths[1]), ("memory",), ratio=True,
            condition=f"{growths[0].shape[1]} {CROSSED}",
            note="a step back in time; the direct path leads through the layers" if name in DEPTH else "",
        )  # fmt: skip
    lags = by_task(report, pair, lags_solved(report.lags))
    if lags is not None:
        yield measured(
            f"cure_{name}_lags", claim, f"lags solved, of {len(report.lags)}", Side(labels[name], average(lags[0])),
            Side(labels[plain], average(lags[1])), "higher", across_tasks(evidence, lags[0], lags[1], step=1.0),
            ("memory",), condition=f"{lags[0].shape[1]} {CROSSED}",
        )  # fmt: skip
