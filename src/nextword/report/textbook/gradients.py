"""The notes on vanishing and exploding gradients and their cures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from nextword.evaluation.statistics import Estimate
from nextword.report.finding import Claim, Finding, Reading, Side, not_tested
from nextword.report.probes.exploding import KINDS
from nextword.report.probes.schema import Flow, Gradients
from nextword.report.probes.seeds import figures
from nextword.report.tables import count, number
from nextword.report.textbook.evidence import (
    Evidence,
    apart,
    exact,
    growths,
    lacking,
    measured,
    over_pairs,
    share,
    solved,
)

NAN = Claim(
    "Exploding gradients", "the loss suddenly becomes NaN or very large; the worst case is Inf or NaN in the network"
)
LARGE_STEPS = Claim(
    "Exploding gradients", "with too large a gradient the step is too large: a bad update, a large loss"
)
NEVER_FALLS = Claim(
    "Vanishing gradients", "the loss does not fall for long; the model cannot learn dependencies from afar"
)
FAR_LOST = Claim(
    "Vanishing gradients", "the gradient from afar is much smaller than that from near: weights follow the near"
)
VANISHING = Claim("Vanishing gradients", "in backpropagation the gradient shrinks from step to step")
BOUND = Claim("Norm of the gradient", "it is at most (β_W β_h)^(t-k)")
BELOW_ONE = Claim("Norm of the gradient", "where β_W β_h < 1 the gradient vanishes exponentially")
ABOVE_ONE = Claim("Norm of the gradient", "where β_W β_h > 1 the gradient grows exponentially: it explodes")
CLIPPING = Claim("Gradient clipping", "it keeps exploding gradients from making training unstable (NaN)")
ALL_NETWORKS = Claim(
    "Not of RNNs alone", "all neural structures have the problem, feed-forward and convolutional too, if deep"
)
UNSTABLE = Claim("Not of RNNs alone", "RNNs are the least stable, as they multiply by the same matrix again and again")
RESTART = Claim("Exploding gradients", "training must then start again from an earlier checkpoint")

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

WEIGHTS = {"initial": "at the start", "trained": "trained"}
"""With which weights a gradient was measured, in words."""
TOKEN_MORE = "factor of the norm of d h_t / d h_k a token more, after the first"


def gradient_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    yield from _exploding(evidence)
    yield not_tested("restart", RESTART, "a rule of conduct: here a diverged run ends and is reported as such")
    yield _never_falls(evidence)
    yield from _vanishing(evidence)
    yield from _bounds(evidence)
    yield from _clipping(evidence)
    for name, (plain, claim) in CURES.items():
        yield from _cure(evidence, name, plain, claim)
    yield not_tested("dense", Claim("Cure: dense", "everything is connected to everything directly"),
                     "no memory task is run with it; its perplexity is among the RNN variants")  # fmt: skip
    yield not_tested(
        "all_networks", ALL_NETWORKS, "feed-forward and convolutional networks of many layers are not built here; "
        "the depth of RNNs and connections across layers are tested above",
    )  # fmt: skip
    yield not_tested(
        "unstable", UNSTABLE, "it needs the same network with another matrix at each step, which is no model of "
        "sequences of any length",
    )  # fmt: skip


def _exploding(evidence: Evidence) -> Iterator[Finding]:
    report = evidence.reports.probes.exploding
    for kind, label in KINDS.items():
        free = [s for s in report.settings if s.kind == kind and not s.clipped]
        if len(free) < 2:
            continue
        low, high = ([s for s in free if (s.scale > 1.0) == above] for above in (False, True))
        if low and high:
            sides = [
                Side(name, share((i < s.diverged.count for s in of for i in range(s.diverged.of)), evidence.confidence))
                for name, of in (("scale above 1", high), ("scale up to 1", low))
            ]
            yield measured(
                f"nan_{kind}",
                NAN,
                f"share of {label} runs that diverge, without clipping",
                sides[0],
                sides[1],
                "higher",
                apart(sides[0].value, sides[1].value),
                ("exploding",),
                note="scale: of the recurrent matrix; diverged: not finite, or a loss above 1.5 times ln V",
            )
        ends = min(free, key=lambda s: s.scale), max(free, key=lambda s: s.scale)
        norms = [[math.log(r.largest_grad_norm) for r in s.runs if r.largest_grad_norm] for s in ends]
        if norms[0] and len(norms[0]) == len(norms[1]):
            gap = over_pairs(norms[1], norms[0], evidence.confidence)
            names = [f"scale {s.scale:g}" for s in ends]
            means = [Estimate(math.exp(math.fsum(values) / len(values)), None, None, len(values)) for values in norms]
            yield measured(
                f"large_steps_{kind}", LARGE_STEPS, f"largest norm of the gradient of the {label} network",
                Side(names[1], means[1]), Side(names[0], means[0]), "higher", gap, ("exploding",), ratio=True,
                condition="without clipping, seeds paired",
            )  # fmt: skip
    if not report.settings:
        yield not_tested("nan", NAN, "the exploding stage ran no setting")


def _never_falls(evidence: Evidence) -> Finding:
    """What the plain RNN solves at the shortest and at the longest lag of the memory tasks."""
    report = evidence.reports.probes.memory
    lags = min(report.lags), max(report.lags)
    sides = []
    for lag in lags:
        runs = [
            reached >= lag for task in report.tasks.values() if "tanh" in task.variants
            for reached in task.variants["tanh"].longest_lag.by_seed
        ]  # fmt: skip
        sides.append(Side(f"lag {lag}", share(runs, evidence.confidence)))
    if sides[0].value is None:
        return not_tested("never_falls", NEVER_FALLS, "the memory stage ran no plain RNN")
    return measured(
        "never_falls", NEVER_FALLS, "share of memory tasks and seeds that the tanh RNN solves", sides[1], sides[0],
        "lower", apart(sides[1].value, sides[0].value), ("memory",),
    )  # fmt: skip


def _vanishing(evidence: Evidence) -> Iterator[Finding]:
    name = evidence.rnn
    found = evidence.gradients(name)
    if not found or name is None:
        yield not_tested("vanishing", VANISHING, lacking(name))
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


def _growths(found: Mapping[int, Gradients], weights: str) -> dict[int, float]:
    """Factor of the norm of d h_t / d S_k a token, by seed: below 1 it falls, above 1 it grows."""
    return figures(found, lambda one: _flow(one, weights).stack.growth)


def _flow(gradients: Gradients, weights: str) -> Flow:
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
        yield not_tested("bound", BOUND, "no vanilla RNN was probed")
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
    most: tuple[str, str, dict[int, Gradients]] = ("", "", {})
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


def _clipping(evidence: Evidence) -> Iterator[Finding]:
    report = evidence.reports.probes.exploding
    for kind, label in KINDS.items():
        sides = []
        for name, clipped in (("clipped", True), ("not clipped", False)):
            of = [s.diverged for s in report.settings if s.kind == kind and s.clipped == clipped]
            runs = (run < found.count for found in of for run in range(found.of))
            sides.append(Side(name, share(runs, evidence.confidence)))
        if any(side.value is None for side in sides):
            yield not_tested(f"clipping_{kind}", CLIPPING, f"no {label} network was trained with clipping and without")
            continue
        yield measured(
            f"clipping_{kind}",
            CLIPPING,
            f"share of {label} runs that diverge, over all scales",
            sides[0],
            sides[1],
            "lower",
            apart(sides[0].value, sides[1].value),
            ("exploding",),
            condition=f"clipped at {report.clip_norm:g}",
        )


def _cure(evidence: Evidence, name: str, plain: str, claim: Claim) -> Iterator[Finding]:
    """Whether the gradient shrinks less a step, and whether longer lags are solved."""
    report = evidence.reports.probes.memory
    labels = {key: variant.label for task in report.tasks.values() for key, variant in task.variants.items()}
    if name not in labels or plain not in labels:
        yield not_tested(f"cure_{name}", claim, "the memory stage ran no such network, or none without the cure")
        return
    for weights, words in (("initial", "at the start"), ("trained", "trained")):
        with_it, without = growths(report, name, weights), growths(report, plain, weights)
        tasks = [task for task in with_it if task in without]
        if not tasks:
            continue
        pairs = [with_it[task] for task in tasks], [without[task] for task in tasks]
        gap = over_pairs(*pairs, evidence.confidence)
        means = [Estimate(math.exp(math.fsum(values) / len(values)), None, None, len(values)) for values in pairs]
        yield measured(
            f"cure_{name}_{weights}", claim, f"factor of the gradient's norm a step, {words}",
            Side(labels[name], means[0]), Side(labels[plain], means[1]), "higher", gap, ("memory",), ratio=True,
            condition=f"{len(tasks)} memory tasks, paired",
        )  # fmt: skip
    lags = solved(report, name), solved(report, plain)
    if lags[0] and lags[1] and len(lags[0]) == len(lags[1]):
        of = [Estimate(math.fsum(values) / len(values), None, None, len(values)) for values in lags if values]
        yield measured(
            f"cure_{name}_lags", claim, f"lags solved, of {len(report.lags)}", Side(labels[name], of[0]),
            Side(labels[plain], of[1]), "higher", over_pairs(lags[0], lags[1], evidence.confidence), ("memory",),
            condition="memory tasks and seeds, paired",
        )  # fmt: skip
