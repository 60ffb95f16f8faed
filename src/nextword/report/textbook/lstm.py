"""The notes on LSTM and GRU: memory, ablations, drawbacks. The table that sets them against each other is apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nextword.report.finding import Claim, Finding, Reading, not_tested, over_seeds
from nextword.report.probes.seeds import far_worth, figures, stack_growth
from nextword.report.tables import count, number
from nextword.report.textbook.evidence import Evidence, exact, lacking
from nextword.report.textbook.rnn import slower
from nextword.report.textbook.tasks import longest_lag_finding
from nextword.report.textbook.variants import variant_findings
from nextword.report.variant_claims import ABLATION

FAR = Claim("LSTM: memory", "it solves dependencies from afar, which the RNN loses")
PERPLEXITY = Claim("LSTM: memory", "gates solve the problems of the RNN: better memory, keeps or forgets by choice")
SHORTCUT = Claim("LSTM: cell state", "the cell state is a shortcut for the gradient")
NO_VANISHING = Claim("LSTM: cell state", "it avoids vanishing gradients")
EQUATIONS = Claim("LSTM: structure", "its three gates, new content, cell state and hidden state, as equations")
STATE = Claim("LSTM: structure", "its hidden state keeps long memory, which sets it apart from the RNN")
LENGTHS = Claim("LSTM: structure", "gates, new content, cell state and hidden state are vectors of the same length")
ACTIVATIONS = Claim(
    "LSTM: activations", "sigmoid suits gates as it opens and closes; tanh suits states: symmetric, eases vanishing"
)
STANDARD = Claim("LSTM ablations: V", "the standard LSTM with all gates and activations is the best")
COUPLED = Claim("LSTM ablations: CIFG", "input and forget gate coupled into one: fewer parameters")
FULL = Claim("LSTM ablations: FGR", "gates that feed back into all gates: many more parameters")
FULL_OVERFITS = Claim("LSTM ablations: FGR", "with so many parameters it may overfit")
FORGET = Claim("LSTM ablations: NFG", "of the gates, losing the forget gate costs most")
ACTIVATION = Claim("LSTM ablations: summary", "the forget gate and the output activation matter most")
SIMPLER = Claim("LSTM ablations: summary", "by task and means the LSTM may be made simpler, as the GRU is")
PARAMETERS = Claim("LSTM: drawbacks", "complex, with many parameters: many more than the plain RNN")
SLOW = Claim("LSTM: drawbacks", "costly to compute and slow to train: each step takes longer than the RNN's")
SERIAL = Claim("LSTM: drawbacks", "hard to run in parallel: each step waits for the one before")
STILL_LIMITED = Claim("LSTM: drawbacks", "over very long sequences its memory is limited still")
OVERFITTING = Claim("LSTM: drawbacks", "risk of overfitting where there is little data: many parameters")
ONE_GATE = Claim("GRU", "it merges the input and the forget gate into one")
GRU_EQUATIONS = Claim("GRU", "its update gate, reset gate, candidate and hidden state, as equations")
GRU_GATES = Claim("GRU", "the reset gate says how much of the past is forgotten, the update gate how much new comes in")
GRU_MEMORY = Claim("GRU", "its gates ease vanishing gradients too: it remembers longer than the RNN")


def lstm_findings(evidence: Evidence) -> Iterator[Finding]:
    """In the order of the notes."""
    rnn, lstm, gru = evidence.rnn, evidence.lstm, evidence.gru
    yield not_tested("lstm_lengths", LENGTHS, "how the cell is built, which its tests check")
    yield not_tested("lstm_equations", EQUATIONS, "definitions: tests hold the cell to torch's LSTM")
    yield not_tested(
        "lstm_state", STATE, "which vector keeps what is a reading of the equations (there it is the cell state); that "
        "the network as a whole remembers longer is tested by the memory tasks (Cure: LSTM) and on text below",
    )  # fmt: skip
    yield not_tested(
        "lstm_activations", ACTIVATIONS, "reasons for a design; what the two tanh give is tested by NIAF and NOAF below"
    )
    yield from _ablations(evidence)
    yield _far("lstm_far", FAR, evidence, lstm, rnn)
    yield evidence.perplexity("lstm_rnn", PERPLEXITY, lstm, rnn, "lower", protocol="stateful")
    yield _shortcut(evidence)
    yield _kept("lstm_vanishing", NO_VANISHING, evidence, lstm, rnn)
    yield from _drawbacks(evidence, lstm, rnn)
    yield not_tested(
        "gru_equations", GRU_EQUATIONS, "definitions: tests hold this cell to them, and its sibling that resets after "
        "the matrix product to torch's GRU",
    )  # fmt: skip
    yield not_tested(
        "gru_one_gate", ONE_GATE,
        "equations, not data. The notes say that the two become the reset gate; in their own equations it is the "
        "update gate z that forgets (1 - z) and lets in (z), while the reset gate acts on the candidate alone",
    )  # fmt: skip
    yield not_tested("gru_gates", GRU_GATES, "a reading of the equations: no number tells what a gate is for")
    yield _far("gru_far", GRU_MEMORY, evidence, gru, rnn)
    yield _kept("gru_vanishing", GRU_MEMORY, evidence, gru, rnn)


def _far(key: str, claim: Claim, evidence: Evidence, a: str | None, b: str | None) -> Finding:
    """What the words beyond the longest context that was probed are worth."""
    found = [evidence.contexts(name) for name in (a, b)]
    if a is None or b is None or not all(found):
        return not_tested(key, claim, lacking(a, b))
    longest = max(length for one in found[0].values() for length in one.lengths)
    return evidence.by_seed(
        key, claim, f"nats a target that the words beyond the last {longest} are worth",
        (a, figures(found[0], far_worth)), (b, figures(found[1], far_worth)), "higher", (f"probe@{a}", f"probe@{b}"),
        condition="the same targets",
    )  # fmt: skip


def _kept(key: str, claim: Claim, evidence: Evidence, a: str | None, b: str | None) -> Finding:
    """How much of the gradient each token leaves, in the trained models."""
    found = [evidence.gradients(name) for name in (a, b)]
    if a is None or b is None or not all(found):
        return not_tested(key, claim, lacking(a, b))
    return evidence.by_seed(
        key, claim, "factor of the gradient's norm a token more, trained", (a, figures(found[0], stack_growth)),
        (b, figures(found[1], stack_growth)), "higher", (f"probe@{a}", f"probe@{b}"), condition="after the first step",
    )  # fmt: skip


def _shortcut(evidence: Evidence) -> Finding:
    """The way through the cell state against the way through the gates, in the trained LSTM."""
    name = evidence.lstm
    tops = {seed: one.trained.layers[-1] for seed, one in evidence.gradients(name).items()}
    if name is None or not tops or any(top.c is None for top in tops.values()):
        return not_tested("lstm_shortcut", SHORTCUT, lacking(name))
    cell = figures(tops, lambda top: None if top.c is None else top.c.growth)
    return evidence.by_seed(
        "lstm_shortcut", SHORTCUT, "factor of the norm a token more, top layer, trained", ("d c_t / d c_k", cell),
        ("d h_t / d h_k", figures(tops, lambda top: top.h.growth)), "higher", (f"probe@{name}",),
        condition=f"{name}, after the first step",
    )  # fmt: skip


def _ablations(evidence: Evidence) -> Iterator[Finding]:
    models = evidence.reports.params.models
    group = {
        models[name].kind: name for name in reversed(list(evidence.reports.left_to_right))
        if models[name].group == ABLATION.group
    }  # fmt: skip
    standard = group.get("lstm_peephole")
    others = [name for kind, name in group.items() if kind != "lstm_peephole"]
    valid = {
        name: max(found.values()) for name in others
        if (found := evidence.reports.neural[name].log_perplexity("valid", "stateful"))
    }  # fmt: skip
    best = min(valid, key=lambda name: valid[name], default=None)
    yield evidence.perplexity(
        "ablation_standard", STANDARD, standard, best, "not higher", protocol="stateful",
        condition="V against the best of the others, chosen on valid",
    )  # fmt: skip
    yield from variant_findings(evidence, ABLATION)
    yield _size(evidence, "ablation_cifg_parameters", COUPLED, group.get("lstm_cifg"), standard, "lower")
    yield _size(evidence, "ablation_fgr_parameters", FULL, group.get("lstm_fgr"), standard, "higher")
    yield _overfits(evidence, group.get("lstm_fgr"), standard)
    for kind in ("lstm_nig", "lstm_nog"):
        yield evidence.perplexity(
            f"ablation_forget_{kind}", FORGET, group.get("lstm_nfg"), group.get(kind), "higher", protocol="stateful"
        )
    for kind in ("lstm_nfg", "lstm_noaf"):
        rest = {name: value for name, value in valid.items() if models[name].kind not in ("lstm_nfg", "lstm_noaf")}
        worst = max(rest, key=lambda name: rest[name], default=None)
        yield evidence.perplexity(
            f"ablation_most_{kind}", ACTIVATION, group.get(kind), worst, "higher", protocol="stateful",
            condition="against the worst of the other variants, chosen on valid",
        )  # fmt: skip
    yield not_tested("ablation_simpler", SIMPLER, "advice; GRU against LSTM has a table of its own")


def _size(evidence: Evidence, key: str, claim: Claim, a: str | None, b: str | None, reading: Reading) -> Finding:
    if a is None or b is None:
        return not_tested(key, claim, lacking(a, b))
    sizes = [(name, evidence.reports.neural[name].train.num_parameters.recurrent or 0) for name in (a, b)]
    return exact(
        key, claim, "parameters of the recurrent layers", sizes[0], sizes[1], reading, (f"train@{a}", f"train@{b}"),
        f"{number(sizes[0][1] / sizes[1][1], 3)} times as many" if sizes[1][1] else "",
    )  # fmt: skip


def _overfits(evidence: Evidence, a: str | None, b: str | None) -> Finding:
    """The gap between test and train of a variant against that of the standard LSTM."""
    if a is None or b is None:
        return not_tested("ablation_fgr_overfitting", FULL_OVERFITS, lacking(a, b))
    gaps = [(name, evidence.reports.neural[name].generalization_gap()) for name in (a, b)]
    found = over_seeds(
        "ablation_fgr_overfitting", FULL_OVERFITS, "test less train, nats a token, stateful", gaps[0], gaps[1],
        "higher", "difference", confidence=evidence.confidence,
    )  # fmt: skip
    return replace(found, condition="equal hidden size and steps", sources=(f"evaluate@{a}", f"evaluate@{b}"))


def _overfitting(evidence: Evidence) -> Iterator[Finding]:
    """On the smallest part of train, against the GRU, which has fewer parameters; and against more text."""
    found = evidence.reports.probes.capacity
    texts = sorted(found.real.sizes)
    if not texts or not {"lstm", "gru"} <= found.networks.keys():
        yield not_tested("lstm_overfitting", OVERFITTING, "the capacity stage trained no LSTM beside a GRU")
        return
    small, large = texts[0], texts[-1]

    def side(network: str, size: int) -> tuple[str, dict[int, float]]:
        return f"{network}, {count(size)} tokens", found.real.by_seed(network, size, "gap")

    pairs = {"lstm_overfitting": (("lstm", small), ("gru", small))}
    if large > small:
        pairs["lstm_overfitting_data"] = (("lstm", small), ("lstm", large))
    sizes = [count(found.networks[network].hidden_parameters) for network in ("lstm", "gru")]
    conditions = (
        f"as many steps, no regularisation, {sizes[0]} parameters outside embedding and output against {sizes[1]}",
        "as many steps, no regularisation, seeds paired",
    )
    for (key, (one, other)), condition in zip(pairs.items(), conditions, strict=False):
        finding = over_seeds(
            key, OVERFITTING, "valid less train, nats a token", side(*one), side(*other), "higher", "difference",
            confidence=evidence.confidence,
        )  # fmt: skip
        yield replace(finding, condition=condition, sources=("capacity",))


def _drawbacks(evidence: Evidence, lstm: str | None, rnn: str | None) -> Iterator[Finding]:
    if lstm is None or rnn is None:
        for key, claim in (("parameters", PARAMETERS), ("slow", SLOW)):
            yield not_tested(f"lstm_{key}", claim, lacking(lstm, rnn))
    else:
        yield _size(evidence, "lstm_parameters", PARAMETERS, lstm, rnn, "higher")
        yield slower("lstm_slow", SLOW, evidence, lstm, rnn, "")
    yield from _overfitting(evidence)
    yield not_tested(
        "lstm_serial", SERIAL, "true of every recurrence by its equations; what hardware makes of it is in the table "
        "of GRU against LSTM (parallelism)",
    )  # fmt: skip
    yield longest_lag_finding(evidence, "lstm_limited", STILL_LIMITED, "lstm", "lower") or not_tested(
        "lstm_limited", STILL_LIMITED, "the memory stage ran no LSTM"
    )
