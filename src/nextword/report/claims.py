"""The lecture notes' table "GRU vs LSTM", row by row, and how each row is measured.

The notes' words are translated from ``reference/lecture-notes-zh.md`` (last table). A measurement yields one number
a model, or one a seed; what the notes say of it is reduced to a direction that can turn out right or wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nextword.report.collect import Neural
from nextword.report.schema import Protocol
from nextword.report.tables import count, number

COMPARABLE = 0.02
"""Two perplexities are called comparable where one is at most this share above the other."""

Values = dict[int, float] | int | None
"""By finished seed; or one exact number; or None where the reports do not hold it."""


@dataclass(frozen=True)
class Claim:
    """One row of the notes' table."""

    title: str
    of_lstm: str
    of_gru: str

    @property
    def text(self) -> str:
        """Both sides in one sentence."""
        return f"LSTM: {self.of_lstm}. GRU: {self.of_gru}."


GATES = Claim("Gates", "3 gates (forget, input, output)", "2 gates (reset, update)")
PARAMETERS = Claim("Parameters", "many", "few")
COMPUTE = Claim("Computational complexity", "high", "low")
EXPRESSIVE_POWER = Claim(
    "Expressive power", "strong, in theory more flexible", "slightly weaker, but enough for most tasks"
)
TRAINING_SPEED = Claim("Training speed", "slow", "fast")
PERFORMANCE = Claim(
    "Performance in practice", "slightly better on some tasks", "comparable on most tasks, sometimes better"
)
OVERFITTING = Claim("Risk of overfitting", "higher", "lower")


@dataclass(frozen=True)
class Measurement:
    """One number that speaks to a claim.

    The claim is read as: the LSTM's number less the GRU's is above ``-margin`` (``lstm="higher"``) or below
    ``margin`` (``lstm="lower"``), on the scale on which it is measured.
    """

    key: str
    claim: Claim
    measured: str
    """What was measured, with its unit."""
    values: Callable[[Neural], Values]
    """On the scale of ``scale``: natural logarithms for ``ratio``."""
    lstm: Literal["higher", "lower"]
    scale: Literal["ratio", "difference", "exact"]
    """ratio: logarithms, shown as LSTM / GRU; difference: shown as LSTM - GRU; exact: counted, no interval."""
    form: Callable[[float | None], str] = number
    margin: float = 0.0
    speed: bool = False
    """Compares only where both sides ran in the same way (engine, precision, device, threads)."""


def _gates(model: Neural) -> int | None:
    from nextword.models.cells import CELLS  # brings torch

    candidates = {"g", "n", "h"}  # row blocks that are not gates but what is written
    cell = CELLS.get(model.train.kind)
    return None if cell is None else sum(gate not in candidates for gate in cell.gates)


def _perplexity(split: str, protocol: Protocol) -> Callable[[Neural], Values]:
    return lambda model: model.log_perplexity(split, protocol)


def _logarithm(field: str) -> Callable[[Neural], Values]:
    return lambda model: {seed: math.log(value) for seed, value in model.training(field).items() if value > 0}


def _gap(protocol: Protocol) -> Callable[[Neural], Values]:
    def values(model: Neural) -> Values:
        train, test = (model.log_perplexity(split, protocol) for split in ("train_sample", "test"))
        return {seed: test[seed] - train[seed] for seed in test if seed in train}

    return values


MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("gates", GATES, "gates of the cell", _gates, "higher", "exact", count),
    Measurement(
        "parameters_recurrent", PARAMETERS, "parameters of the recurrent layers",
        lambda model: model.train.num_parameters.recurrent, "higher", "exact", count,
    ),
    Measurement(
        "parameters_total", PARAMETERS, "parameters, total",
        lambda model: model.train.num_parameters.total, "higher", "exact", count,
    ),
    Measurement(
        "operations_recurrent", COMPUTE, "operations a token, recurrent layers (forward)",
        lambda model: model.train.operations_per_token.recurrent, "higher", "exact", count,
    ),
    Measurement(
        "operations_total", COMPUTE, "operations a token, total (forward)",
        lambda model: model.train.operations_per_token.total, "higher", "exact", count,
    ),
    Measurement(
        "train_perplexity_stateful", EXPRESSIVE_POWER, "train perplexity reached, stateful",
        _perplexity("train_sample", "stateful"), "lower", "ratio",
    ),
    Measurement(
        "train_perplexity_reset", EXPRESSIVE_POWER, "train perplexity reached, reset",
        _perplexity("train_sample", "reset"), "lower", "ratio",
    ),
    Measurement(
        "tokens_per_second", TRAINING_SPEED, "training speed, tokens a second",
        _logarithm("tokens_per_second"), "lower", "ratio", count, speed=True,
    ),
    Measurement(
        "seconds_to_best", TRAINING_SPEED, "training seconds to the best epoch",
        _logarithm("seconds_to_best"), "higher", "ratio", lambda value: number(value, 3), speed=True,
    ),
    *(
        Measurement(
            f"{split}_perplexity_{protocol}", PERFORMANCE, f"{split} perplexity, {protocol}",
            _perplexity(split, protocol), "higher", "ratio", margin=math.log1p(COMPARABLE),
        )
        for split in ("valid", "test") for protocol in ("stateful", "reset")
    ),
    Measurement(
        "gap", OVERFITTING, "test less train, nats a token, stateful",
        _gap("stateful"), "higher", "difference", lambda value: number(value, 3),
    ),
    Measurement(
        "best_epoch", OVERFITTING, "best epoch on valid (an early one means overfitting)",
        lambda model: model.training("best_epoch"), "lower", "difference", lambda value: number(value, 3),
    ),
)  # fmt: skip
"""In the order of the notes' table. A row of the notes that no report speaks to is left out."""
