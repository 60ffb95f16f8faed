"""What a search of given size is expected to find."""

from __future__ import annotations

import math
from collections.abc import Sequence


def expected_best(values: Sequence[float], n: int) -> float:
    """Expected lowest value of ``n`` trials of a random search, from all the trials that were made.

    The mean of the lowest of ``n`` values over all subsets of ``n`` out of N trials, by order statistics::

        E[best of n] = sum_i v_(i) C(N - i, n - 1) / C(N, n),    v_(1) <= ... <= v_(N)

    It is unbiased for independent trials of one distribution. Dodge et al., "Show Your Work" (EMNLP 2019) draw the n
    trials with replacement, which is too optimistic; Tang et al., "Showing Your Work Doesn't Always Work" (ACL 2020)
    draw them without, as here.

    Args:
        values: of all trials, the lower the better; infinite for one that failed.
        n: size of the search, from 1 to the number of trials.

    Returns:
        the expectation; infinite where ``n`` trials may all have failed.

    Raises:
        ValueError: no trial, a value that is no number, or ``n`` outside 1..N.

    >>> expected_best([3.0, 1.0, 2.0], 3)
    1.0
    >>> expected_best([3.0, 1.0, 2.0], 1)
    2.0
    """
    if not 1 <= n <= len(values):
        raise ValueError(f"the best of n trials needs n from 1 to the {len(values)} trials there are; got {n}")
    if any(math.isnan(value) for value in values):
        raise ValueError("a trial has a value that is not a number; give infinity for one that failed")
    ranked = sorted(values)[: len(values) - n + 1]  # the others are never the lowest of n
    subsets = math.comb(len(values), n)
    return math.fsum(value * (math.comb(len(values) - i, n - 1) / subsets) for i, value in enumerate(ranked, start=1))
