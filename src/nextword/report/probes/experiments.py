"""``reports/experiments/NAME.json`` as typed objects, and all that the probes reported.

Only what the report shows is declared; further keys are ignored. JSON has no infinity: where a field can be infinite
its description says that ``null`` stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextword.report.probes.networks import CapacityFile as CapacityFile
from nextword.report.probes.networks import ThroughputFile as ThroughputFile
from nextword.report.probes.schema import Curve, HalfLife, Interval, ProbeFile, Proportion
from nextword.report.schema import Report

EXPERIMENTS = ("memory", "exploding", "window", "sparsity", "capacity", "throughput")
"""Stages with small trainings or countings of their own."""

# ------------------------------------------------------------------------------------------ exploding


class ExplodingRun(Report):
    """One training; ``null`` where the loss was not finite."""

    seed: int
    diverged: bool
    first_non_finite: int | None
    non_finite: str | None
    grad_norm_before: float | None
    largest_grad_norm: float | None
    final_loss: float | None
    losses: tuple[float, ...]
    """Nats a token, by update."""
    grad_norms: tuple[float, ...]
    """Before clipping, by update."""


class ExplodingSetting(Report):
    """All seeds of a kind, a scale and clipping or none."""

    kind: str
    scale: float
    clipped: bool
    diverged: Proportion
    non_finite: Proportion
    final_loss: Interval | None
    runs: tuple[ExplodingRun, ...]


class ExplodingFile(Report):
    """``reports/experiments/exploding.json``."""

    uniform_loss: float
    clip_norm: float
    learning_rate: float
    hidden_size: int
    steps: int
    bptt: int
    batch_size: int
    settings: tuple[ExplodingSetting, ...]


# --------------------------------------------------------------------------------------------- memory


class Chance(Report):
    """The best answer without memory."""

    loss: float
    metric: float


class LongestLag(Report):
    """0 where no lag was solved."""

    by_seed: tuple[int, ...]
    all_seeds: int
    any_seed: int


class Success(Proportion):
    """Share of seeds that solved a lag and all shorter ones."""

    lag: int


class Growth(Interval):
    """Factor of the gradient's norm from one step to the next."""

    mean: float | None
    """``null`` where no seed has a finite one."""
    by_seed: tuple[float | None, ...]
    """``null`` is infinite."""


class MemoryFlow(Report):
    """Norm of the gradient on a task's sequences."""

    median: Curve
    num_sequences: int
    half_life: HalfLife
    growth: Growth


class MemoryFlows(Report):
    """Before and after training."""

    initial: MemoryFlow
    trained: MemoryFlow


class MemoryVariant(Report):
    """One network on one task."""

    label: str
    num_parameters: int
    learning_rate: float
    longest_lag: LongestLag
    success: tuple[Success, ...]
    flow: MemoryFlows


class MemoryTask(Report):
    """All networks on one task."""

    metric: str
    criterion: float
    chance: Chance
    variants: dict[str, MemoryVariant]


class MemoryFile(Report):
    """``reports/experiments/memory.json``."""

    lags: tuple[int, ...]
    hidden_size: int
    batch_size: int
    steps: int
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    tasks: dict[str, MemoryTask]


# ----------------------------------------------------------------------------------- window, sparsity


class WindowParameters(Report):
    """Numbers of trained parameters."""

    total: int


class WindowModel(Report):
    """An NNLM of one window, or a model without one (``window`` is ``null``)."""

    name: str
    kind: str
    window: int | None
    parameters: WindowParameters
    operations_per_token: WindowParameters
    perplexity: Interval
    """``null`` is infinite."""
    change: Interval | None
    over_seeds: Interval | None
    """In nats a target."""


class WindowFile(Report):
    """``reports/experiments/window.json``."""

    train_tokens: int
    num_targets: int
    num_documents: int
    models: tuple[WindowModel, ...]


class Smoothed(Report):
    """A smoothing at one order, from one part of train; ``null`` is infinite."""

    smoothing: str
    perplexity: Interval
    infinite_share: float
    perplexity_of_finite: float | None


class SparseOrder(Report):
    """N-grams of one order in one part of train."""

    order: int
    types: int
    tokens: int
    singletons: int
    possible: float
    unseen_share: float | None
    """``null`` where no line is that long."""
    unseen_context_share: float
    zero_probability: Interval
    models: tuple[Smoothed, ...]


class SparsePart(Report):
    """One part of train."""

    share: float
    tokens: int
    types_seen: int
    orders: tuple[SparseOrder, ...]


class SparsityFile(Report):
    """``reports/experiments/sparsity.json``."""

    num_targets: int
    num_documents: int
    vocab_size: int
    parts: tuple[SparsePart, ...]


@dataclass(frozen=True)
class Probes:
    """All that the probes reported."""

    models: dict[str, ProbeFile]
    """In the order of params.yaml."""
    memory: MemoryFile
    exploding: ExplodingFile
    window: WindowFile
    sparsity: SparsityFile
    capacity: CapacityFile
    throughput: ThroughputFile
