"""Many models against one by the crossed bootstrap: known answers, simultaneous coverage by simulation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from nextword.evaluation.bootstrap import crossed_to_one

Floats = NDArray[np.float64]

SIZES = {
    6: [5_989, 8_292, 19_496, 25_389, 8_344, 12_909],
    8: [7_163, 4_739, 5_702, 7_718, 10_449, 4_399, 6_463, 11_110],
    20: [1_000 * size for size in range(1, 21)],
}
"""Targets of each document by the number of documents; six and eight are test and valid of the default corpus."""
SOURCES = {
    "documents": (0.05, 0.002, 0.004), "seeds": (0.003, 0.03, 0.003), "balanced": (0.03, 0.01, 0.01),
}  # fmt: skip
"""Standard deviation, in nats a target, between documents (of each model its own), seeds, and of both together."""
REPETITIONS = 1_000


def family(sizes: list[int], seeds: int, models: int, source: str, random: int) -> Iterator[dict[str, Floats]]:
    """Draws of (S, D) nats by model, all of which have the same true loss."""
    rng = np.random.default_rng(random)
    size_D = np.array(sizes, float)
    scale_D = (size_D / size_D.mean()) ** -0.25  # the variance of a sum goes with size ** 1.5
    between, of_seeds, both = SOURCES[source]
    for _ in range(REPETITIONS):
        nats = between * scale_D * rng.normal(size=(models, 1, len(sizes)))
        nats = nats + of_seeds * rng.normal(size=(models, seeds, 1))
        nats = nats + both * scale_D * rng.normal(size=(models, seeds, len(sizes)))
        yield dict(zip("abcdefghijklm", nats * size_D, strict=False))


def together(sizes: list[int], draws: Iterable[dict[str, Floats]]) -> float:
    """How often all intervals against the first model hold zero at once."""
    inside = 0
    for sides in draws:
        control, *names = sides
        found = crossed_to_one(sides[control], {name: sides[name] for name in names}, sizes, resamples=1_000)
        inside += all(gap.low <= 0.0 <= gap.high for gap in found.values())  # type: ignore[operator]
    return inside / REPETITIONS


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("blocks", "seeds"), [(6, 2), (8, 2), (20, 2), (8, 3)])
def test_all_intervals_against_one_control_hold_at_once_at_least_as_often_as_they_say(
    blocks: int, seeds: int, source: str
) -> None:
    found = together(SIZES[blocks], family(SIZES[blocks], seeds, 9, source, random=blocks + seeds))
    assert 0.95 - 0.02 <= found <= 0.99 + 0.005


def test_one_treatment_of_equal_blocks_that_differ_alike_is_the_pooled_t() -> None:
    a, b = np.random.default_rng(8).normal(4.0, 0.1, (2, 3))
    sizes = np.array([50, 50])
    ours = crossed_to_one(b[:, None] * sizes, {"a": a[:, None] * sizes}, sizes, 0.9)["a"]
    theirs = stats.ttest_ind(a, b).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_many_against_one_by_hand() -> None:
    # Blocks differ alike, so seeds decide. Figures 1, 2, 3 and 5, 4, 6 and 0.5, 1.5, 2.5: pooled variance 6 / 6 = 1
    # with 6 degrees of freedom; Sidak's t for two intervals at 95% together is Student's at sqrt(0.95).
    figures = {"control": [1.0, 2.0, 3.0], "a": [5.0, 4.0, 6.0], "b": [0.5, 1.5, 2.5]}
    sides = {name: np.outer(values, [10.0, 30.0]) for name, values in figures.items()}
    found = crossed_to_one(sides.pop("control"), sides, [10, 30])
    half = float(stats.t.ppf((1.0 + math.sqrt(0.95)) / 2.0, 6)) * math.sqrt(1 / 3 + 1 / 3)
    for name, center in (("a", 3.0), ("b", -0.5)):
        gap = found[name]
        assert (gap.low, gap.mean, gap.high) == pytest.approx((center - half, center, center + half), rel=1e-9)
        assert gap.method == "crossed bootstrap, simultaneous" and gap.freedom == pytest.approx(6.0)


def test_where_only_documents_decide_one_treatment_is_the_paired_t_test() -> None:
    a, b = np.random.default_rng(9).normal(4.0, 0.1, (2, 8))
    ours = crossed_to_one([100 * b] * 2, {"a": [100 * a] * 2}, [100] * 8, 0.9, 200_000)["a"]
    theirs = stats.ttest_rel(a, b).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=5e-3)


def test_fewer_seeds_widen_an_interval_and_one_seed_has_one() -> None:
    sides = {
        name: np.outer(values, [10.0, 30.0])
        for name, values in {"three": [2.0, 3.0, 4.0], "two": [2.0, 3.0], "one": [2.5]}.items()
    }
    found = crossed_to_one(np.outer([1.0, 2.0, 3.0], [10.0, 30.0]), sides, [10, 30])
    widths = [gap.high - gap.low for gap in found.values()]  # type: ignore[operator]
    assert list(found) == ["three", "two", "one"] and widths[0] < widths[1] < widths[2]


def test_a_side_of_infinite_nats_has_no_interval_and_widens_no_other() -> None:
    control, fine = np.random.default_rng(10).normal(4.0, 0.1, (2, 2, 6))
    lost = np.full((2, 6), math.inf)
    both = crossed_to_one(control, {"fine": fine, "lost": lost}, [1] * 6)
    assert both["fine"] == crossed_to_one(control, {"fine": fine}, [1] * 6)["fine"]
    assert (both["lost"].mean, both["lost"].low, both["lost"].method) == (math.inf, None, "none")
    assert crossed_to_one(lost, {"fine": fine}, [1] * 6)["fine"].low is None


def test_one_seed_everywhere_or_one_block_gives_the_differences_alone() -> None:
    seeds = crossed_to_one([[1.0, 2.0]], {"a": [[2.0, 3.0]], "b": [[0.0, 1.0]]}, [1, 1])
    blocks = crossed_to_one([[1.0], [2.0]], {"a": [[2.0], [3.0]]}, [1])
    assert [(gap.mean, gap.low, gap.method) for gap in (*seeds.values(), *blocks.values())] == [
        (1.0, None, "none"), (-1.0, None, "none"), (1.0, None, "none"),
    ]  # fmt: skip
    assert crossed_to_one([[1.0, 2.0], [2.0, 2.0]], {}, [1, 1]) == {}
