"""Mixtures and ensembles against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextword.evaluation.combination import best_weight, ensemble, mix


def test_mix_is_the_weighted_mean_of_probabilities() -> None:
    probabilities = np.random.default_rng(0).uniform(0.01, 1.0, (3, 50))
    weights = [0.5, 0.3, 0.2]
    mixed = mix(list(-np.log(probabilities)), weights)
    np.testing.assert_allclose(np.exp(-mixed), np.array(weights) @ probabilities, rtol=1e-13)


def test_mix_of_impossible_and_of_tiny_probabilities() -> None:
    a, b = np.array([math.inf, 1.0, math.inf, 1_000.0]), np.array([1.0, math.inf, math.inf, 1_001.0])
    mixed = mix([a, b], [0.5, 0.5])
    both = 1_000.0 - math.log(0.5 * (1.0 + math.exp(-1.0)))
    np.testing.assert_allclose(mixed, [1.0 + math.log(2.0), 1.0 + math.log(2.0), math.inf, both], rtol=1e-14)


def test_a_model_with_all_the_weight_is_the_mixture() -> None:
    a, b = np.array([0.1, 7.3]), np.array([math.inf, 1.0])
    np.testing.assert_array_equal(mix([a, b], [1.0, 0.0]), a)


@pytest.mark.parametrize("weights", [[0.5], [0.6, 0.6], [1.5, -0.5], []])
def test_weights_that_are_no_mixture(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        mix([np.zeros(2), np.zeros(2)], weights)


def test_unlike_targets_are_named() -> None:
    with pytest.raises(ValueError, match="same targets"):
        mix([np.zeros(2), np.zeros(3)], [0.5, 0.5])
    with pytest.raises(ValueError, match="same targets"):
        best_weight(np.zeros(2), np.zeros(3))


def test_best_weight_by_hand() -> None:
    # A coin: a says heads with 1/4, b with 3/4. Of 8 tosses 5 are heads, so 5/8 is best: 1/4 + w / 2 = 5/8, w = 3/4.
    heads = np.array([True] * 5 + [False] * 3)
    a, b = (-np.log(np.where(heads, p, 1.0 - p)) for p in (0.25, 0.75))
    assert best_weight(a, b) == pytest.approx(0.75, abs=1e-6)
    assert best_weight(b, a) == pytest.approx(0.25, abs=1e-6)


def test_best_weight_is_the_least_of_a_fine_grid() -> None:
    a, b = np.random.default_rng(1).gamma(2.0, 2.0, (2, 5_000))
    best = best_weight(a, b)
    grid = np.linspace(0.0, 1.0, 1_001)
    nats = [mix([a, b], [1.0 - w, w]).sum() for w in grid]
    assert mix([a, b], [1.0 - best, best]).sum() <= min(nats)
    assert best == pytest.approx(grid[int(np.argmin(nats))], abs=1e-3)


def test_best_weight_at_the_ends() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.5, 2.5])
    assert (best_weight(a, b), best_weight(b, a), best_weight(a, a)) == (0.0, 1.0, 0.0)


def test_best_weight_where_models_have_zeros() -> None:
    # Zeros of a at 1 of 4 targets, of b at the others, else certain: w = 1/4. The last is impossible for both.
    a, b = np.array([math.inf, 0.0, 0.0, 0.0, math.inf]), np.array([0.0, *[math.inf] * 4])
    assert best_weight(a, b) == pytest.approx(0.25, abs=1e-6)


def test_ensemble_is_the_mean_probability() -> None:
    probabilities = np.random.default_rng(2).uniform(0.01, 1.0, (4, 20))
    together = ensemble(-np.log(probabilities))
    np.testing.assert_allclose(np.exp(-together), probabilities.mean(0), rtol=1e-13)
    assert (together <= -np.log(probabilities).mean(0) + 1e-12).all()
    with pytest.raises(ValueError, match="sum to 1"):
        ensemble(np.zeros((0, 3)))
