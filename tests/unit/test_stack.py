"""Layer connections and the stack, against the equations written out."""

import pytest
import torch
from torch import Tensor

from nextword.config import ModelParams
from nextword.models import build_model
from nextword.models.connections import CONNECTIONS, Highway
from nextword.models.scan import scan
from nextword.models.stack import RecurrentStack

E, H, T, B, V = 5, 4, 6, 2, 11


def build(connection: str, **changes: object) -> RecurrentStack:
    sizes = {"embedding_size": E, "hidden_size": H, "num_layers": 3, "init_scale": 0.7}
    params = ModelParams(**{"kind": "gru", "connection": connection} | sizes | changes)
    torch.manual_seed(0)
    stack = RecurrentStack(params).double()
    stack.initialize()
    return stack


def expected(stack: RecurrentStack, x: Tensor, connection: str) -> Tensor:
    """The equations, layer by layer."""
    handed = [x]
    for number, cell in enumerate(stack.cells, start=1):
        read = torch.cat(handed, -1) if connection == "dense" else handed[-1]
        h, _ = scan(cell, read, cell.zero_state(B), "loop")
        if number > 1 and connection == "residual":
            h = h + read
        if number > 1 and connection == "highway":
            joint = stack.joints[number - 1]
            t = torch.sigmoid(read @ joint.weight.t() + joint.bias)
            h = t * h + (1 - t) * read
        handed.append(h)
    return torch.cat(handed, -1) if connection == "dense" else handed[-1]


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "lstm_fgr"])
@pytest.mark.parametrize("connection", CONNECTIONS)
def test_equations(connection: str, kind: str) -> None:
    stack = build(connection, kind=kind)
    x = torch.randn(T, B, E, dtype=torch.float64)
    read = stack(x, stack.zero_state(B))
    torch.testing.assert_close(read.y_TBW, expected(stack, x, connection), rtol=1e-10, atol=1e-10)
    assert read.y_TBW.shape[-1] == stack.width == (E + 3 * H if connection == "dense" else H)


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_gradients_are_right(connection: str) -> None:
    stack = build(connection, hidden_size=2, embedding_size=2)
    x = torch.randn(3, B, 2, dtype=torch.float64, requires_grad=True)
    names, weights = zip(*stack.named_parameters(), strict=True)

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        arguments = (x, stack.zero_state(B))
        return torch.func.functional_call(stack, dict(zip(names, weights, strict=True)), arguments).y_TBW

    assert torch.autograd.gradcheck(run, (x, *weights))


def test_a_highway_starts_by_carrying() -> None:
    (gate, *_) = [joint for joint in build("highway").joints if isinstance(joint, Highway)]
    assert torch.equal(gate.bias, torch.full((H,), -1.0, dtype=torch.float64))
    assert gate.weight.abs().max() <= 0.7 and gate.weight.abs().min() > 0


@pytest.mark.parametrize("connection", ["residual", "dense"])
def test_a_layer_is_dropped_once(connection: str) -> None:
    """With every output of one layer dropped, the stream that passes by it is whole."""
    stack = build(connection, num_layers=2, dropout_hidden=0.0, dropout_output=0.999999)
    x = torch.randn(T, B, E, dtype=torch.float64)
    first, _ = scan(stack.cells[0], x, stack.cells[0].zero_state(B))
    y = stack(x, stack.zero_state(B)).y_TBW
    if connection == "residual":
        assert torch.equal(y, first)
    else:
        assert torch.equal(y, torch.cat([x, first, torch.zeros_like(first)], -1))


@pytest.mark.parametrize(
    ("given", "rates"),
    [
        ({"dropout": 0.2}, (0.2, 0.2, 0.2, 0.2)),
        ({"dropout": 0.2, "dropout_input": 0.0, "dropout_output": 0.5}, (0.0, 0.2, 0.2, 0.5)),
        ({"dropout_hidden": 0.1}, (0.0, 0.1, 0.1, 0.0)),
    ],
)
def test_where_dropout_falls(given: dict, rates: tuple) -> None:
    model = build_model(ModelParams(kind="rnn", num_layers=3, **given), V, 0)
    assert (model.dropout_input.p, *(module.p for module in model.stack.dropouts)) == rates


def test_where_dropout_falls_without_recurrence() -> None:
    model = build_model(ModelParams(kind="nnlm", window=2, dropout=0.2, dropout_output=0.5), V, 0)
    assert (model.dropout_input.p, model.dropout.p) == (0.2, 0.5)


def test_recurrent_matrices_at_the_start() -> None:
    orthogonal = build("plain", recurrent_init="orthogonal", recurrent_scale=0.5)
    for cell in orthogonal.cells:
        for block in cell.weight_hh.split(H):
            torch.testing.assert_close(block @ block.t(), 0.25 * torch.eye(H, dtype=torch.float64))
    irnn = build("plain", kind="rnn_relu", recurrent_init="identity")
    assert all(torch.equal(cell.weight_hh, torch.eye(H, dtype=torch.float64)) for cell in irnn.cells)
    lstm = build("plain", kind="lstm", forget_bias=-2.0)
    assert all((cell.bias[cell.gate_rows("f")] == -2.0).all() for cell in lstm.cells)


@pytest.mark.parametrize(
    ("connection", "recurrent", "matrices", "projected"),
    [
        ("plain", 3 * H * (E + H + 1) + 2 * 3 * H * (2 * H + 1), 3 * H * (E + 5 * H), H),
        ("residual", 3 * H * (E + H + 1) + 2 * 3 * H * (2 * H + 1), 3 * H * (E + 5 * H), H),
        (
            "highway",
            3 * H * (E + H + 1) + 2 * (3 * H * (2 * H + 1) + H * H + H),
            3 * H * (E + 5 * H) + 2 * H * H,
            H,
        ),
        (
            "dense",
            3 * H * sum(read + H + 1 for read in (E, E + H, E + 2 * H)),
            3 * H * sum(read + H for read in (E, E + H, E + 2 * H)),
            E + 3 * H,
        ),
    ],
)
def test_counts_by_hand(connection: str, recurrent: int, matrices: int, projected: int) -> None:
    """Three layers of a GRU; the tied output needs a projection back to the embedding size."""
    params = ModelParams(kind="gru", embedding_size=E, hidden_size=H, num_layers=3, connection=connection)
    model = build_model(params, V, 0)
    output = V + projected * E
    assert model.num_parameters() == {
        "embedding": V * E, "recurrent": recurrent, "output": output, "total": V * E + recurrent + output,
    }  # fmt: skip
    last = 2 * (V * E + projected * E)
    assert model.operations_per_token() == {"recurrent": 2 * matrices, "output": last, "total": 2 * matrices + last}
    untied = build_model(params.model_copy(update={"tie_weights": False}), V, 0)
    assert untied.num_parameters()["output"] == V * projected + V


def test_weights_are_drawn_in_a_fixed_order() -> None:
    """Embedding and output, projection, layers from the lowest: a seed means the same weights in every version."""
    params = ModelParams(kind="lstm", embedding_size=E, hidden_size=H, num_layers=2, connection="highway")
    drawn: list[Tensor] = []
    uniform = torch.nn.init.uniform_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.init, "uniform_", lambda w, *bounds: drawn.append(w) or uniform(w, *bounds))
        model = build_model(params, V, 0)
    order = [model.embedding.weight, model.projection.weight, *model.stack.cells[0].parameters(),
             *model.stack.cells[1].parameters(), model.stack.joints[1].weight]  # fmt: skip
    assert [id(w) for w in drawn[-len(order) :]] == [id(w) for w in order]
