"""Perplexity, the one formula: while training and in every evaluation."""

from __future__ import annotations

import math


def perplexity(nats: float, num_targets: float | None) -> float | None:
    """exp(nats / num_targets), or None where that is infinite or there is no target."""
    if not num_targets or not math.isfinite(nats) or nats / num_targets > 700:
        return None
    return math.exp(nats / num_targets)
