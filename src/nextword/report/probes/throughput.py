"""Tables of the training speed of LSTM and GRU against batch size and devices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.probes.capacity import LABELS
from nextword.report.probes.cells import section, short
from nextword.report.probes.networks import ThroughputFile, ThroughputPoint
from nextword.report.section import Section
from nextword.report.tables import TIMES, Cell, Table, count, estimate_cell, exp, flat_estimate, interval, percent


def throughput_sections(report: ThroughputFile, confidence: float = 0.95) -> list[Section]:
    """Speed at each batch size, and what a step costs."""
    return [_speed_section(report, confidence), _cost_section(report)]


def point_of(report: ThroughputFile, network: str, batch_size: int, devices: int) -> ThroughputPoint | None:
    """What was measured there; None where nothing was."""
    place = (network, batch_size, devices)
    return next((p for p in report.points if (p.network, p.batch_size, p.devices) == place), None)


def speedup(after: ThroughputPoint | None, before: ThroughputPoint | None, confidence: float = 0.95) -> Estimate | None:
    """Factor in speed between two points, repeat by repeat; None where one was not measured. As geometric_mean."""
    if after is None or before is None:
        return None
    pairs = zip(after.tokens_per_second, before.tokens_per_second, strict=True)
    return geometric_mean([high / low for high, low in pairs], confidence)


def geometric_mean(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean and t-interval on logarithms, as factors: speeds and their ratios are positive."""
    found = mean_interval([math.log(value) for value in values], confidence)
    low, high = (None if limit is None else exp(limit) for limit in (found.low, found.high))
    return Estimate(exp(found.mean), low, high, found.count)


def _speed_section(report: ThroughputFile, confidence: float) -> Section:
    rows: list[tuple[Cell | None, ...]] = []
    records: list[dict[str, Any]] = []
    places = list(dict.fromkeys((point.devices, point.batch_size) for point in report.points))
    smallest, fewest = min(batch for _, batch in places), min(devices for devices, _ in places)
    for devices, batch in places:
        points = [point for point in report.points if (point.devices, point.batch_size) == (devices, batch)]
        for point in points:
            speed = geometric_mean(point.tokens_per_second, confidence)
            steps = speed.mean / (batch * report.bptt)
            one = point_of(report, point.network, smallest, devices) if batch > smallest else None
            by_batch = speedup(point, one, confidence)
            one = point_of(report, point.network, batch, fewest) if devices > fewest else None
            by_devices = speedup(point, one, confidence)
            first = point is points[0]
            rows.append((
                Cell(count(devices), bold=True, number=True, rows=len(points)) if first else None,
                Cell(count(batch), bold=True, number=True, rows=len(points)) if first else None,
                Cell(LABELS.get(point.network, point.network)),
                estimate_cell(speed, count),
                Cell(short(steps), number=True),
                Cell(percent(point.share_of_peak), number=True),
                _factor_cell(by_batch),
                _factor_cell(by_devices),
            ))  # fmt: skip
            records.append(
                {"network": point.network, "devices": devices, "batch_size": batch}
                | flat_estimate("tokens_per_second", speed)
                | {"steps_per_second": steps, "share_of_peak": point.share_of_peak}
                | flat_estimate("speedup_by_batch", by_batch)
                | flat_estimate("speedup_by_devices", by_devices)
            )
    headings = (
        "devices", "batch", "network", "tokens/s", "steps/s", "share of peak", f"against batch {smallest}",
        f"against {fewest} device(s)",
    )  # fmt: skip
    peaks = "; ".join(f"{n}: {short(peak / 1e9)}" for n, peak in report.peak_operations_per_second.items())
    what = "Devices are threads of one process." if report.device == "cpu" else "One GPU is measured."
    notes = (
        f"Whole training steps (forward, backward, clipping, AdamW) of {report.bptt} tokens a column on {report.device}"
        f", {report.precision}, vocabulary of {count(report.vocab_size)}; one layer, no dropout. {what} All networks "
        "take turns at each point. Geometric mean of the turns; [low, high]: "
        f"{100 * confidence:g}% t-interval on logs.",
        "Share of peak: forward and backward operations a second (backward counts twice; median turn) over those of a "
        f"large matrix product. Billions of these a second, by devices: {peaks}. Above 100% means that the product was "
        "disturbed, or that torch's is not the fastest.",
    )
    return section("training", "throughput", Table("Training speed", headings, tuple(rows), notes), records)


def _factor_cell(found: Estimate | None) -> Cell:
    if found is None:
        return estimate_cell(None)
    return Cell(f"{TIMES}{short(found.mean)}", interval(found.low, found.high, short), number=True)


def _cost_section(report: ThroughputFile) -> Section:
    rows = tuple(
        (
            Cell(LABELS.get(name, name), bold=True),
            Cell(count(network.hidden_size), number=True),
            Cell(count(network.operations_per_token.counted), number=True),
            Cell(count(network.operations_per_token.torch), number=True),
            Cell(count(network.bytes_per_token), number=True),
            Cell(short(network.step_memory_bytes / 2**20), number=True),
        )
        for name, network in report.networks.items()
    )
    headings = (
        "network", "H", "operations a token", "by torch's counter", "bytes moved a token", "memory of a step, MiB"
    )  # fmt: skip
    notes = (
        "Operations: of the matrix products, forward, counted from the weights and by torch.utils.flop_counter.",
        f"Bytes and memory: of a training step of {report.batch_size} columns of {report.bptt} tokens. Bytes are "
        "counted: weights read twice, gradients and AdamW's moments written and read, what forward keeps for backward "
        "and the logits written and read once. Memory: the most that torch's allocator held above weights and moments.",
    )
    records = [
        {
            "network": name,
            "kind": network.kind,
            "hidden_size": network.hidden_size,
            "operations_per_token": network.operations_per_token.counted,
            "operations_per_token_torch": network.operations_per_token.torch,
            "bytes_per_token": network.bytes_per_token,
            "step_memory_bytes": network.step_memory_bytes,
        }
        for name, network in report.networks.items()
    ]
    return section("training", "step_costs", Table("What a training step costs", headings, rows, notes), records)
