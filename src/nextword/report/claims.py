"""The lecture notes' table "GRU vs LSTM", row by row, and the sentence that they conclude with.

The notes' words are translated from ``reference/lecture-notes-zh.md`` (last table and the line under it).
"""

from __future__ import annotations

from nextword.report.finding import Claim


def _claim(title: str, of_lstm: str, of_gru: str) -> Claim:
    return Claim(title, f"LSTM: {of_lstm}. GRU: {of_gru}.")


GATES = _claim("Gates", "3 gates (forget, input, output)", "2 gates (reset, update)")
PARAMETERS = _claim("Parameters", "many", "few")
COMPUTE = _claim("Computational complexity", "high", "low")
EXPRESSIVE_POWER = _claim(
    "Expressive power", "strong, in theory more flexible", "slightly weaker, but enough for most tasks"
)
TRAINING_SPEED = _claim("Training speed", "slow", "fast")
PARALLELISM = _claim("Parallelism", "poor", "slightly better")
MEMORY = _claim("Long-range dependencies", "stronger", "slightly weaker")
PERFORMANCE = _claim(
    "Performance in practice", "slightly better on some tasks", "comparable on most tasks, sometimes better"
)
OVERFITTING = _claim("Risk of overfitting", "higher", "lower")

ROWS: tuple[Claim, ...] = (
    GATES, PARAMETERS, COMPUTE, EXPRESSIVE_POWER, TRAINING_SPEED, PARALLELISM, MEMORY, PERFORMANCE, OVERFITTING,
)  # fmt: skip
"""In the order of the notes' table."""

CONCLUSION: tuple[tuple[str, Claim], ...] = (
    ("the LSTM suits tasks that need strong memory", MEMORY),
    ("the LSTM suits complex sequence modelling", EXPRESSIVE_POWER),
    ("the GRU does comparably or better", PERFORMANCE),
    ("with fewer parameters", PARAMETERS),
    ("and faster training", TRAINING_SPEED),
)
"""The notes' concluding sentence, clause by clause, each with the row that it rests on."""
