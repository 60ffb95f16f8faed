"""How a continuation is drawn from the distributions of a model.

Shapes: B texts side by side, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn.

    The temperature comes first, then ``top_k``, then ``top_p`` of what is left.

    Raises:
        ValueError: a number is out of range.
    """

    max_tokens: int = 50
    """Length of the continuation; each new line counts as one token."""
    temperature: float = 1.0
    """Divides the log-probabilities; 0 always takes the most probable token."""
    top_k: int = 0
    """Draw from the k most probable tokens; 0 draws from all."""
    top_p: float = 1.0
    """Draw from the fewest most probable tokens that hold this share of probability (Holtzman et al. 2020)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give at least 1")
        if not (0 <= self.temperature < math.inf):
            raise ValueError(f"temperature is {self.temperature}; give a finite number >= 0 (0 is greedy)")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; give a number >= 0 (0 draws from all tokens)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a number above 0 and up to 1 (1 draws from all tokens)")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; give a number >= 0")

    def uniform(self, index: int) -> Floats:
        """(max_tokens,) numbers in [0, 1) that decide text ``index``: none depends on what stands beside it."""
        return np.random.default_rng([self.seed, index]).random(self.max_tokens)

    def pick(self, log_prob_BV: Floats, uniform_B: Floats) -> NDArray[np.int64]:
        """One token for each row, (B,), by inversion of the distribution function.

        Args:
            log_prob_BV: log-probabilities up to a constant; ``-inf`` is never drawn.
            uniform_B: numbers in [0, 1).

        Raises:
            ValueError: a row is no distribution: a state that overflowed, or a model that gives no type a probability.

        >>> Sampling(temperature=0).pick(np.log([[0.2, 0.5, 0.3]]), np.array([0.9]))
        array([1])
        >>> Sampling(top_k=2).pick(np.log([[0.2, 0.5, 0.3]]), np.array([0.9]))
        array([2])
        """
        best_B1 = log_prob_BV.max(axis=1, keepdims=True)
        if not np.isfinite(best_B1).all():
            raise ValueError(
                "the model gives no word a probability here, so it cannot go on; take another prompt, "
                "or a model that smooths (MLE does not) and whose state did not overflow"
            )
        if self.temperature == 0:
            greedy: NDArray[np.int64] = log_prob_BV.argmax(axis=1)
            return greedy
        if not self.top_k and self.top_p == 1:
            return _invert(np.exp((log_prob_BV - best_B1) / self.temperature), uniform_B)
        order_BV = np.argsort(-log_prob_BV, axis=1, kind="stable")  # stable: ties fall alike on every machine
        if self.top_k:
            order_BV = order_BV[:, : self.top_k]
        sorted_BK = np.take_along_axis(log_prob_BV, order_BV, axis=1)
        weight_BK = np.exp((sorted_BK - best_B1) / self.temperature)
        summed_BK = np.cumsum(weight_BK, axis=1)
        weight_BK[summed_BK - weight_BK >= self.top_p * summed_BK[:, -1:]] = 0.0
        chosen: NDArray[np.int64] = np.take_along_axis(order_BV, _invert(weight_BK, uniform_B)[:, None], axis=1)[:, 0]
        return chosen


def _invert(weight_BV: Floats, uniform_B: Floats) -> NDArray[np.int64]:
    """Index of each row at which the sum of weights first exceeds its share ``uniform_B``, (B,)."""
    summed_BV = np.cumsum(weight_BV, axis=1)
    total_B1 = summed_BV[:, -1:]
    point_B1 = np.minimum(uniform_B[:, None] * total_B1, np.nextafter(total_B1, 0))  # the product may round up
    index_B: NDArray[np.int64] = (summed_BV <= point_B1).sum(axis=1)
    return index_B
