"""Regularisers: what their masks share, what they leave alone, and penalties by hand."""

import pytest
import torch
from torch import nn

from nextword.config import ModelParams
from nextword.models.cells import CELLS
from nextword.models.regularizers import (
    Dropout,
    EmbeddingDropout,
    StateDrop,
    VariationalDropout,
    WeightDrop,
    activation_penalty,
)
from nextword.models.regularizers.dropout import dropout
from nextword.models.scan import order, scan, why_not
from nextword.models.stack import RecurrentStack, StackOutput

P = 0.3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.01, P, 0.65])
def test_dropout_takes_numbers_one_by_one_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    x = torch.ones(300, 1000, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    assert y.dtype == dtype
    kept = torch.tensor(1 / (1 - p), dtype=torch.float32).to(dtype).item()
    assert y.unique().tolist() == [0.0, pytest.approx(kept)]
    gone = (y == 0).double()
    spread = (p * (1 - p)) ** 0.5
    assert gone.mean().item() == pytest.approx(p, abs=4 * spread / x.numel() ** 0.5)
    for along in (0, 1):  # neither rows nor columns share a fate
        of_lines = gone.mean(along)
        assert of_lines.std().item() == pytest.approx(spread / x.shape[along] ** 0.5, rel=0.2)
    y.float().sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y)


def test_dropout_draws_nothing_where_nothing_is_dropped() -> None:
    x, before = torch.randn(5, 4), torch.get_rng_state()
    assert Dropout(0.0)(x) is x
    assert Dropout(P).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_variational_mask_is_shared_over_time_and_not_over_columns() -> None:
    y = VariationalDropout(P)(torch.ones(6, 400, 50))
    assert torch.equal(y, y[:1].expand_as(y))
    assert not torch.equal(y[0, 0], y[0, 1])
    assert y.unique().tolist() == [0.0, pytest.approx(1 / (1 - P))]
    assert y.mean().item() == pytest.approx(1.0, abs=4 * (P / (1 - P) / (400 * 50)) ** 0.5)


def test_embedding_dropout_drops_types_and_leaves_the_matrix() -> None:
    embedding = nn.Embedding(2000, 3)
    nn.init.ones_(embedding.weight)
    tokens = torch.randint(2000, (50, 100))
    x = EmbeddingDropout(P)(embedding, tokens)
    assert x.unique().tolist() == [0.0, pytest.approx(1 / (1 - P))]
    kept = torch.full((2000,), -1.0).scatter(0, tokens.flatten(), x[..., 0].flatten())
    assert torch.equal(x, kept[tokens].unsqueeze(-1).expand_as(x))  # a type has one fate wherever it stands
    assert (kept[kept >= 0] == 0).float().mean().item() == pytest.approx(P, abs=0.05)
    assert torch.equal(embedding.weight, torch.ones(2000, 3))


def test_a_dropped_type_gets_no_gradient_but_through_the_output() -> None:
    embedding = nn.Embedding(40, 3)
    tokens = torch.arange(40)[:, None]
    x = EmbeddingDropout(P)(embedding, tokens)
    x.sum().backward()
    assert embedding.weight.grad is not None
    dropped = (x[:, 0] == 0).all(-1)
    assert 0 < dropped.sum() < 40
    assert torch.equal(embedding.weight.grad.sum(-1) == 0, dropped)


@pytest.mark.parametrize("kind", CELLS)
def test_weight_drop_falls_on_matrices_alone(kind: str) -> None:
    cell = CELLS[kind](3, 20)
    cell.initialize(1.0)
    weights = cell.recurrent_weights()
    dropped = WeightDrop(P)(weights)
    assert dropped.keys() == weights.keys()
    for name, w in weights.items():
        if w.dim() == 2:
            gone = dropped[name] == 0
            assert gone.float().mean().item() == pytest.approx(P, abs=0.1)
            torch.testing.assert_close(dropped[name][~gone], w[~gone] / (1 - P))
        else:
            assert torch.equal(dropped[name], w)


@pytest.mark.parametrize("kind", CELLS)
def test_state_drop_takes_units_from_each_gate_for_itself(kind: str) -> None:
    cell = CELLS[kind](3, 50)
    cell.initialize(1.0)
    weights = cell.recurrent_weights()
    dropped, patterns = StateDrop(P)(weights), []
    for name, w in weights.items():
        if w.dim() != 2:
            assert torch.equal(dropped[name], w)
            continue
        for own, block in zip(w.split(50), dropped[name].split(50), strict=True):
            gone = (block == 0).all(0)
            torch.testing.assert_close(block[:, ~gone], own[:, ~gone] / (1 - P))
            assert 0 < gone.float().mean().item() < 0.65
            patterns.append(tuple(gone.tolist()))
    assert len(set(patterns)) == len(patterns)
    assert StateDrop(P).eval()(weights) is weights


def test_state_drop_of_an_rnn_is_dropout_of_its_state() -> None:
    cell = CELLS["rnn"](3, 8).double()
    cell.initialize(0.7)
    torch.manual_seed(5)
    weights = StateDrop(0.5)(cell.recurrent_weights())
    torch.manual_seed(5)
    mask = dropout(torch.ones(1, 1, 8, dtype=torch.float64), 0.5)[0]
    x, h = torch.randn(5, 2, 3, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.float64)
    output, _ = scan(cell, x, cell.zero_state(2), "loop", weights)
    for step in range(5):
        h = torch.tanh(x[step] @ cell.weight_ih.T + (mask * h) @ cell.weight_hh.T + cell.bias)
        torch.testing.assert_close(output[step], h, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "rnn", "gru_reset_after", "gru", "lstm_peephole"])
def test_a_weight_mask_means_the_same_on_every_engine(kind: str) -> None:
    cell = CELLS[kind](3, 4).double()
    cell.initialize(0.8)
    x, state = torch.randn(6, 2, 3, dtype=torch.float64), cell.zero_state(2)
    weights = WeightDrop(0.5)(cell.recurrent_weights())
    runs = []
    for engine in [engine for engine in order() if why_not(engine, CELLS[kind]) is None]:
        output, _ = scan(cell, x, state, engine, weights)
        gradients = torch.autograd.grad(output.square().sum(), list(cell.parameters()), retain_graph=True)
        runs.append((output, *gradients))
    assert len(runs) >= 2
    whole, _ = scan(cell, x, state, "loop")
    assert not torch.allclose(runs[0][0], whole)
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_one_weight_mask_a_window_whatever_is_recomputed() -> None:
    """Checkpointing cuts the window into parts, the mask does not change with them."""
    params = ModelParams(kind="lstm", embedding_size=3, hidden_size=4, num_layers=2, weight_drop=0.5, init_scale=0.8)
    x, outputs = torch.randn(7, 2, 3), []
    for steps in (None, 2):
        stack = RecurrentStack(params.model_copy(update={"checkpoint_steps": steps}))
        torch.manual_seed(1)
        stack.initialize()
        y = stack(x, stack.zero_state(2)).y_TBW
        outputs.append((y, *torch.autograd.grad(y.square().sum(), list(stack.parameters()))))
    for a, b in zip(*outputs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("module", [VariationalDropout(P), WeightDrop(P), EmbeddingDropout(P)])
def test_all_rest_in_evaluation(module: nn.Module) -> None:
    module.eval()
    x = torch.randn(3, 4, 5)
    if isinstance(module, WeightDrop):
        assert torch.equal(module({"hh": x[0]})["hh"], x[0])
    elif isinstance(module, EmbeddingDropout):
        embedding, tokens = nn.Embedding(9, 2), torch.randint(9, (4, 3))
        assert torch.equal(module(embedding, tokens), embedding(tokens))
    else:
        assert module(x) is x


def test_penalties_by_hand() -> None:
    y = torch.tensor([[[1.0, 2.0]], [[3.0, 0.0]]])
    raw = torch.tensor([[[1.0, 0.0]], [[4.0, 2.0]]])
    ar, tar = (1 + 4 + 9 + 0) / 4, (9 + 4) / 2
    for alpha, beta in ((2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        penalty = activation_penalty(y, raw, alpha, beta)
        assert penalty is not None and penalty.item() == pytest.approx(alpha * ar + beta * tar)
    assert activation_penalty(y, raw, 0.0, 0.0) is None


def test_a_window_of_one_step_has_no_change() -> None:
    y = torch.ones(1, 2, 3)
    penalty = activation_penalty(y, y, 2.0, 5.0)
    assert penalty is not None and penalty.item() == 2.0


def test_temporal_penalty_ends_with_the_window() -> None:
    """The jump from the state before a window to its first step is not counted, so parts sum to less than the whole."""
    raw = torch.arange(6.0)[:, None, None].square()
    changes = raw.diff(dim=0).square().flatten()
    for part, inside in ((raw[:3], changes[:2]), (raw[3:], changes[3:])):
        penalty = activation_penalty(part, part, 0.0, 1.0)
        assert penalty is not None and penalty.item() == pytest.approx(inside.mean().item())


def test_penalty_sees_dropped_outputs_for_ar_and_whole_ones_for_tar() -> None:
    params = ModelParams(kind="rnn", embedding_size=3, hidden_size=4, dropout=0.5, activation_penalty=2.0,
                         temporal_penalty=3.0)  # fmt: skip
    stack = RecurrentStack(params)
    stack.initialize()
    read = stack(torch.randn(5, 2, 3), stack.zero_state(2))
    assert (read.y_TBW == 0).any() and not (read.raw_TBH == 0).any()
    penalty = stack.penalty(read)
    expected = 2 * read.y_TBW.square().mean() + 3 * (read.raw_TBH[1:] - read.raw_TBH[:-1]).square().mean()
    assert penalty is not None
    torch.testing.assert_close(penalty, expected)
    assert stack.eval().penalty(StackOutput(*read)) is None
