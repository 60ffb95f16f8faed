"""The scoring rule: exp(total nats / number of targets), each target scored once.

All figures of a model on a split follow from its nats per target, whoever computed them: n-gram or neural, on one
device or many, in whatever batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nextword.perplexity import perplexity
from nextword.text.ids import EncodedCorpus, Split

Nats = NDArray[np.floating[Any]]

FREQUENCY_EDGES = (0, 1, 10, 100, 1_000, 10_000)
"""Lower ends of the buckets of train counts of the target."""
POSITION_EDGES = (1, 2, 3, 5, 9, 17, 33, 65)
"""Lower ends of the buckets of the target's place in its line, counted from 1."""


class Scorer:
    """Turns nats per target into the metrics of a split.

    Args:
        corpus: vocabulary and train counts.
        split: what was scored.
    """

    def __init__(self, corpus: EncodedCorpus, split: Split) -> None:
        self.split = split
        self.targets = np.asarray(split.ids)
        self.target_counts = corpus.train_counts[self.targets]
        starts = np.repeat(split.line_starts[:-1], np.diff(split.line_starts))
        self.positions = np.arange(len(self.targets)) - starts + 1
        self.oov = np.zeros(len(self.targets), bool) if corpus.unk_id is None else self.targets == corpus.unk_id

    def summarize(self, nats: Nats, ranks: NDArray[Any] | None = None) -> dict[str, Any]:
        """All metrics of one model on the split.

        Args:
            nats: (num_tokens,) ``-log p`` of each target in corpus order; infinite where p = 0.
            ranks: (num_tokens,) number of types held more probable than the target, or None where not known.

        Returns:
            the metrics; ``perplexity`` is None where it is infinite.

        Raises:
            ValueError: not one number a target, or one that is no number.
        """
        nats = np.asarray(nats, dtype=np.float64)
        if nats.shape != self.targets.shape:
            raise ValueError(f"{nats.shape} nats for {self.targets.shape} targets: each target is scored exactly once")
        if np.isnan(nats).any():
            raise ValueError(f"{int(np.isnan(nats).sum())} targets have a score that is not a number")
        finite = np.isfinite(nats)
        total = float(nats.sum())
        known = nats[~self.oov]
        return {
            "num_targets": len(nats),
            "nats": total if math.isfinite(total) else None,
            "perplexity": perplexity(total, len(nats)),
            "num_infinite": int((~finite).sum()),
            "perplexity_of_finite": perplexity(float(nats[finite].sum()), int(finite.sum())),
            "num_oov": int(self.oov.sum()),
            "perplexity_without_oov": perplexity(float(known.sum()), len(known)),
            "bits_per_byte": _ratio(total / math.log(2), self.split.num_bytes),
            "perplexity_per_word": perplexity(total, self.split.num_words),
            "top1_accuracy": None if ranks is None else float((ranks < 1).mean()),
            "top5_accuracy": None if ranks is None else float((ranks < 5).mean()),
            "by_frequency": _buckets(nats, self.target_counts, FREQUENCY_EDGES),
            "by_position": _buckets(nats, self.positions, POSITION_EDGES),
        }


def describe(by_protocol: Mapping[str, Mapping[str, Any]]) -> str:
    """The perplexities of a split in a line.

    >>> describe({"stateful": {"perplexity": 83.591}, "reset": {"perplexity": None}})
    'stateful 83.59, reset infinite'
    """
    values = {protocol: metrics["perplexity"] for protocol, metrics in by_protocol.items()}
    return ", ".join(f"{p} {'infinite' if value is None else format(value, '.2f')}" for p, value in values.items())


def _ratio(value: float, of: int | None) -> float | None:
    return value / of if of and math.isfinite(value) else None


def _buckets(nats: Nats, values: NDArray[Any], edges: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for low, high in zip(edges, [*edges[1:], None], strict=True):
        inside = (values >= low) if high is None else (values >= low) & (values < high)
        if inside.any():
            name = f"{low}+" if high is None else str(low) if high == low + 1 else f"{low}-{high - 1}"
            mean = float(nats[inside].mean())
            rows.append(
                {
                    "bucket": name,
                    "num_targets": int(inside.sum()),
                    "nats_per_target": mean if math.isfinite(mean) else None,
                }
            )
    return rows
