"""What the networks can express, how far they remember, and how much they overfit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from nextword.evaluation.statistics import Difference, Estimate
from nextword.report.claims import EXPRESSIVE_POWER, MEMORY, OVERFITTING
from nextword.report.collect import Neural
from nextword.report.crossed import perplexity_finding
from nextword.report.finding import Finding, Side
from nextword.report.pairwise.pair import Pair
from nextword.report.probes.networks import RealText
from nextword.report.probes.schema import EffectiveLength, HalfLife
from nextword.report.tables import INFINITE, count


def capacity_findings(pair: Pair) -> Iterator[Finding]:
    """Train loss without regularisation, bits of random text memorised, and the trained models' train perplexity."""
    found = pair.reports.probes.capacity
    if found.real.sizes:
        size = min(found.real.sizes)
        sides = [found.real.by_seed(name, size, "train_nats") for name in pair.networks]
        measured = (
            f"train loss without regularisation, nats a token ({count(size)} tokens of train, "
            f"{count(found.real.seen_tokens)} trained on)"
        )
        if all(sides):
            yield pair.seeds(
                "train_loss_free",
                EXPRESSIVE_POWER,
                measured,
                pair.networks,
                [*sides],
                "lower",
                "difference",
                "capacity",
                margin=pair.margin,  # the logarithm of a ratio of perplexities
            )
    for key, measured in (
        ("bits", "bits memorised, of random text"),
        ("bits_per_parameter", "bits a parameter, of random text memorised"),
    ):
        sides = [_bits(pair, name, key) for name in pair.networks]
        if all(sides):
            yield pair.seeds(
                key, EXPRESSIVE_POWER, measured, pair.networks, [*sides], "higher", "difference", "capacity"
            )
    if all(model.metrics("train_sample", "stateful") or not model.finished for model in (pair.lstm, pair.gru)):
        finding = perplexity_finding(
            pair.reports, "train_perplexity", EXPRESSIVE_POWER, pair.names, "lower", "train_sample"
        )
        yield replace(finding, condition=pair.condition)


def _bits(pair: Pair, network: str, field: str) -> dict[int, float]:
    """By seed, of the length of which most was memorised."""
    best: dict[int, float] = {}
    for run in pair.reports.probes.capacity.random.runs:
        if run.network == network:
            best[run.seed] = max(best.get(run.seed, 0.0), float(getattr(run, field)))
    return best


# ------------------------------------------------------------------------------------ far dependencies


def memory_findings(pair: Pair) -> Iterator[Finding]:
    """Longest lag solved of each memory task, gradient half-life and effective context on test."""
    if not pair.matched:
        yield from _tasks(pair)
    stages = pair.stages("probe")
    probes = [pair.reports.probes.models[name] for name in pair.names]
    flows = [probe.gradients.trained for probe in probes if probe.gradients]
    if len(flows) == 2:
        lives = [_half_life(flow.stack.half_life) for flow in flows]
        note = f"{INFINITE}: not within {flows[0].max_lag} tokens" if _beyond(lives) else ""
        measured = "gradient half-life, tokens after which its norm has halved, on test"
        yield _one_seed(pair, "half_life", measured, lives, stages, note)
    contexts = [probe.context for probe in probes if probe.context]
    if len(contexts) == 2:
        lengths = [_effective(context.effective_length) for context in contexts]
        tolerance = f"{contexts[0].effective_length.tolerance:.0%}"
        measured = f"context used, tokens, to within {tolerance} of the loss, on test"
        note = f"{INFINITE}: more than {max(contexts[0].lengths)}" if _beyond(lengths) else ""
        yield _one_seed(pair, "effective_context", measured, lengths, stages, note)


def _beyond(values: Sequence[Estimate]) -> bool:
    return any(math.isinf(value.mean) for value in values)


def _tasks(pair: Pair) -> Iterator[Finding]:
    """One task each; a lag of 0 (none solved) counts as half the shortest.

    The lags tried are steps of a ladder: only what is more than its largest step apart is called further.
    """
    memory = pair.reports.probes.memory
    names = ("lstm", pair.gru.train.kind)
    floor = min(memory.lags) / 2.0
    ladder = sorted((floor, *memory.lags))
    step = max(math.log(high / low) for low, high in pairwise(ladder))
    for task, found in memory.tasks.items():
        if any(name not in found.variants for name in names):
            continue
        sides = [
            {
                seed: math.log(max(lag, floor))
                for seed, lag in zip(memory.seeds, found.variants[name].longest_lag.by_seed, strict=True)
            }
            for name in names
        ]
        measured = f"longest lag solved, task {task.replace('_', ' ')} (hidden size {memory.hidden_size})"
        yield pair.seeds(
            f"lag_{task}", MEMORY, measured, names, [*sides], "higher", "ratio", "memory", margin=step, step=step
        )


def _half_life(found: HalfLife) -> Estimate:
    """Infinite where the norm does not come down to half within the lags."""
    if found.tokens is None:
        return Estimate(math.inf, None, None, 1)
    return Estimate(found.tokens, found.low, found.high, 1)


def _effective(found: EffectiveLength) -> Estimate:
    if found.tokens is None:
        return Estimate(math.inf, None, None, 1)
    return Estimate(found.tokens, found.low, found.high, 1)


def _one_seed(
    pair: Pair, key: str, measured: str, values: list[Estimate], stages: tuple[str, ...], note: str
) -> Finding:
    """What is probed on one seed of each decides nothing: its interval is over positions of the text alone."""
    a, b = values
    finite = all(0.0 < value.mean < math.inf for value in values)
    gap = Difference(math.log(a.mean / b.mean), None, None, "none") if finite else None
    notes = "; ".join(filter(None, ("one seed of each is probed", note)))
    one, other = (Side(name, value) for name, value in zip(pair.names, values, strict=True))
    return Finding(
        key, MEMORY, measured, one, other, "higher", "ratio", gap, "undecided", condition=pair.condition, note=notes,
        sources=stages,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------- overfitting


def overfitting_findings(pair: Pair) -> Iterator[Finding]:
    """Gap between test and train, best epoch; without regularisation the gap on little and on much text, and its fall.

    What overfits where there is little text has a gap that falls by more as there is more.
    """
    yield from pair.by_seed(
        "gap", OVERFITTING, "test less train, nats a token, stateful", Neural.generalization_gap, "higher",
        "difference", *pair.stages("evaluate"),
    )  # fmt: skip
    yield from pair.by_seed(
        "best_epoch", OVERFITTING, "best epoch, on valid (an early one means overfitting)",
        lambda model: model.training("best_epoch"), "lower", "difference", *pair.stages("train"),
        step=_epochs_between(pair.lstm, pair.gru),
    )  # fmt: skip
    real = pair.reports.probes.capacity.real
    sizes = sorted(real.sizes)
    ends = {"gap_free_small": sizes[:1], "gap_free_large": sizes[1:][-1:]}
    for key, size in ((key, size) for key, found in ends.items() for size in found):
        sides = [real.by_seed(name, size, "gap") for name in pair.networks]
        if all(sides):
            measured = f"valid less train without regularisation, nats a token, from {count(size)} tokens"
            yield pair.seeds(key, OVERFITTING, measured, pair.networks, [*sides], "higher", "difference", "capacity")
    if len(sizes) > 1:
        falls = [_fall(real, name, sizes[0], sizes[-1]) for name in pair.networks]
        if all(falls):
            measured = f"fall of that gap from {count(sizes[0])} tokens to {count(sizes[-1])}, nats a token"
            key = "gap_free_fall"
            yield pair.seeds(key, OVERFITTING, measured, pair.networks, [*falls], "higher", "difference", "capacity")


def _fall(real: RealText, network: str, small: int, large: int) -> dict[int, float]:
    """By seed that finished on both sizes."""
    first, last = (real.by_seed(network, size, "gap") for size in (small, large))
    return {seed: first[seed] - last[seed] for seed in first if seed in last}


def _epochs_between(*models: Neural) -> float:
    """The largest number of epochs from one validation to the next: a best epoch is known to within that."""
    runs = [model.runs[seed].history for model in models for seed in model.finished]
    return max((b - a for history in runs for a, b in pairwise((0.0, *(row.epoch for row in history)))), default=1.0)
