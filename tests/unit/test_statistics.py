"""Means, intervals and differences against hand values and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nextword.evaluation.statistics import at_least, difference, mean_interval


def test_interval_of_three_values_by_hand() -> None:
    # mean 2, s = 1; the quantile of t with 2 degrees of freedom is c sqrt(2 / (1 - c^2)) = 4.302653
    half = 0.95 * math.sqrt(2.0 / (1.0 - 0.95**2)) / math.sqrt(3.0)
    estimate = mean_interval([1.0, 2.0, 3.0], 0.95)
    assert estimate.mean == 2.0
    assert estimate.count == 3
    assert estimate.low == pytest.approx(2.0 - half, abs=1e-9)
    assert estimate.high == pytest.approx(2.0 + half, abs=1e-9)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_equals_scipy(count: int, confidence: float) -> None:
    values = np.random.default_rng(count).normal(4.0, 0.1, count)
    estimate = mean_interval(values.tolist(), confidence)
    low, high = stats.t.interval(confidence, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=1e-12)


def test_one_value_has_no_interval() -> None:
    estimate = mean_interval([7.5])
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (7.5, None, None, 1)


def test_equal_values_have_an_interval_of_no_width() -> None:
    estimate = mean_interval([0.1, 0.1, 0.1])
    assert estimate.low == estimate.mean == estimate.high


def test_equal_counts_are_known_to_within_a_step() -> None:
    gap = at_least(difference({0: 6.0, 1: 6.0}, {0: 5.0, 1: 5.0}, pair=True), 1.0)
    assert (gap.low, gap.mean, gap.high, gap.seeds) == (0.0, 1.0, 2.0, (0, 1))
    wide = difference({0: 3.0, 1: 9.0}, {0: 5.0, 1: 5.0}, pair=True)
    assert at_least(wide, 1.0) == wide
    alone = difference({0: 3.0}, {0: 1.0}, pair=True)
    assert at_least(alone, 1.0) == alone


def test_paired_difference_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(4.1, 0.1, 5), rng.normal(4.0, 0.1, 5)
    ours = difference(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())), 0.9, pair=True)
    theirs = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert ours.method == "paired t"
    assert ours.seeds == (0, 1, 2, 3, 4)
    assert ours.mean == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-10)


def test_welch_difference_equals_scipy() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(4.1, 0.1, 4), rng.normal(4.0, 0.5, 7)
    ours = difference(dict(enumerate(a.tolist())), dict(enumerate(b.tolist())), pair=False)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert ours.method == "Welch t"
    assert ours.seeds == ()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-10)


def test_only_common_seeds_are_paired() -> None:
    ours = difference({0: 4.0, 1: 6.0, 2: 100.0}, {0: 1.0, 1: 2.0, 5: -100.0}, pair=True)
    assert ours.seeds == (0, 1)
    assert ours.mean == 3.5  # (3 + 4) / 2; seeds 2 and 5 do not enter


def test_without_common_seeds_it_is_welch() -> None:
    assert difference({0: 1.0, 1: 2.0}, {2: 1.0, 3: 2.0}, pair=True).method == "Welch t"


def test_one_seed_a_side_gives_the_difference_alone() -> None:
    ours = difference({0: 3.0}, {0: 1.0}, pair=True)
    assert (ours.mean, ours.low, ours.high, ours.method) == (2.0, None, None, "none")


def test_welch_without_spread() -> None:
    ours = difference({0: 3.0, 1: 3.0}, {2: 1.0, 3: 1.0}, pair=False)
    assert (ours.mean, ours.low, ours.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("values", "confidence", "message"),
    [
        ([], 0.95, "at least one"),
        ([1.0, math.inf], 0.95, "finite"),
        ([1.0, math.nan], 0.95, "finite"),
        ([1.0], 1.0, "between 0 and 1"),
        ([1.0], 0.0, "between 0 and 1"),
    ],
)
def test_bad_values_are_named(values: list[float], confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_interval(values, confidence)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(2000):
        estimate = mean_interval(rng.normal(0.0, 1.0, 3).tolist(), 0.9)
        assert estimate.low is not None and estimate.high is not None
        inside += estimate.low <= 0.0 <= estimate.high
    assert inside / 2000 == pytest.approx(0.9, abs=0.02)
