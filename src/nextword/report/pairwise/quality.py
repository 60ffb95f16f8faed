"""Actual results: perplexity of valid and test, and at the same wall time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from nextword.report.claims import PERFORMANCE
from nextword.report.collect import Neural
from nextword.report.crossed import perplexity_finding
from nextword.report.finding import Finding
from nextword.report.pairwise.curve import loss_at, shortest
from nextword.report.pairwise.pair import Pair
from nextword.report.schema import PROTOCOLS


def performance_findings(pair: Pair) -> Iterator[Finding]:
    """Perplexity of valid and test under both protocols, and of valid when the fastest compared model was through.

    "Comparable, sometimes better" is read as: the LSTM's is not lower than the GRU's by more than the margin.
    """
    for split in ("valid", "test"):
        for way in PROTOCOLS:
            if all(model.metrics(split, way) or not model.finished for model in (pair.lstm, pair.gru)):
                finding = perplexity_finding(
                    pair.reports, f"{split}_perplexity_{way}", PERFORMANCE, pair.names, "not lower", split, way
                )  # fmt: skip
                yield replace(finding, condition=pair.condition)
    ends = shortest(pair.compared)
    chance = math.log(pair.reports.ids["vocab_size"])

    def losses(model: Neural) -> dict[int, float]:
        return {seed: loss_at(model.runs[seed], ends[seed], chance) for seed in model.finished if seed in ends}

    measured = "valid perplexity at the same wall time, when the first compared model was through (interpolated)"
    for finding in pair.by_seed(
        "valid_perplexity_wall_time", PERFORMANCE, measured, losses, "not lower", "ratio", *pair.stages("train"),
        margin=pair.margin,
    ):  # fmt: skip
        yield pair.fair_speed(finding)
