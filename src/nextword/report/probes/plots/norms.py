"""Which norms of gradients are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable

from nextword.report.probes.schema import floats

PANELS = ("at the start", "trained")
"""Titles of the panels: the weights with which norms were measured."""
SMALLEST = 1e-16
"""A smaller part would be lost in the sum, even in float64: lines end here, and the axis is spent on what counts."""


def visible(curve: Iterable[float | None]) -> list[float]:
    """Values of a curve, not a number where one is infinite or below :data:`SMALLEST`."""
    return [value if math.isfinite(value) and value >= SMALLEST else math.nan for value in floats(curve)]
