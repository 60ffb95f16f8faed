"""The report files of the earlier stages as typed objects.

Only what the comparison reads is declared; further keys are ignored, so a stage may report more. JSON has no
infinity: ``null`` stands for an infinite perplexity.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Protocol = Literal["stateful", "reset"]
"""stateful: state carried across the lines of a document. reset: a new state at each line."""

PROTOCOLS: tuple[Protocol, ...] = ("stateful", "reset")


class Report(BaseModel):
    """Base of all: frozen; keys that are not declared are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Bucket(Report):
    """Part of the targets."""

    bucket: str
    num_targets: int
    nats_per_target: float | None


class Metrics(Report):
    """Scores of one model on one split under one protocol."""

    num_targets: int = Field(ge=1)
    nats: float | None
    perplexity: float | None
    num_oov: int = 0
    perplexity_without_oov: float | None = None
    bits_per_byte: float | None = None
    perplexity_per_word: float | None = None
    num_infinite: int = 0
    top1_accuracy: float | None = None
    top5_accuracy: float | None = None
    by_frequency: tuple[Bucket, ...] = ()
    by_position: tuple[Bucket, ...] = ()

    @property
    def log_perplexity(self) -> float:
        """Nats per target; infinite where a target has probability zero."""
        if self.perplexity is None or self.nats is None:
            return math.inf
        return self.nats / self.num_targets


class NgramEntry(Report):
    """One smoothing at one order."""

    smoothing: str
    order: int
    seconds: float | None = None
    num_parameters: int | None = None
    splits: dict[str, dict[Protocol, Metrics]]


class NgramFile(Report):
    """``reports/ngram.json``."""

    orders: dict[int, dict[str, Any]] = {}
    """Sparsity by order."""
    models: dict[str, NgramEntry]


class Parameters(Report):
    """Numbers of trained parameters; a tied embedding counts once in ``total``."""

    total: int
    recurrent: int | None = None


class Operations(Report):
    """Floating-point operations a token, forward (a multiply-add is two)."""

    total: int
    recurrent: int | None = None


class Epoch(Report):
    """One row of a training's history."""

    epoch: float
    tokens: int
    seconds: float
    train_perplexity: float | None = None
    valid_perplexity: float | None = None


class TrainRun(Report):
    """Training of one seed."""

    seed: int
    status: Literal["finished", "diverged"]
    seconds: float | None = None
    tokens_per_second: float | None = None
    best_epoch: float | None = None
    seconds_to_best: float | None = None
    peak_memory_bytes: int | None = None
    """Of the training process."""
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    num_devices: int = 1
    threads: int | None = None
    history: tuple[Epoch, ...] = ()
    diverged_at: dict[str, Any] | None = None


class TrainFile(Report):
    """``reports/train/NAME.json``."""

    model: str
    kind: str
    num_parameters: Parameters
    operations_per_token: Operations
    runs: tuple[TrainRun, ...]


class AdaptiveScores(Report):
    """One way to adapt to the text while it is read, with the settings that were chosen on valid."""

    settings: dict[str, float]
    splits: dict[str, Metrics]


class EvaluateRun(Report):
    """Evaluation of one seed."""

    seed: int
    splits: dict[str, dict[Protocol, Metrics]]
    adaptive: dict[str, AdaptiveScores] = {}
    """``cache`` and ``dynamic``, where the seed was scored so."""


class EvaluateFile(Report):
    """``reports/evaluate/NAME.json``."""

    model: str
    runs: tuple[EvaluateRun, ...]


class TuneBudget(Report):
    """What a search was allowed."""

    trials: int
    halvings: int
    tokens_by_rung: tuple[int, ...]
    """Tokens on which a trial is trained, by rung."""
    tokens_in_all: int


class TuneRung(Report):
    """One training of a trial."""

    tokens: int
    valid_nats: float | None
    """A target; None where it diverged."""

    @property
    def log_perplexity(self) -> float:
        """Nats a target; infinite where the training diverged."""
        return math.inf if self.valid_nats is None else self.valid_nats


class TuneTrial(Report):
    """One setting that was tried."""

    number: int
    learning_rate: float
    dropout: float
    rungs: tuple[TuneRung, ...]


class TuneFile(Report):
    """``reports/tune/NAME.json``."""

    model: str
    searched: bool
    settings: dict[str, float]
    """What was found; empty where nothing was searched, or every training diverged."""
    budget: TuneBudget | None = None
    trials: tuple[TuneTrial, ...] = ()
    seconds: float | None = None

    def values_at(self, rung: int) -> tuple[float, ...]:
        """Nats a target of valid of all trials that came to a rung."""
        return tuple(trial.rungs[rung].log_perplexity for trial in self.trials if len(trial.rungs) > rung)
