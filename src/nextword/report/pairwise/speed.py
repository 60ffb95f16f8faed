"""Training speed, and what a larger batch and more devices bring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from nextword.report.claims import PARALLELISM, TRAINING_SPEED
from nextword.report.collect import Neural
from nextword.report.finding import Finding
from nextword.report.pairwise.curve import first_seconds, reachable
from nextword.report.pairwise.pair import Pair, logarithms
from nextword.report.probes.networks import ThroughputFile, ThroughputPoint


def speed_findings(pair: Pair) -> Iterator[Finding]:
    """Tokens and steps a second, and seconds to a perplexity that all compared models reach."""
    train = pair.reports.params.train
    stages = pair.stages("train")
    step = math.log(train.batch_size * train.bptt)

    def steps(model: Neural) -> dict[int, float]:
        return {seed: value - step for seed, value in logarithms(model, "tokens_per_second").items()}

    targets = reachable(pair.compared)
    chance = math.log(pair.reports.ids["vocab_size"])

    def seconds(model: Neural) -> dict[int, float]:
        found = {
            seed: first_seconds(model.runs[seed], targets[seed], chance) for seed in model.finished if seed in targets
        }
        return {seed: math.log(value) for seed, value in found.items() if value}

    findings = (
        pair.by_seed(
            "tokens_per_second", TRAINING_SPEED, "tokens a second, in training",
            lambda model: logarithms(model, "tokens_per_second"), "lower", "ratio", *stages,
        ),
        pair.by_seed(
            "steps_per_second", TRAINING_SPEED, "steps a second, in training", steps, "lower", "ratio", *stages
        ),
        pair.by_seed(
            "seconds_to_perplexity", TRAINING_SPEED,
            "seconds to a valid perplexity, which all compared models reach (interpolated)",
            seconds, "higher", "ratio", *stages,
        ),
    )  # fmt: skip
    for group in findings:
        for finding in group:
            yield pair.fair_speed(finding)
    yield from _alone(pair)


def _alone(pair: Pair) -> Iterator[Finding]:
    """Tokens a second with nothing else running, at the batch size of the training or the nearest below it."""
    found = pair.reports.probes.throughput
    sizes = sorted({point.batch_size for point in found.points})
    batch = max((size for size in sizes if size <= found.batch_size), default=min(sizes, default=0))
    devices = max((point.devices for point in found.points), default=0)
    sides = [_repeats(found, name, batch, devices) for name in pair.networks]
    if all(sides):
        measured = f"tokens a second, alone on the machine, batch size {batch}, {devices} device(s) or threads"
        key = "tokens_per_second_alone"
        finding = pair.seeds(key, TRAINING_SPEED, measured, pair.networks, [*sides], "lower", "ratio", "throughput")
        yield pair.fair_speed(finding)


def parallel_findings(pair: Pair) -> Iterator[Finding]:
    """Gain from the smallest batch to the largest and from one device to all, and the share of the machine's peak."""
    found = pair.reports.probes.throughput
    batches = sorted({point.batch_size for point in found.points})
    devices = sorted({point.devices for point in found.points})
    if not batches:
        return
    most = f"{devices[-1]} device(s) or threads"

    def gain(name: str, less: tuple[int, int]) -> dict[int, float]:
        low, high = _repeats(found, name, *less), _repeats(found, name, batches[-1], devices[-1])
        return {turn: high[turn] - low[turn] for turn in high if turn in low}

    rows = []
    if len(batches) > 1:
        text = f"gain from a larger batch, speed at {batches[-1]} over {batches[0]}, {most}"
        rows.append(("gain_batch", text, [gain(name, (batches[0], devices[-1])) for name in pair.networks]))
    if len(devices) > 1:
        text = f"gain from more devices, speed of {most} over {devices[0]}, batch size {batches[-1]}"
        rows.append(("gain_devices", text, [gain(name, (batches[-1], devices[0])) for name in pair.networks]))
    shares = [_shares(found, name, batches[-1], devices[-1]) for name in pair.networks]
    rows.append(("share_of_peak", f"share of the machine's peak, batch size {batches[-1]}, {most}", shares))
    for key, text, sides in rows:
        if all(sides):
            finding = pair.seeds(key, PARALLELISM, text, pair.networks, [*sides], "lower", "ratio", "throughput")
            yield pair.fair_speed(finding)


def _point(found: ThroughputFile, network: str, batch_size: int, devices: int) -> ThroughputPoint | None:
    wanted = (network, batch_size, devices)
    return next((p for p in found.points if (p.network, p.batch_size, p.devices) == wanted), None)


def _repeats(found: ThroughputFile, network: str, batch_size: int, devices: int) -> dict[int, float]:
    """Logarithm of tokens a second by repeat; the networks took turns, so a repeat pairs them."""
    point = _point(found, network, batch_size, devices)
    return {turn: math.log(speed) for turn, speed in enumerate(point.tokens_per_second)} if point else {}


def _shares(found: ThroughputFile, network: str, batch_size: int, devices: int) -> dict[int, float]:
    """Logarithm of the share of peak by repeat: the report gives that of the median repeat."""
    point = _point(found, network, batch_size, devices)
    if point is None or point.share_of_peak <= 0:
        return {}
    scale = math.log(point.share_of_peak / median(point.tokens_per_second))
    return {turn: math.log(speed) + scale for turn, speed in enumerate(point.tokens_per_second)}
