"""Variants on the memory tasks: gradients against brute force, a lag that is learned, a summary that adds up."""

import json
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nextword.config import MemoryParams, ModelParams
from nextword.evaluation.statistics import mean_interval
from nextword.models.stack import RecurrentStack
from nextword.pool import run_jobs
from nextword.probes.decay import growth
from nextword.probes.memory import memory_tasks
from nextword.probes.memory.flow import gradient_norms, summarize_flow
from nextword.probes.memory.tasks import TASKS
from nextword.probes.memory.training import Reader, evaluate, fresh, train, train_variant
from nextword.probes.memory.variants import VARIANTS
from nextword.probes.proportion import proportion

SMALL = MemoryParams(
    tasks=("temporal_order",),
    lags=(2, 4),
    hidden_size=8,
    batch_size=16,
    steps=20,
    learning_rates=(0.01, 0.03),
    seeds=(0, 1),
)


def stack(variant: str, size: int = 5) -> RecurrentStack:
    torch.manual_seed(3)
    made = RecurrentStack(VARIANTS[variant].params(3, size))
    made.initialize()
    return made


# ---------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("variant", VARIANTS)
def test_norms_equal_the_jacobian_by_brute_force(variant: str) -> None:
    """Run on from each state, given as one vector, to what the stack hands on; its Jacobian by autograd's function."""
    made, x = stack(variant), torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0))
    norms = gradient_norms(made, x)
    assert norms.shape == (6, 2)
    slow, size = made.double(), made.cells[0].hidden_size
    for sequence in range(2):
        states = [slow.zero_state(1)]
        for x_t in x[:, sequence].double():
            states.append(slow(x_t.view(1, 1, 3), states[-1]).states)
        for lag in range(6):
            at = states[6 - lag]
            rest, last = (x[start:, sequence].double().unsqueeze(1) for start in (6 - lag, 5))

            def run_on(vector, at=at, rest=rest, last=last[0]):
                pieces = iter(vector.split(size))
                state = tuple(type(s)(*[next(pieces).view(1, size) for _ in s]) for s in at)
                if len(rest):
                    return slow(rest, state).y_TBW[-1, 0]
                y = last
                for joint, own in zip(slow.joints, state, strict=True):
                    y = joint(own.h, y)
                return y[0]

            vector = torch.cat([field[0] for state in at for field in state]).detach()
            jacobian = torch.autograd.functional.jacobian(run_on, vector)
            assert norms[lag, sequence] == pytest.approx(float(torch.linalg.matrix_norm(jacobian, ord=2)), rel=1e-9)


def test_a_linear_network_has_the_powers_of_its_matrix() -> None:
    """A ReLU network with a positive recurrent matrix and positive input is linear: W^lag."""
    made = stack("relu", 4)
    with torch.no_grad():
        for weight in made.parameters():
            weight.abs_()
    matrix = made.cells[0].weight_hh.detach().double().numpy()
    norms = gradient_norms(made, torch.rand(12, 3, 3))
    for lag in range(12):
        expected = np.linalg.norm(np.linalg.matrix_power(matrix, lag), 2)
        np.testing.assert_allclose(norms[lag], expected, rtol=1e-10)


def test_identity_holds_the_gradient_and_residual_in_time_adds_one() -> None:
    made = stack("identity", 4)
    with torch.no_grad():
        made.cells[0].weight_ih.abs_()
    np.testing.assert_allclose(gradient_norms(made, torch.rand(9, 2, 3)), 1.0, rtol=1e-12)
    made = stack("residual_time", 4)
    with torch.no_grad():
        made.cells[0].weight_hh.copy_(0.1 * torch.eye(4))
        made.cells[0].weight_ih.zero_()
        made.cells[0].bias.zero_()
    lags = np.arange(9.0)[:, None].repeat(2, 1)
    np.testing.assert_allclose(gradient_norms(made, torch.zeros(9, 2, 3)), 1.1**lags, rtol=1e-7)


def test_an_overflow_is_infinite_and_no_error() -> None:
    made = stack("relu", 4)
    with torch.no_grad():
        made.cells[0].weight_hh.copy_(1e60 * torch.eye(4).double())  # infinite in float32
    norms = gradient_norms(made, torch.rand(9, 2, 3))
    assert np.isinf(norms).any()
    assert growth(norms, range(len(norms))) is None
    assert json.dumps(summarize_flow([norms]))


def test_summary_of_the_flow() -> None:
    lags = np.arange(10.0)[:, None]
    flow = summarize_flow([0.5**lags * [1.0, 1.0, 1.0], 0.6**lags * [1.0, 1.0, 1.0]])
    assert flow["num_sequences"] == 6 and len(flow["median"]) == len(flow["low"]) == len(flow["high"]) == 10
    np.testing.assert_allclose([flow["low"][2], flow["high"][2]], [0.25, 0.36])
    assert flow["growth"]["by_seed"] == pytest.approx([0.5, 0.6])
    assert flow["growth"]["mean"] == pytest.approx((0.5 * 0.6) ** 0.5)
    assert np.log(flow["growth"]["low"]) == pytest.approx(mean_interval(np.log([0.5, 0.6]).tolist()).low)
    assert flow["half_life"]["status"] == "falls" and 1.0 <= flow["half_life"]["tokens"] <= 1.5


# ----------------------------------------------------------------------------------------------- training


def test_variants_have_one_hidden_size_and_the_rules_across_layers_a_plain_partner() -> None:
    sizes = {name: Reader(name, TASKS["adding"], 6) for name in VARIANTS}
    matched = sizes.pop("lstm_matched")
    assert {cell.hidden_size for reader in sizes.values() for cell in reader.stack.cells} == {6}
    parameters = {name: sum(p.numel() for p in reader.parameters()) for name, reader in sizes.items()}
    one_layer = 6 * (2 + 6 + 1) + 7
    assert {parameters[name] for name in ("tanh", "relu", "identity", "residual_time")} == {one_layer}
    assert parameters["lstm"] == 4 * (one_layer - 7) + 7 and parameters["gru"] == 3 * (one_layer - 7) + 7
    assert parameters["gru_reset_after"] == parameters["gru"] + 6  # a bias of the candidate more
    assert matched.stack.cells[0].hidden_size == 5  # 4 x 5 x 8 = 160 are nearest to 3 x 6 x 9 = 162
    assert {len(sizes[name].stack.cells) for name in ("tanh_2", "residual", "highway")} == {2}
    assert all(isinstance(VARIANTS[name].params(2, 6), ModelParams) for name in VARIANTS)


@pytest.mark.parametrize("task", TASKS)
def test_a_lag_of_two_is_learned(task: str) -> None:
    params = MemoryParams(lags=(2,), hidden_size=24, steps=600)
    chain = train_variant(params, task, "gru", 0.01, 0)
    (run,) = chain["runs"]
    assert run["solved"] and not run["diverged"] and 0 < run["steps"] < 600
    assert chain["longest_lag"] == 2
    assert TASKS[task].solved(run["metric"]) and run["loss"] < TASKS[task].chance()["loss"] / 3


def test_what_is_reported_is_measured_on_fresh_sequences() -> None:
    task, params = TASKS["brackets"], SMALL
    model = fresh(params, task, "tanh", 0)
    run = train(model, task, 4, 0.01, np.random.default_rng(0), params)
    assert not run["solved"] and run["steps"] == params.steps
    loss, accuracy = evaluate(model, task, task.draw(np.random.default_rng(99), 4, 4000))
    assert run["loss"] == pytest.approx(loss, rel=0.1) and run["metric"] == pytest.approx(accuracy, abs=0.08)


def test_a_divergence_ends_the_run_and_is_a_result() -> None:
    task = TASKS["adding"]
    model = fresh(SMALL, task, "relu", 0)
    with torch.no_grad():
        model.stack.cells[0].weight_hh.fill_(1e30)
    run = train(model, task, 8, 0.01, np.random.default_rng(0), SMALL)
    assert run == {"solved": False, "steps": 0, "loss": None, "metric": None, "diverged": True}
    assert all(bool(weight.isfinite().all()) for weight in model.parameters())


def test_a_lag_is_tried_only_after_the_one_before_is_solved() -> None:
    params = MemoryParams(lags=(3, 5, 7), hidden_size=4, steps=2)
    chain = train_variant(params, "copy", "tanh", 1e-5, 0)
    assert [run["lag"] for run in chain["runs"]] == [3] and chain["longest_lag"] == 0


def test_summary_adds_up() -> None:
    calls: list[tuple[int, int]] = []
    result = memory_tasks(SMALL, 1, lambda done, of: calls.append((done, of)))
    total = len(VARIANTS) * (2 + 1)
    assert calls == [(done, total) for done in range(1, total + 1)]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["lags"] == [2, 4] and result["seeds"] == [0, 1] and list(result["tasks"]) == ["temporal_order"]
    task = result["tasks"]["temporal_order"]
    assert task["chance"] == TASKS["temporal_order"].chance() and list(task["variants"]) == list(VARIANTS)
    solved = 0
    for found in task["variants"].values():
        longest = found["longest_lag"]["by_seed"]
        assert len(longest) == 2
        solved += sum(map(bool, longest))
        for row in found["success"]:
            count = sum(lag >= row["lag"] for lag in longest)
            assert row == {"lag": row["lag"], **proportion(count, 2)}
        best = max(found["tries"], key=lambda one: (one["longest_lag"], -one["loss"]))
        assert found["learning_rate"] == best["learning_rate"] and longest[0] == best["longest_lag"]
        for seed, lag in zip((0, 1), longest, strict=True):
            assert max((r["lag"] for r in found["runs"] if r["seed"] == seed and r["solved"]), default=0) == lag
        assert {"initial", "trained"} == set(found["flow"])
    assert solved > 0


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_variant(MemoryParams(lags=(2,), hidden_size=4, steps=2), "adding", "tanh", 0.01, 0)
    assert torch.equal(torch.rand(3), expected)


# -------------------------------------------------------------------------------------------------- parts


def test_processes_give_what_one_gives_in_order_and_an_error_comes_through() -> None:
    jobs = [(SMALL, "temporal_order", "lstm", 0.01, seed) for seed in (1, 0)]
    assert [run["runs"] for run in run_jobs(train_variant, jobs, 2)] == [train_variant(*job)["runs"] for job in jobs]
    with pytest.raises(ValueError, match="math domain"):
        run_jobs(math.sqrt, [(1.0,), (-1.0,)], 2)


def test_workers_are_counted_from_one() -> None:
    assert run_jobs(math.gcd, [(12, 18), (7, 5)], 1) == [6, 1]
    assert run_jobs(math.gcd, [], 2) == []
    with pytest.raises(ValueError, match="workers is 0; take 1 or more"):
        run_jobs(math.gcd, [(1, 2)], 0)


def test_wilson() -> None:
    z, n = 1.959963984540054, 3
    assert proportion(3, 3)["low"] == pytest.approx(1 / (1 + z * z / n)) and proportion(3, 3)["high"] == 1.0
    assert proportion(0, 3)["low"] == 0.0 and proportion(0, 3)["high"] == pytest.approx(1 - 1 / (1 + z * z / n))


@pytest.mark.parametrize("lags", [(1, 2), (10, 5), (5, 5)])
def test_lags_must_rise_from_two(lags: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="must rise and start at 2 or more"):
        MemoryParams(lags=lags)
