"""Exploding gradients: a diverging run is recorded, clipping and scale do what they should, nothing raises."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from probe_fixtures import encode

from nextword.config import ExplodingParams
from nextword.probes import exploding
from nextword.probes.exploding import exploding_gradients, train_run
from nextword.text import load_ids

SMALL = ExplodingParams(scales=(0.5, 3.0), hidden_size=16, steps=8, seeds=(0, 1), learning_rate=0.1)


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]
    text = "\n".join(" ".join(random.choice(words, 10)) for _ in range(120))
    short = "\n".join(" ".join(random.choice(words, 10)) for _ in range(3))
    return encode(tmp_path_factory.mktemp("exploding"), train=[text], valid=[short], test=[short]).folder


def test_a_diverging_run_is_recorded(ids: Path) -> None:
    run = train_run(ids, SMALL, "rnn_relu", 3.0, False, 0)
    step = run["first_non_finite"]
    assert run["diverged"] and run["non_finite"] in ("loss", "gradient") and run["final_loss"] is None
    assert step is not None and 0 < step < SMALL.steps
    assert len(run["losses"]) == len(run["grad_norms"]) == step
    assert run["grad_norm_before"] == run["grad_norms"][-1] > 1e3
    assert all(map(math.isfinite, run["losses"] + run["grad_norms"]))


def test_a_run_that_goes_well(ids: Path) -> None:
    run = train_run(ids, SMALL, "rnn", 0.5, True, 0)
    uniform = math.log(load_ids(ids).vocab_size)
    assert not run["diverged"] and run["first_non_finite"] is run["non_finite"] is run["grad_norm_before"] is None
    assert len(run["losses"]) == SMALL.steps and run["losses"][0] == pytest.approx(uniform, rel=0.05)
    assert run["final_loss"] == pytest.approx(np.mean(run["losses"][-exploding.LAST_STEPS :]))
    assert run["losses"][-1] < run["losses"][0]


def test_a_loss_that_is_finite_and_huge_has_diverged(ids: Path) -> None:
    run = train_run(ids, SMALL.model_copy(update={"learning_rate": 1e3}), "rnn", 0.5, False, 0)
    assert run["non_finite"] is None and run["final_loss"] > 1.5 * math.log(load_ids(ids).vocab_size)
    assert run["diverged"]


def test_clipping_bounds_the_step_and_norms_are_those_before_it(ids: Path) -> None:
    """From the same weights both see the same first gradient; then the clipped one has moved less."""
    tight = SMALL.model_copy(update={"clip_norm": 1e-6, "steps": 30})
    free, clipped = (train_run(ids, tight, "rnn", 0.5, flag, 0) for flag in (False, True))
    assert free["losses"][0] == clipped["losses"][0] and free["grad_norms"][0] == clipped["grad_norms"][0] > 1e-3
    assert clipped["final_loss"] == pytest.approx(clipped["losses"][0], rel=0.05)
    assert free["final_loss"] < clipped["final_loss"]


def test_the_state_is_carried_and_begins_anew_with_the_text(ids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With updates too small to matter, a second pass over the text repeats the losses of the first."""
    windows = -(-(load_ids(ids)["train"].num_tokens // exploding.BATCH_SIZE) // exploding.BPTT)
    still = SMALL.model_copy(update={"learning_rate": 1e-12, "steps": 2 * windows})
    losses = train_run(ids, still, "rnn", 0.5, False, 0)["losses"]
    np.testing.assert_allclose(losses[windows:], losses[:windows], rtol=1e-6)
    assert windows > 1 and len(set(losses[:windows])) == windows


def test_the_sweep(ids: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = exploding_gradients(ids, SMALL, 1, lambda done, of: calls.append((done, of)))
    assert calls[-1] == (16, 16) and len(calls) == 16
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["uniform_loss"] == pytest.approx(math.log(load_ids(ids).vocab_size))
    settings = result["settings"]
    assert [(s["kind"], s["scale"], s["clipped"]) for s in settings] == [
        (kind, scale, clipped) for kind in ("rnn", "rnn_relu") for scale in (0.5, 3.0) for clipped in (False, True)
    ]
    for setting in settings:
        runs = setting["runs"]
        assert [run["seed"] for run in runs] == [0, 1]
        counts = {
            "diverged": sum(run["diverged"] for run in runs),
            "non_finite": sum(run["first_non_finite"] is not None for run in runs),
        }
        for key, count in counts.items():
            assert setting[key]["count"] == count and setting[key]["of"] == 2
            assert setting[key]["low"] <= setting[key]["rate"] <= setting[key]["high"]
        finite = [run["final_loss"] for run in runs if run["final_loss"] is not None]
        assert (setting["final_loss"] is None) == (not finite)
        assert not finite or setting["final_loss"]["mean"] == pytest.approx(np.mean(finite))
    shares = {(s["kind"], s["scale"], s["clipped"]): s["diverged"]["rate"] for s in settings}
    assert shares["rnn_relu", 3.0, False] == 1.0 and shares["rnn", 0.5, True] == 0.0
