"""The notes on the RNN and its variants: context, cost, both directions, depth, connections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

import numpy as np

from nextword.report.bidirectional import bidirectional_pairs
from nextword.report.finding import Claim, Finding, Side, not_tested, over_seeds
from nextword.report.leaderboard import estimate_metric
from nextword.report.probes.seeds import far_worth, figures
from nextword.report.schema import PROTOCOLS
from nextword.report.tables import count
from nextword.report.textbook.evidence import Evidence, exact, lacking
from nextword.report.textbook.variants import variant_findings
from nextword.report.variant_claims import RNN_VARIANTS

BETTER = Claim("RNN against NNLM", "a structure is needed that can take input of any length")
ANY_LENGTH = Claim("RNN", "the same network, with the same weights, at every step: input of any length")
EQUATIONS = Claim("RNN", "its state h_t = tanh(W_hh h_{t-1} + W_xh x_t + b), its output and its loss")
ALL_WORDS = Claim("RNN", "it can condition on all words before, not on a window")
FAR = Claim("RNN: limits", "dependencies from afar are hard to catch: what is too far has little effect")
SLOW = Claim("RNN: limits", "slow, as each step waits for the one before: no parallel computing along the sequence")
BOTH_SIDES = Claim("Bidirectional RNN", "it uses the words before and after, merged from two directions")
TWICE = Claim("Bidirectional RNN", "it takes twice the room for weights and biases")
POWER = Claim("Depth", "more layers raise expressive power")
COMPLEX = Claim("Depth", "depth helps to learn more complex relations in a sequence")
ABSTRACTION = Claim("Depth", "low layers catch low features, high layers abstractions")
HARDER = Claim("Depth", "depth brings training difficulties: vanishing and exploding gradients")


def rnn_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    rnn, nnlm = evidence.rnn, evidence.nnlm
    yield evidence.perplexity(
        "rnn_nnlm", BETTER, rnn, nnlm, "lower", protocol="stateful",
        condition="all words before against a window", note="read as: the RNN is better than the NNLM",
    )  # fmt: skip
    yield not_tested(
        "rnn_equations", EQUATIONS, "definitions: tests hold the cell to torch's RNN, the loss to torch's cross-entropy"
    )
    yield not_tested("rnn_any_length", ANY_LENGTH, "how the model is built: it runs on sequences of any length")
    yield _all_words(evidence)
    yield _far(evidence)
    yield _slow(evidence)
    yield not_tested(
        "both_sides", BOTH_SIDES,
        "what a bidirectional model fills in is another task than predicting the next word: the two perplexities do "
        "not compare (table of bidirectional models)",
    )  # fmt: skip
    yield _twice(evidence)
    yield from _depth(evidence)
    yield from variant_findings(evidence, RNN_VARIANTS)


def _all_words(evidence: Evidence) -> Finding:
    """What the lines before the present one are worth to the RNN."""
    name = evidence.rnn
    carried_SN, reset_SN = evidence.nats(name, "stateful"), evidence.nats(name, "reset")
    if name is None or carried_SN is None or reset_SN is None:
        return not_tested("rnn_all_words", ALL_WORDS, lacking(name))
    # One seed is one model under both protocols: what varies over seeds is the difference of the two.
    gap = evidence.gap(carried_SN - reset_SN, np.zeros_like(reset_SN[:1]), b_exact=True)
    model = evidence.reports.neural[name]
    values = [estimate_metric(model.metrics("test", p), "perplexity", evidence.confidence) for p in PROTOCOLS]
    found = evidence.perplexities(
        "rnn_all_words", ALL_WORDS, "test perplexity", Side("all words before", values[0]),
        Side("the line alone", values[1]), "lower", gap, (f"evaluate@{name}",),
        condition=f"{name}, seeds paired", note="read as: the words of earlier lines help",
    )  # fmt: skip
    return replace(found, effect=gap.effect)


def _far(evidence: Evidence) -> Finding:
    """What lies beyond the longest context that was probed, to the RNN and to the LSTM."""
    rnn, lstm = evidence.rnn, evidence.lstm
    found = [evidence.contexts(name) for name in (rnn, lstm)]
    if rnn is None or lstm is None or not all(found):
        return not_tested("rnn_far", FAR, lacking(rnn, lstm))
    longest = max(length for one in found[0].values() for length in one.lengths)
    return evidence.by_seed(
        "rnn_far", FAR, f"nats a target that the words beyond the last {longest} are worth",
        (rnn, figures(found[0], far_worth)), (lstm, figures(found[1], far_worth)), "lower",
        (f"probe@{rnn}", f"probe@{lstm}"), condition="the same targets",
        note="read as: they are worth less to the RNN than to the LSTM",
    )  # fmt: skip


def _slow(evidence: Evidence) -> Finding:
    """Against the NNLM, whose positions wait for nothing: that the two run differently is what the claim is about."""
    names = evidence.rnn, evidence.nnlm
    found = slower("rnn_slow", SLOW, evidence, *names, "read as: fewer tokens a second than the NNLM", "engine")
    models = [evidence.reports.neural[name] for name in names if name is not None]
    if len(models) < 2 or found.difference is None:
        return found
    engines = ["/".join(sorted({str(model.runs[seed].engine) for seed in model.finished})) for model in models]
    sizes = [count(model.train.num_parameters.total) for model in models]
    alike = f"{sizes[0]} and {sizes[1]} parameters, engines {engines[0]} and {engines[1]}"
    return replace(found, condition="; ".join(filter(None, (found.condition, alike))))


def slower(
    key: str, claim: Claim, evidence: Evidence, a: str | None, b: str | None, note: str, *by_nature: str
) -> Finding:
    """Tokens a second in training; both sides must have run in the same way, but for what differs ``by_nature``."""
    if a is None or b is None:
        return not_tested(key, claim, lacking(a, b))
    models = [evidence.reports.neural[name] for name in (a, b)]
    speeds = [
        {seed: math.log(value) for seed, value in model.training("tokens_per_second").items() if value > 0}
        for model in models
    ]
    if not all(speeds):
        return not_tested(key, claim, lacking(a, b))
    found = over_seeds(
        key, claim, "tokens a second in training", (a, speeds[0]), (b, speeds[1]), "lower", "ratio",
        confidence=evidence.confidence,
    )  # fmt: skip
    unlike = models[0].unlike(models[1], *by_nature)
    if unlike:
        found = replace(found, verdict="undecided", basis="nothing")
        unlike = f"not run alike, so programs are compared, not networks: {unlike}"
    return replace(
        found, note="; ".join(filter(None, (note, found.note, unlike))), sources=(f"train@{a}", f"train@{b}")
    )


def _twice(evidence: Evidence) -> Finding:
    models = evidence.reports.params.models
    alike = ("hidden_size", "embedding_size", "num_layers", "connection")
    for pair in bidirectional_pairs(evidence.reports):
        if pair.counterpart is None:
            continue
        names = pair.bidirectional.name, pair.counterpart.name
        own, other = (evidence.reports.neural[name].train.num_parameters.recurrent for name in names)
        if own and other and all(getattr(models[names[0]], key) == getattr(models[names[1]], key) for key in alike):
            return exact(
                "twice", TWICE, "parameters of the recurrent layers", (names[0], own), (f"twice {names[1]}", 2 * other),
                "equal", (f"train@{names[0]}", f"train@{names[1]}"),
            )  # fmt: skip
    return not_tested("twice", TWICE, "no bidirectional model with a left-to-right one of its size in params.yaml")


def _best_of_depth(evidence: Evidence, deep: str) -> str:
    """Of the models that differ from a deep plain one in their connections at most, that which fits train best."""
    models = evidence.reports.params.models
    alike = [
        name for name in evidence.reports.left_to_right
        if models[name].model_copy(update={"connection": "plain"}) == models[deep]
    ]  # fmt: skip
    fits = {name: evidence.reports.neural[name].log_perplexity("train_sample", "stateful").values() for name in alike}
    return min((name for name in alike if fits[name]), key=lambda name: fmean(fits[name]), default=deep)


def _depth(evidence: Evidence) -> Iterator[Finding]:
    models = evidence.reports.params.models
    deep = next(
        (name for name in evidence.reports.left_to_right
         if models[name].kind == "rnn" and models[name].num_layers > 1 and models[name].connection == "plain"), None,
    )  # fmt: skip
    flat = None if deep is None else next(
        (name for name in evidence.reports.left_to_right
         if name != deep
         and models[name].model_copy(update={"num_layers": models[deep].num_layers}) == models[deep]), None,
    )  # fmt: skip
    if deep is None or flat is None:
        why = "params.yaml names no deep plain RNN beside the same one of one layer"
        for key, claim in (("power", POWER), ("complex", COMPLEX), ("harder", HARDER)):
            yield not_tested(f"depth_{key}", claim, why)
    else:
        equal = "equal width and steps"
        best = _best_of_depth(evidence, deep)
        for key, claim, split in (("power", POWER, "train_sample"), ("complex", COMPLEX, "test")):
            found = evidence.perplexity(
                f"depth_{key}", claim, best, flat, "lower", split=split, condition=equal,
                note="of all networks of this depth the one that fits train best",
            )  # fmt: skip
            if found.verdict == "contradicted":
                why = "badly trained, it says nothing of what its depth can do"
                found = replace(found, verdict="undecided", basis="nothing", note=f"{found.note}; {why}")
            yield found
        found = evidence.perplexity("depth_harder", HARDER, deep, flat, "higher", split="train_sample", condition=equal)
        lost = [sum(run.status == "diverged" for run in evidence.reports.neural[n].runs.values()) for n in (deep, flat)]
        yield replace(
            found,
            sources=(*found.sources, f"train@{deep}", f"train@{flat}"),
            note=f"read as: after as many steps it fits train less well; seeds diverged: {lost[0]} and {lost[1]}; that "
            "gradients are the reason is not tested by it",
        )
    yield not_tested(
        "depth_abstraction", ABSTRACTION, "what a layer has caught needs a probe by layer and labelled text"
    )
