"""The crossed bootstrap: known answers, coverage by simulation, verdicts at the stated rate."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from nextword.evaluation.bootstrap import MAX_BLOCKS, block_edges, block_sums, crossed_difference
from nextword.evaluation.search import expected_best
from nextword.report.finding import judge

Floats = NDArray[np.float64]

SIZES = {
    6: [5_989, 8_292, 19_496, 25_389, 8_344, 12_909],
    8: [7_163, 4_739, 5_702, 7_718, 10_449, 4_399, 6_463, 11_110],
    20: [1_000 * size for size in range(1, 21)],
}
"""Targets of each document by the number of documents; six and eight are test and valid of the default corpus."""
SOURCES = {"documents": (1.0, 0.05, 0.1), "seeds": (0.1, 1.0, 0.1), "balanced": (1.0, None, 0.3)}
"""Standard deviation between documents, seeds, and of both together; None: seeds as much variance as documents."""
REPETITIONS = 2_000


def draw(
    sizes: list[int], seeds: tuple[int, int], source: str, random: int, growth: float = 1.5, shift: float = 0.0
) -> tuple[Floats, Floats]:
    """Nats summed by block of two models that differ by ``shift`` nats a target, (repetitions, S, D) each.

    The difference varies between documents with a variance of sums that goes with size ** growth.
    """
    rng = np.random.default_rng(random)
    size_D = np.array(sizes, float)
    scale_D = (size_D / size_D.mean()) ** (growth / 2 - 1)
    between, of_seeds, both = SOURCES[source]
    common = rng.normal(size=(REPETITIONS, 1, len(sizes)))  # how hard a document is, for both models
    own = between * scale_D * rng.normal(size=(REPETITIONS, 1, len(sizes)))
    if of_seeds is None:
        of_seeds = math.sqrt(float((scale_D * size_D) @ (scale_D * size_D)) / sum(sizes) ** 2 * min(seeds) / 2)
    sides = []
    for count, nats in zip(seeds, (common + own + shift, common), strict=True):
        noise = of_seeds * rng.normal(size=(REPETITIONS, count, 1))
        noise = noise + both * scale_D * rng.normal(size=(REPETITIONS, count, len(sizes)))
        sides.append((nats + noise) * size_D)
    return sides[0], sides[1]


def coverage(sizes: list[int], seeds: tuple[int, int], source: str, random: int, growth: float = 1.5) -> float:
    inside = 0
    for a_SD, b_SD in zip(*draw(sizes, seeds, source, random, growth), strict=True):
        gap = crossed_difference(a_SD, b_SD, sizes, resamples=1_000)
        assert gap.low is not None and gap.high is not None
        inside += gap.low <= 0.0 <= gap.high
    return inside / REPETITIONS


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("blocks", SIZES)
def test_the_95_percent_interval_covers_95_percent(blocks: int, seeds: int, source: str) -> None:
    found = coverage(SIZES[blocks], (seeds, seeds), source, random=blocks + seeds + len(source))
    assert found == pytest.approx(0.95, abs=0.02 + 0.005)  # 0.005: standard deviation of the simulation


@pytest.mark.parametrize("source", SOURCES)
def test_so_it_does_with_equal_blocks_and_unequal_numbers_of_seeds(source: str) -> None:
    assert coverage([9_000] * 6, (3, 2), source, random=1) == pytest.approx(0.95, abs=0.02 + 0.005)


def test_identical_models_are_undecided_at_the_stated_rate_and_a_planted_difference_is_found() -> None:
    sizes = SIZES[6]
    for shift, wanted in ((0.0, "undecided"), (6.0, "supported"), (-6.0, "contradicted")):
        sides = draw(sizes, (3, 3), "balanced", 7, shift=shift)
        verdicts = [judge("higher", crossed_difference(a, b, sizes)) for a, b in zip(*sides, strict=True)]
        rate = verdicts.count(wanted) / REPETITIONS  # type: ignore[arg-type]
        assert rate == pytest.approx(0.95, abs=0.02) if shift == 0.0 else rate > 0.98


def test_equal_blocks_and_no_seeds_is_the_paired_t_test() -> None:
    a, b = np.random.default_rng(0).normal(4.0, 0.1, (2, 8))
    ours = crossed_difference([100 * a], [100 * b], [100] * 8, 0.9, 200_000, a_exact=True, b_exact=True)
    theirs = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=5e-3)
    assert (ours.freedom, ours.documents_share) == (pytest.approx(7.0, rel=1e-3), 1.0)


def test_seeds_alone_is_welch() -> None:
    a, b = np.random.default_rng(1).normal(4.0, [[0.1], [0.3]], (2, 4))
    sizes = np.array([50, 70, 90])
    ours = crossed_difference(a[:, None] * sizes, b[:3, None] * sizes, sizes)
    theirs = stats.ttest_ind(a, b[:3], equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    assert ours.documents_share == pytest.approx(0.0, abs=1e-12)
    assert ours.effect is None  # all blocks differ alike


def test_the_difference_is_the_ratio_of_sums() -> None:
    gap = crossed_difference([[30.0, 10.0], [50.0, 30.0]], [[10.0, 20.0]], [10, 30], b_exact=True)
    assert gap.mean == pytest.approx((40.0 + 20.0 - 30.0) / 40.0)
    assert (gap.method, gap.num_blocks, gap.seeds) == ("crossed bootstrap", 2, ())


def test_what_both_share_of_a_document_does_not_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(4.0, 0.01, (2, 3, 6))
    hard = rng.normal(0.0, 1.0, 6)
    plain, paired = (crossed_difference(a + by, b + by, [1] * 6) for by in (0.0, hard))
    assert (paired.low, paired.high) == pytest.approx((plain.low, plain.high), rel=1e-9)


def test_effect_by_hand() -> None:
    # differences 1, 2, 3 of equal blocks: mean 2, standard deviation 1, Hedges' correction with 2 degrees of freedom
    # gamma(1) / (sqrt(1) gamma(1/2)) = 1 / sqrt(pi)
    gap = crossed_difference([[1.0, 2.0, 3.0]], [[0.0, 0.0, 0.0]], [1] * 3, a_exact=True, b_exact=True)
    assert gap.effect == pytest.approx(2.0 / math.sqrt(math.pi), rel=1e-12)


def test_the_same_inputs_give_the_same_bits_and_another_seed_does_not() -> None:
    a, b = np.random.default_rng(3).normal(4.0, 0.1, (2, 3, 6))
    first, again = (crossed_difference(a, b, SIZES[6], seed=5) for _ in range(2))
    assert first == again
    assert first.low != crossed_difference(a, b, SIZES[6], seed=6).low
    other = crossed_difference(b, a, SIZES[6], seed=5)
    assert (other.mean, other.low, other.high) == (-first.mean, -first.high, -first.low)  # type: ignore[operator]


def test_no_interval_of_one_seed_one_block_or_infinite_nats() -> None:
    one, two = [[1.0, 2.0]], [[1.0, 2.0], [2.0, 2.0]]
    gaps = [
        crossed_difference(one, two, [1, 1]),
        crossed_difference([[1.0], [2.0]], [[1.0], [3.0]], [1]),
        crossed_difference([[math.inf, 1.0]], two, [1, 1], a_exact=True),
    ]
    assert all((gap.low, gap.high, gap.method) == (None, None, "none") for gap in gaps)
    assert [gap.mean for gap in gaps] == [-0.25, -0.5, math.inf]
    assert judge("higher", gaps[2]) == "undecided"


def test_identical_nats_differ_by_nothing() -> None:
    gap = crossed_difference([[1.0, 2.0]], [[1.0, 2.0]], [1, 1], a_exact=True, b_exact=True)
    assert (gap.low, gap.mean, gap.high, gap.freedom, gap.documents_share) == (0.0, 0.0, 0.0, None, None)


@pytest.mark.parametrize(
    ("a", "sizes", "message"),
    [
        ([[1.0, 2.0, 3.0]], [1, 1], "shape"),
        ([1.0, 2.0], [1, 1], "shape"),
        ([[1.0, 2.0]], [1, 0], "no targets"),
        ([[1.0, math.nan]], [1, 1], "not a number"),
        ([[1.0, 2.0], [1.0, 2.0]], [1, 1], "one row"),
    ],
)
def test_bad_nats_are_named(a: list[list[float]], sizes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed_difference(a, [[1.0, 2.0]], sizes, a_exact=True)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="confidence"):
        crossed_difference([[1.0]], [[1.0]], [1], 1.0)
    with pytest.raises(ValueError, match="resamples"):
        crossed_difference([[1.0]], [[1.0]], [1], resamples=1)


def test_blocks_are_whole_lines_that_cross_no_document() -> None:
    rng = np.random.default_rng(4)
    lines = np.concatenate([[0], rng.integers(1, 40, 300).cumsum()])
    documents = lines[[0, 20, 21, 150, 300]]
    edges = block_edges(documents, lines, 400)
    assert set(documents) <= set(edges) <= set(lines)
    inside = [np.diff(edges[(edges >= low) & (edges <= high)]) for low, high in itertools.pairwise(documents)]
    assert len(inside[1]) == 1  # one line
    assert all(abs(sizes - 400).max() < 250 for sizes in (inside[2], inside[3]))


def test_whole_documents_are_blocks_and_empty_ones_are_none() -> None:
    assert block_edges([0, 3, 3, 8], [0, 3, 8]).tolist() == [0, 3, 8]
    nats = np.arange(8.0)
    assert block_sums(nats, block_edges([0, 3, 3, 8], [0, 3, 8])).tolist() == [3.0, 25.0]
    with pytest.raises(ValueError, match="8 targets"):
        block_sums(nats, np.array([0, 7]))


def test_very_many_documents_are_merged_with_their_neighbours() -> None:
    documents = np.concatenate([[0], np.random.default_rng(6).integers(1, 400, 20 * MAX_BLOCKS).cumsum()])
    few = documents[: MAX_BLOCKS + 1]
    assert block_edges(few, few).tolist() == few.tolist()
    for block_tokens in (None, 100):
        edges = block_edges(documents, documents, block_tokens)
        assert len(edges) == MAX_BLOCKS + 1
        assert (edges[0], edges[-1]) == (0, documents[-1]) and set(edges) <= set(documents)
        assert abs(np.diff(edges) - documents[-1] / MAX_BLOCKS).max() < 400


def test_a_long_line_is_one_block() -> None:
    assert block_edges([0, 100], [0, 90, 100], 10).tolist() == [0, 90, 100]


@pytest.mark.parametrize("n", range(1, 7))
def test_expected_best_is_the_mean_over_all_subsets(n: int) -> None:
    values = [4.7, 3.9, 4.1, 3.9, 5.2, 4.0]
    subsets = [min(subset) for subset in itertools.combinations(values, n)]
    assert expected_best(values, n) == pytest.approx(sum(subsets) / len(subsets), rel=1e-12)


def test_expected_best_is_unbiased() -> None:
    draws = np.random.default_rng(5).exponential(1.0, (4_000, 8))
    means = [expected_best(values, 4) for values in draws.tolist()]
    assert np.mean(means) == pytest.approx(1 / 4, abs=4 * np.std(means) / math.sqrt(len(means)))


def test_expected_best_with_failed_trials() -> None:
    assert expected_best([math.inf, 1.0, 2.0], 1) == math.inf
    assert expected_best([math.inf, 1.0, 2.0], 2) == pytest.approx(4 / 3)  # 1, 1 and 2
    for values, n in (([1.0], 2), ([1.0], 0), ([], 1)):
        with pytest.raises(ValueError, match="n from 1"):
            expected_best(values, n)
    with pytest.raises(ValueError, match="not a number"):
        expected_best([math.nan, 1.0], 1)
