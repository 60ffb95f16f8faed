"""Gradient flow against closed forms and against autograd on the models themselves; float64."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nextword.config import GradientParams, ModelParams
from nextword.models import MODELS, build_model
from nextword.models.cells import Cell, HState
from nextword.models.connections import CONNECTIONS
from nextword.probes.decay import growth, half_life, summarize
from nextword.probes.gradients import WARM_UP, gradient_flow, weight_norms
from nextword.probes.jacobians import Quantity, chain_norms, iterated_norms, unroll
from nextword.probes.tangents import fields_of
from nextword.report.tables import finite
from nextword.text.ids import Split

V, H, T, P = 13, 4, 6, 3
KINDS = [kind for kind in MODELS if kind != "nnlm"]
DEEP = [(kind, "plain") for kind in KINDS] + [
    (kind, connection)
    for kind in ("rnn", "gru", "lstm_peephole")
    for connection in CONNECTIONS
    if connection != "plain"
]
PARAMS = GradientParams(max_lag=12, positions=5)


class Linear(Cell):
    """``h_t = W h_{t-1} + a_t``; without a kind, so that nothing else sees it."""

    gates = ("h",)

    def step(self, a, s, w):
        return HState(w.hh(s.h, a))


def build(kind: str, connection: str = "plain", layers: int = 1, seed: int = 0, scale: float = 0.7, **more):
    torch.manual_seed(seed)
    params = ModelParams(
        kind=kind,
        connection=connection,
        num_layers=layers,
        embedding_size=H + 1,
        hidden_size=H,
        init_scale=scale,
        **more,
    )
    return build_model(params, V, 0).double().eval()


def text(length: int = 400) -> Split:
    ids = np.random.default_rng(1).integers(0, V, length).astype(np.uint8)
    return Split("test", 0, ids, np.array([0, length]), 1, 1, 1, 0, "")


def window(model):
    x = model.embed(torch.randint(V, (T, P), generator=torch.Generator().manual_seed(2))).detach()
    return x, unroll(model.stack, x, model.stack.zero_state(P))


def quiet(done: int, of: int) -> None:
    assert 0 < done <= of


def whole_jacobian(model, x: Tensor, lag: int) -> Tensor:
    """d (all states after the last step) / d (all states ``lag`` steps before), (P, n, n), by autograd on the model.

    Row i comes from the i-th of n copies of each position.
    """
    stack = model.stack
    states = stack(x[: T - lag], stack.zero_state(P)).states
    size = len(fields_of(stack)) * H
    begun = torch.cat([field for state in states for field in state], -1).detach()
    flat = begun.repeat_interleave(size, 0).requires_grad_()
    parts = iter(torch.split(flat, H, -1))
    ended = tuple(type(s)(*[next(parts) for _ in s]) for s in states)
    if lag:
        ended = stack(x[T - lag :].repeat_interleave(size, 1), ended).states
    final = torch.cat([field for state in ended for field in state], -1)
    rows = final.view(P, size, size).diagonal(dim1=1, dim2=2).sum()
    return torch.autograd.grad(rows, flat)[0].view(P, size, size)


def norm(matrix: Tensor) -> np.ndarray:
    return torch.linalg.matrix_norm(matrix, ord=2).numpy()


# ------------------------------------------------------------------------------------------- closed forms


def test_linear_rnn_has_the_norms_of_its_matrix_powers() -> None:
    model = build("rnn")
    cell = Linear(H + 1, H).double()
    cell.initialize(0.6)
    model.stack.layers[0] = cell
    report = gradient_flow(model, text(), PARAMS, seed=0)
    matrix = cell.weight_hh.detach().numpy()
    powers = [np.linalg.matrix_power(matrix, lag) for lag in range(13)]
    exact = [np.linalg.norm(power, 2) for power in powers]
    for series in (report["layers"][0]["h"], report["stack"]):
        assert series["lags"] == list(range(13))
        for key in ("0.1", "0.5", "0.9"):
            np.testing.assert_allclose(series["quantiles"][key], exact, rtol=1e-10)
        np.testing.assert_allclose(series["mean"], exact, rtol=1e-10)
        np.testing.assert_allclose(series["sd"], 0.0, atol=1e-10)
    bound = report["layers"][0]["bound"]
    assert bound["beta_h"] == 1.0 and bound["beta_W"] == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-12)
    np.testing.assert_allclose(bound["values"], np.linalg.norm(matrix, 2) ** np.arange(13.0), rtol=1e-10)
    assert bound["holds"] and bound["checked"] == 13 * 5


def test_linear_rnn_has_the_weight_gradients_of_its_equations() -> None:
    model = build("rnn")
    cell = Linear(H + 1, H).double()
    cell.initialize(0.6)
    model.stack.layers[0] = cell
    _, run = window(model)
    direction = torch.randn(P, H, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (norms,) = weight_norms((run.y_PW * direction).sum(), run)
    matrix = cell.weight_hh.detach()
    for lag in range(T):
        before = run.field(T - 2 - lag, (0, "h")).detach()
        back = direction @ torch.linalg.matrix_power(matrix, lag)
        np.testing.assert_allclose(norms[lag], (back.norm(dim=1) * before.norm(dim=1)).numpy(), rtol=1e-10)


def test_symmetric_matrix_meets_its_bound_and_does_not_violate_it() -> None:
    model = build("rnn_relu")
    with torch.no_grad():
        cell = model.stack.cells[0]
        cell.weight_hh.copy_(torch.diag(torch.tensor([0.9, 0.5, 0.3, 0.1], dtype=torch.float64)))
        cell.bias.fill_(100.0)  # every unit is above 0 at every step, so the network is linear
    report = gradient_flow(model, text(), PARAMS, seed=0)["layers"][0]
    np.testing.assert_allclose(report["h"]["mean"], 0.9 ** np.arange(13.0), rtol=1e-10)
    assert report["bound"]["holds"] and report["bound"]["largest_share"] == pytest.approx(1.0, rel=1e-10)
    assert report["h"]["half_life"]["tokens"] == pytest.approx(math.log(2) / -math.log(0.9), rel=1e-3)


# ---------------------------------------------------------------------------------------------- autograd


@pytest.mark.parametrize(("kind", "connection"), DEEP)
def test_norms_equal_those_of_autograd(kind: str, connection: str) -> None:
    model = build(kind, connection, layers=3)
    x, run = window(model)
    fields = fields_of(model.stack)
    quantities = [Quantity(f, (f,), tuple(o for o in fields if o[0] == f[0])) for f in fields]
    everything = Quantity((2, "h"), tuple(fields), tuple(fields))
    through_all = Quantity((2, "h"), ((2, "h"),), tuple(fields))
    found = chain_norms(model.stack, run, [*quantities, everything, through_all], range(T), quiet)
    for lag in range(T):
        jacobian = whole_jacobian(model, x, lag)
        for i in range(len(fields)):
            block = jacobian[:, i * H : (i + 1) * H, i * H : (i + 1) * H]
            np.testing.assert_allclose(found[i][lag], norm(block), rtol=1e-10)
        top = fields.index((2, "h")) * H
        np.testing.assert_allclose(found[-2][lag], norm(jacobian[:, top : top + H]), rtol=1e-10)
        np.testing.assert_allclose(found[-1][lag], found[fields.index((2, "h"))][lag], rtol=1e-12)


@pytest.mark.parametrize(("kind", "connection"), DEEP)
def test_weight_gradients_equal_those_of_a_model_with_weights_of_its_own_at_each_step(
    kind: str, connection: str
) -> None:
    model = build(kind, connection, layers=2)
    x, run = window(model)
    direction = torch.randn(run.y_PW.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = weight_norms((run.y_PW * direction).sum(), run)
    copies = [copy.deepcopy(model.stack) for _ in range(T)]
    for p in range(P):
        states = model.stack.zero_state(1)
        for own, x_1E in zip(copies, x[:, p : p + 1], strict=True):
            output = own(x_1E[None], states)
            states = output.states
        weights = [
            [w for name, w in cell.named_parameters() if w.dim() == 2 and name != "weight_ih"]
            for own in reversed(copies) for cell in own.cells
        ]  # fmt: skip
        flat = [w for of_cell in weights for w in of_cell]
        grads = iter(torch.autograd.grad((output.y_TBW[0, 0] * direction[p]).sum(), flat))
        norms = [math.sqrt(sum(float(next(grads).square().sum()) for _ in of_cell)) for of_cell in weights]
        for layer in range(2):
            np.testing.assert_allclose(found[layer][:, p], norms[layer::2], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("kind", ["lstm", "lstm_nfg", "lstm_niaf"])
def test_direct_path_of_the_memory_cell_is_the_product_of_its_forget_gates(kind: str) -> None:
    model = build(kind)
    cell = model.stack.cells[0]
    with torch.no_grad():
        for name, vector in cell.named_parameters():
            if name.startswith("peephole"):
                vector.zero_()
    x, run = window(model)
    (found,) = chain_norms(model.stack, run, [Quantity((0, "c"), ((0, "c"),), ((0, "c"),))], range(T), quiet)
    expected = torch.ones(P, H, dtype=torch.float64)
    for lag in range(T):
        np.testing.assert_allclose(found[lag], expected.amax(1).numpy(), rtol=1e-12)
        if kind != "lstm_nfg":
            rows, h = cell.gate_rows("f"), run.field(T - 2 - lag, (0, "h"))
            inner = x[T - 1 - lag] @ cell.weight_ih[rows].T + h @ cell.weight_hh[rows].T + cell.bias[rows]
            expected = (expected * torch.sigmoid(inner)).detach()


@pytest.mark.parametrize(("kind", "layers"), [("rnn", 1), ("lstm", 1), ("gru", 2)])
def test_power_iteration_agrees_with_singular_values(kind: str, layers: int) -> None:
    model = build(kind, "plain" if layers == 1 else "highway", layers)
    _, run = window(model)
    fields = fields_of(model.stack)
    own = tuple(f for f in fields if f[0] == 0)
    quantities = [
        Quantity((layers - 1, "h"), tuple(fields), tuple(fields)),
        *(Quantity(f, (f,), own) for f in own if f[1] in "hc"),
    ]
    lags = [0, 2]
    exact = chain_norms(model.stack, run, quantities, lags, quiet)
    near = iterated_norms(model.stack, run, quantities, lags, 60, quiet)
    rough = iterated_norms(model.stack, run, quantities, lags, 3, quiet)
    for one, other, third in zip(exact, near, rough, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3)
        assert (other <= one * (1 + 1e-12)).all() and (third <= one * (1 + 1e-12)).all()
        assert third.max() > 0.0


# --------------------------------------------------------------------------------------- the notes' bound


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("kind", ["rnn", "rnn_relu"])
def test_bound_is_never_violated(kind: str, scale: float, layers: int) -> None:
    for seed in range(3):
        model = build(kind, layers=layers, seed=seed, scale=scale)
        report = gradient_flow(model, text(), PARAMS, seed)
        for layer in report["layers"]:
            assert layer["bound"]["holds"] and layer["bound"]["violations"] == 0
            assert 0.0 <= layer["bound"]["largest_share"] <= 1.0 + 1e-9


def test_bound_is_never_violated_in_training() -> None:
    model = build("rnn")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    tokens = torch.randint(V, (20, 8), generator=torch.Generator().manual_seed(4))
    tokens[1:] = (tokens[:-1] + 1) % V
    start = end = 0.0
    for step in range(40):
        loss = model.training_loss(tokens, model.initial_state(8))[0] / tokens.numel()
        end = float(loss.detach())
        start = start or end
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            assert gradient_flow(model, text(), PARAMS, 0)["layers"][0]["bound"]["holds"]
    assert end < 0.8 * start


def test_a_norm_above_the_bound_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(*args: object) -> list[np.ndarray]:
        return [2.0 * norms for norms in chain_norms(*args)]

    model = build("rnn_relu")
    with torch.no_grad():
        model.stack.cells[0].weight_hh.copy_(torch.eye(H))
        model.stack.cells[0].bias.fill_(100.0)
    monkeypatch.setattr("nextword.probes.gradients.chain_norms", doubled)
    bound = gradient_flow(model, text(), PARAMS, 0)["layers"][0]["bound"]
    assert not bound["holds"] and bound["violations"] == bound["checked"]


# ------------------------------------------------------------------------------------------- whole reports


@pytest.mark.parametrize("exact_size", [1024, 1])
@pytest.mark.parametrize(("kind", "connection"), DEEP)
def test_every_cell_and_connection_runs(kind: str, connection: str, exact_size: int) -> None:
    params = GradientParams(max_lag=4, positions=3, exact_size=exact_size, power_iterations=2)
    model = build(kind, connection, layers=2)
    before = copy.deepcopy(model.state_dict())
    report = gradient_flow(model.float(), text(), params, 0, quiet)
    json.dumps(finite(report), allow_nan=False)
    assert report["method"] == ("exact" if exact_size > 1 else "power iteration")
    assert len(report["layers"]) == 2 and len(report["positions"]) == 3
    has_cell = kind.startswith("lstm")
    for layer in report["layers"]:
        assert (layer["c"] is not None) == has_cell and (layer["c_direct"] is not None) == has_cell
        assert (layer["bound"] is not None) == (kind in ("rnn", "rnn_relu"))
        assert layer["h"]["mean"][0] == pytest.approx(1.0) and layer["h"]["lags"][-1] == 4
        assert len(layer["loss_by_weights"]["mean"]) == 5
    assert report["stack"]["mean"][0] == pytest.approx(1.0, abs=0.5)
    assert all(torch.equal(value.float(), model.state_dict()[key]) for key, value in before.items())


def test_reads_the_text_at_its_positions() -> None:
    model, split = build("gru"), text()
    report = gradient_flow(model, split, PARAMS, seed=3)
    assert report["positions"] == gradient_flow(model, split, PARAMS, seed=3)["positions"]
    assert report["positions"] != gradient_flow(model, split, PARAMS, seed=4)["positions"]
    place = report["positions"][0]
    ids = torch.from_numpy(split.ids[place - 12 - WARM_UP : place + 2].astype(np.int64))[:, None]
    copies = [copy.deepcopy(model.stack) for _ in ids[1:]]
    states = model.stack.zero_state(1)
    for own, x in zip(copies, model.embed(ids[:-1]), strict=True):
        output = own(x[None], states)
        states = output.states
    nats = -model.output.log_prob(model.projection(output.y_TBW[0]))[0, ids[-1, 0]]
    grad = torch.autograd.grad(nats, copies[-3].cells[0].weight_hh)[0].norm()
    one = gradient_flow(model, split, PARAMS.model_copy(update={"positions": 5}), seed=3)
    low, high = (one["layers"][0]["loss_by_weights"]["quantiles"][key][2] for key in ("0.1", "0.9"))
    alone = Split("test", 0, split.ids[place - 12 - WARM_UP : place + 2], np.array([0, 78]), 1, 1, 1, 0, "")
    found = gradient_flow(model, alone, PARAMS, seed=0)
    assert found["positions"] == [12 + WARM_UP] and low <= high
    assert found["layers"][0]["loss_by_weights"]["mean"][2] == pytest.approx(float(grad.detach()), rel=1e-10)
    assert found["layers"][0]["h"]["sd"] is None


def test_an_exploding_state_is_a_result() -> None:
    model = build("rnn_relu")
    with torch.no_grad():
        model.stack.cells[0].weight_hh.copy_(1e200 * torch.eye(H, dtype=torch.float64))
        model.stack.cells[0].bias.fill_(1.0)
    report = gradient_flow(model, text(), PARAMS, 0)
    layer = finite(report)["layers"][0]
    assert layer["h"]["mean"][-1] is None and layer["h"]["half_life"]["status"] == "grows"
    assert layer["bound"]["holds"] and layer["bound"]["beta_W"] == pytest.approx(1e200)
    assert layer["loss_by_weights"]["mean"][0] is None
    json.dumps(finite(report), allow_nan=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "nnlm", "window": 2}, "carries no state from left to right"),
        ({"kind": "rnn", "bidirectional": True}, "carries no state from left to right"),
    ],
)
def test_models_without_a_recurrent_state_are_refused(model: dict[str, object], message: str) -> None:
    params = ModelParams(embedding_size=H, hidden_size=H, **model)
    with pytest.raises(ValueError, match=message):
        gradient_flow(build_model(params, V, 0), text(), PARAMS, 0)


def test_a_short_text_is_refused() -> None:
    with pytest.raises(ValueError, match="test has 60 tokens, and a gradient over 12 needs 78; set probe"):
        gradient_flow(build("rnn"), text(60), PARAMS, 0)


# ---------------------------------------------------------------------------------------------- half-life


def test_half_life_by_hand() -> None:
    lags = [0, 1, 2, 4, 8, 16]
    falling = np.array([[2.0 ** (-lag / 5)] * 3 for lag in lags])
    found = half_life(falling, lags)
    assert found["status"] == "falls" and found["doubling_tokens"] is None
    for key in ("tokens", "low", "high", "halving_tokens", "halving_low", "halving_high"):
        assert found[key] == pytest.approx(5.0)
    growing = half_life(1.0 / falling, lags)
    assert growing["status"] == "grows" and growing["tokens"] is None and growing["low"] is None
    assert growing["doubling_tokens"] == pytest.approx(5.0) and growing["halving_tokens"] is None
    lasting = half_life(falling**0.1, lags)
    assert lasting["status"] == "lasts" and lasting["tokens"] is None and lasting["doubling_tokens"] is None
    assert lasting["halving_tokens"] == pytest.approx(50.0)


def test_half_life_of_norms_that_vanish_at_one_position() -> None:
    lags = [0, 1, 2, 3]
    norms = np.array([[1.0, 1.0, 1.0], [0.8, 0.0, 0.8], [0.4, 0.0, 0.4], [0.2, 0.0, 0.2]])
    found = half_life(norms, lags)
    expected = 1 + (math.log(0.5) - math.log(0.8)) / (math.log(0.4) - math.log(0.8))
    assert found["tokens"] == pytest.approx(expected)
    assert found["low"] < 0.1 and found["high"] == pytest.approx(expected)


def test_growth_by_hand() -> None:
    lags = [0, 1, 2, 4, 8, 16]
    steps = np.array(lags, np.float64)[:, None]
    assert growth(0.7**steps, lags) == pytest.approx(0.7)
    assert growth(1.3**steps, lags) == pytest.approx(1.3)
    kink = np.where(steps == 0, 1.0, 0.1 * 0.9**steps)  # what happens in the first step does not count
    assert growth(kink, lags) == pytest.approx(0.9)
    assert growth(kink[:2], lags[:2]) == pytest.approx(0.09)
    assert growth(np.where(steps == 0, 1.0, 0.0), lags) == 0.0
    assert growth(np.where(steps == 4, np.inf, 1.0), lags) is None


def test_summary_has_the_spread_over_positions() -> None:
    norms = np.array([[1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4]])
    found = summarize(norms, [0, 1])
    assert found["positions"] == 4 and found["mean"][1] == pytest.approx(0.25)
    assert found["sd"][1] == pytest.approx(np.std(norms[1], ddof=1))
    assert found["quantiles"]["0.5"][1] == pytest.approx(0.25)
    assert 0.1 <= found["low"][1] < 0.25 < found["high"][1] <= 0.4
