"""The last stage: a leaderboard, the LSTM against the GRU, and each group of variants against its baseline."""

from __future__ import annotations

from nextword.report.compare import ComparisonResult, compare

__all__ = ["ComparisonResult", "compare"]
