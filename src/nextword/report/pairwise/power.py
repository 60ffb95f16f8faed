"""What the networks can express, how far they remember, and how much they overfit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

from nextword.report.claims import EXPRESSIVE_POWER, MEMORY, OVERFITTING
from nextword.report.collect import Neural, Reports
from nextword.report.crossed import perplexity_finding
from nextword.report.finding import Finding
from nextword.report.pairwise.pair import Pair
from nextword.report.probes.networks import RealText
from nextword.report.probes.schema import Context, Gradients
from nextword.report.probes.seeds import (
    Values,
    contexts_by_seed,
    far_worth,
    figures,
    gradients_by_seed,
    stack_growth,
)
from nextword.report.tables import count

Part = TypeVar("Part")


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
    """Longest lag solved of each memory task; gradient flow and context used on test, by seed of the trained models."""
    yield from _tasks(pair)
    yield from _gradients(pair)
    yield from _contexts(pair)


def _gradients(pair: Pair) -> Iterator[Finding]:
    def by_seed(figure: Callable[[Gradients], float | None]) -> Callable[[Neural], Values]:
        return lambda model: figures(gradients_by_seed(pair.reports, model.name), figure)

    longest = max((found.trained.max_lag for found in _parts(pair, gradients_by_seed)), default=0)
    yield from pair.by_seed(
        "half_life", MEMORY,
        f"gradient half-life, tokens after which its norm has halved, on test (measured up to {longest})",
        by_seed(lambda found: _logarithm(found.trained.stack.half_life.tokens)), "higher", "ratio",
        *pair.stages("probe"),
    )  # fmt: skip
    yield from pair.by_seed(
        "gradient_growth", MEMORY, "factor of the gradient's norm a token more, after the first step, on test",
        by_seed(stack_growth), "higher", "difference", *pair.stages("probe"),
    )  # fmt: skip


def _contexts(pair: Pair) -> Iterator[Finding]:
    def by_seed(figure: Callable[[Context], float | None]) -> Callable[[Neural], Values]:
        return lambda model: figures(contexts_by_seed(pair.reports, model.name), figure)

    found = _parts(pair, contexts_by_seed)
    longest = max((length for context in found for length in context.lengths), default=0)
    tolerance = max((context.effective_length.tolerance for context in found), default=0.0)
    yield from pair.by_seed(
        "effective_context", MEMORY,
        f"context used, tokens, to within {100 * tolerance:g}% of the loss, on test (measured up to {longest})",
        by_seed(lambda context: _logarithm(context.effective_length.tokens)), "higher", "ratio", *pair.stages("probe"),
    )  # fmt: skip
    yield from pair.by_seed(
        "far_context", MEMORY, f"nats a target that the words beyond the last {longest} are worth, on test",
        by_seed(far_worth), "higher", "difference", *pair.stages("probe"),
    )  # fmt: skip


def _parts(pair: Pair, of: Callable[[Reports, str], dict[int, Part]]) -> list[Part]:
    return [part for name in pair.names for part in of(pair.reports, name).values()]


def _logarithm(value: float | None) -> float | None:
    return None if value is None else math.log(value)


def _tasks(pair: Pair) -> Iterator[Finding]:
    """One task each; a lag of 0 (none solved) counts as half the shortest.

    The lags tried are steps of a ladder: only what is more than its largest step apart is called further.
    """
    memory, names = pair.reports.probes.memory, pair.networks
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
        measured = f"longest lag solved, task {task.replace('_', ' ')}"
        finding = pair.seeds(
            f"lag_{task}", MEMORY, measured, names, [*sides], "higher", "ratio", "memory", step=step
        )  # fmt: skip
        sizes = " and ".join(count(found.variants[name].num_parameters) for name in names)
        like = f"{sizes} parameters" if pair.matched else f"hidden size {memory.hidden_size}"
        yield replace(finding, note="; ".join(filter(None, (like, finding.note))))


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
