"""What all smoothings share: tables built from the lowest order up.

With c a (discounted) count and the weight ``mass`` of the lower order, every interpolated smoothing is::

    p(w | h) = numerator(h w) * scale(h) + mass(h) * p(w | h')

which the table holds as p(h w) for what was seen and backoff(h) = mass(h) for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nextword.ngram.counts import AnyIntArray, FloatArray, NgramCounts, OrderCounts
from nextword.ngram.model import NgramModel, Table

if TYPE_CHECKING:
    from nextword.config import NgramParams


@dataclass(frozen=True)
class Request:
    """What a smoothing is asked to estimate."""

    counts: NgramCounts
    order: int
    params: NgramParams
    held_out: AnyIntArray | None
    dtype: np.dtype[Any]
    """Type in which probabilities are stored: float64, or float32 for half the memory."""


Smoothing = Callable[[Request], NgramModel]


@dataclass(frozen=True)
class Block:
    """Some contexts of an order, with all their words."""

    level: OrderCounts
    """The counts of these contexts: T n-grams after T' contexts."""
    lower: FloatArray
    """(T,) probability that the order below gives to each n-gram: p(w | h')."""
    contexts: slice
    """Which contexts of the order these are."""

    def mix(self, numerator: npt.NDArray[Any], scale: FloatArray, mass: FloatArray) -> FloatArray:
        """(T,) probabilities; ``numerator`` (T,) of each n-gram, ``scale`` and ``mass`` (T',) of each context."""
        prob: FloatArray = numerator * self.level.spread(scale) + self.level.spread(mass) * self.lower
        return prob


Rule = Callable[[Block], tuple[FloatArray, FloatArray]]
"""Gives p(w | h) (T,) of the n-grams of a block, and the mass (T',) that its contexts leave to the order below."""


@dataclass
class TableBuilder:
    """Takes the orders from 1 up, and keeps what the next one needs."""

    request: Request
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.prob: FloatArray = np.full(1, 1 / self.request.counts.vocab_size, dtype=self.request.dtype)
        """(T',) probabilities of the order below; order 0 is uniform over the vocabulary."""

    def add(self, level: OrderCounts, rule: Rule) -> None:
        """Add an order, block by block, so that temporaries stay small whatever the size of the corpus."""
        dtype = self.request.dtype
        prob, log_prob = np.empty(len(level), dtype), np.empty(len(level), dtype)
        log_backoff = np.empty(len(level.starts) - 1, dtype)
        with np.errstate(divide="ignore"):  # the log of zero is -inf: zero probability is a legal value
            for contexts, rows, part in level.blocks():
                prob[rows], mass = rule(Block(part, self.prob[part.suffixes], contexts))
                np.log(prob[rows], out=log_prob[rows])
                # Contexts that nothing follows leave all to the order below.
                log_backoff[contexts] = np.log(np.where(part.fan_out > 0, mass, 1))
        if self.tables:
            below = self.tables[-1]
            self.tables[-1] = Table(below.codes, below.log_prob, log_backoff)
        else:
            prob[self.request.counts.bos], log_prob[self.request.counts.bos] = 0, -np.inf  # <s> is never predicted
        self.tables.append(Table(level.codes, log_prob, np.empty(0, dtype)))
        self.prob = prob

    def note(self, text: str | None) -> None:
        """Record a fallback of the order that is to be added next."""
        if text is not None:
            self.notes.append(f"order {len(self.tables) + 1}: {text}")

    def finish(self, smoothing: str, **parameters: Any) -> NgramModel:
        """The model, with ``parameters`` as JSON values."""
        counts = self.request.counts
        return NgramModel(
            tuple(self.tables), counts.vocab_size, counts.eos_id, smoothing, parameters, tuple(self.notes)
        )
