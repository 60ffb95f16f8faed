"""``capacity.json`` and ``throughput.json`` of ``reports/experiments`` as typed objects."""

from __future__ import annotations

from typing import Literal

from nextword.report.schema import Report


class CapacityNetwork(Report):
    """One of the networks whose capacity is measured."""

    kind: str
    hidden_size: int
    num_parameters: int
    """All, with the vocabulary of the random text."""
    hidden_parameters: int
    """Outside embedding and output layer: recurrent layer, and the projection after it."""


class RandomRun(Report):
    """One seed of a network on random text of one length, at its better learning rate."""

    network: str
    seed: int
    tokens: int
    learning_rate: float
    bits: float
    """Memorised: ``N log2 V`` less the code length of the text under the trained network; 0 at the least."""
    bits_per_parameter: float


class RandomText(Report):
    """Uniformly random text, learned by heart."""

    vocabulary: int
    epochs: int
    lengths: tuple[int, ...]
    runs: tuple[RandomRun, ...]


class RealRun(Report):
    """One seed of a network on a part of train without regularisation, at the rate with the lower train loss.

    Nats a target; ``null`` where the training diverged.
    """

    network: str
    seed: int
    tokens: int
    learning_rate: float
    train_nats: float | None
    """Of the part it was trained on, at the end."""
    valid_nats: float | None
    """At the end."""
    best_valid_nats: float | None
    best_pass: int | None
    """Passes through the part (from 1) after which valid was best."""
    passes: int
    gap: float | None
    """``valid_nats - train_nats``."""


class RealText(Report):
    """Parts of train of rising size, the same number of tokens trained on in all."""

    sizes: tuple[int, ...]
    seen_tokens: int
    runs: tuple[RealRun, ...]

    def by_seed(self, network: str, tokens: int, field: Literal["train_nats", "gap"]) -> dict[int, float]:
        """A figure of a network on one size; seeds that diverged are left out."""
        runs = [run for run in self.runs if (run.network, run.tokens) == (network, tokens)]
        values = {run.seed: getattr(run, field) for run in runs}
        return {seed: float(value) for seed, value in values.items() if value is not None}


class CapacityFile(Report):
    """``reports/experiments/capacity.json``; ``networks`` are lstm, gru, gru_reset_after and lstm_matched."""

    networks: dict[str, CapacityNetwork]
    random: RandomText
    real: RealText


class Operations(Report):
    """Floating-point operations of the matrix products for one token forward."""

    counted: int
    """From the sizes of the weights."""
    torch: int
    """By torch.utils.flop_counter."""


class ThroughputNetwork(Report):
    """One of the networks whose speed is measured."""

    kind: str
    hidden_size: int
    operations_per_token: Operations
    bytes_per_token: float
    """Moved in a training step at ``batch_size``, counted."""
    step_memory_bytes: int
    """Most memory held during a training step at ``batch_size``, above weights, moments and what was held before."""


class ThroughputPoint(Report):
    """Training speed of a network at one batch size on one number of devices."""

    network: str
    batch_size: int
    devices: int
    tokens_per_second: tuple[float, ...]
    """One a repeat."""
    share_of_peak: float
    """Operations of forward and backward a second, over those of a large matrix product; median of the repeats."""


class ThroughputFile(Report):
    """``reports/experiments/throughput.json``; ``networks`` as in :class:`CapacityFile`."""

    device: str
    precision: str
    vocab_size: int
    bptt: int
    batch_size: int
    """At which bytes and memory are given: that of params.yaml's ``train``."""
    peak_operations_per_second: dict[int, float]
    """Of a large matrix product, by number of devices."""
    networks: dict[str, ThroughputNetwork]
    points: tuple[ThroughputPoint, ...]
