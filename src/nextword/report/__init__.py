"""The last stage: all models in one leaderboard, and the LSTM against the GRU as the lecture notes compare them."""

from __future__ import annotations

from nextword.report.compare import ComparisonResult, compare

__all__ = ["ComparisonResult", "compare"]
