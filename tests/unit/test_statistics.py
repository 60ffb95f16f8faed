"""Means, intervals and differences against hand values and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nextword.evaluation.statistics import _dunnett_quantile, at_least, difference, many_to_one, mean_interval


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


def test_many_to_one_by_hand() -> None:
    # Deviations of 1 about each mean: three times (1 + 0 + 1), pooled variance 6 / 6 = 1. Dunnett's table for two-sided
    # 5%, two treatments and 6 degrees of freedom has 2.86 (Student's t: 2.45).
    found = many_to_one([1.0, 2.0, 3.0], {"a": [5.0, 4.0, 6.0], "b": [0.5, 1.5, 2.5]})
    assert {name: gap.mean for name, gap in found.items()} == {"a": 3.0, "b": -0.5}
    half = 2.86 * math.sqrt(1.0 / 3.0 + 1.0 / 3.0)
    for gap in found.values():
        assert gap.method == "Dunnett"
        assert (gap.low, gap.high) == pytest.approx((gap.mean - half, gap.mean + half), abs=0.01)


def test_many_to_one_equals_scipy() -> None:
    control, *treated = (np.random.default_rng(4).normal(size=size).tolist() for size in (3, 2, 4, 1))
    ours = many_to_one(control, dict(zip("abc", treated, strict=True)))
    result = stats.dunnett(*treated, control=control, rng=np.random.default_rng(0)).confidence_interval(0.95)
    assert [gap.low for gap in ours.values()] == pytest.approx(result.low.tolist(), rel=0.01)
    assert [gap.high for gap in ours.values()] == pytest.approx(result.high.tolist(), rel=0.01)


def test_many_to_one_gives_the_same_bits_again() -> None:
    values = np.random.default_rng(4).normal(size=(4, 2)).tolist()
    first = many_to_one(values[0], dict(zip("abc", values[1:], strict=True)))
    _dunnett_quantile.cache_clear()
    assert first == many_to_one(values[0], dict(zip("abc", values[1:], strict=True)))


@pytest.mark.parametrize(
    ("confidence", "sizes", "critical"),
    [
        (0.95, (2,) * 8, 3.264),  # this and the others: Dunnett's one-factor integral by Gauss's quadrature
        (0.95, (3,) * 3, 2.880),
        (0.99, (3,) * 3, 4.002),
        (0.99, (3,) * 8, 3.709),
    ],
)
def test_the_critical_values_of_dunnett(confidence: float, sizes: tuple[int, ...], critical: float) -> None:
    assert _dunnett_quantile(confidence, sizes[0], sizes) == pytest.approx(critical, rel=2e-3)


def test_many_to_one_of_one_treatment_is_the_pooled_t() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(4.1, 0.1, 3), rng.normal(4.0, 0.1, 2)
    ours = many_to_one(b.tolist(), {"a": a.tolist()}, 0.9)["a"]
    theirs = stats.ttest_ind(a, b).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-10)


def test_many_to_one_of_one_value_a_side_gives_the_differences_alone() -> None:
    found = many_to_one([1.0], {"a": [3.0], "b": [0.0]})
    assert {(gap.mean, gap.low, gap.high, gap.method) for gap in found.values()} == {
        (2.0, None, None, "none"),
        (-1.0, None, None, "none"),
    }


def test_many_to_one_of_unequal_sides_has_wider_intervals_for_fewer_values() -> None:
    found = many_to_one([1.0, 2.0, 3.0], {"two": [2.0, 3.0], "one": [2.5], "three": [2.0, 3.0, 4.0]})
    widths = {name: gap.high - gap.low for name, gap in found.items() if gap.low is not None and gap.high is not None}
    assert sorted(widths, key=lambda name: widths[name]) == ["three", "two", "one"]
    assert widths["one"] / widths["three"] == pytest.approx(math.sqrt((1 + 1 / 3) / (2 / 3)))


def test_many_to_one_without_spread() -> None:
    found = many_to_one([0.1, 0.1, 0.1], {"a": [0.3, 0.3], "b": [0.1, 0.1]})
    assert all(gap.low == gap.mean == gap.high for gap in found.values())
    assert many_to_one([1.0, 2.0], {}) == {}


def test_many_to_one_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        many_to_one([1.0, 2.0], {"a": [math.inf]})


def test_all_intervals_of_many_to_one_hold_at_once_as_often_as_they_say() -> None:
    """Of four t-intervals, each wrong in 5%, some would be wrong in about 14% of the draws."""
    rng = np.random.default_rng(6)
    inside = 0
    for _ in range(1000):
        control, *treated = (rng.normal(0.0, 1.0, (5, 3)) + np.arange(5)[:, None]).tolist()
        found = many_to_one(control, dict(zip("abcd", treated, strict=True)))
        gaps = enumerate(found.values(), start=1)
        inside += all(gap.low <= true <= gap.high for true, gap in gaps)  # type: ignore[operator]
    assert inside / 1000 == pytest.approx(0.95, abs=0.015)
