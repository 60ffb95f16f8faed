"""The bidirectional model: a word has no part in its own prediction, and everything else in the text has."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.evaluation.neural import score_split
from nextword.models import bidirectional, build_model
from nextword.models.bidirectional import BidirectionalLM
from nextword.models.language_model import LanguageModel, detach
from nextword.text.ids import Split

V, T, B = 11, 9, 3
CELLS = [(kind, layers) for kind in ("rnn", "lstm", "gru") for layers in (1, 2)]
JOINED = [("gru", 3, connection) for connection in ("residual", "highway", "dense")]
VARIANTS = [*((kind, layers, "plain") for kind, layers in CELLS), *JOINED]


def params(kind: str = "gru", **changes: Any) -> ModelParams:
    size = {"embedding_size": 7, "hidden_size": 7, "init_scale": 0.6}
    return ModelParams(**({"kind": kind, "bidirectional": True} | size | changes))


def build(kind: str = "gru", **changes: Any) -> Any:
    torch.manual_seed(0)
    return build_model(params(kind, **changes), V, 0).double().eval()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(V, shape, generator=torch.Generator().manual_seed(seed))


def predictions(model: LanguageModel, tokens_TB: Tensor) -> Tensor:
    """Log-probability of every type at every place, (T, B, V)."""
    hidden_NE, _ = model.hidden(tokens_TB, model.initial_state(tokens_TB.shape[1]))
    return model.output.log_prob(hidden_NE).view(*tokens_TB.shape, V)


def sensitivity(model: LanguageModel) -> Tensor:
    """By how much, at most, the prediction at a place changes with the word at a place, (T, T)."""
    tokens = draw(T, B)
    before, table = predictions(model, tokens), []
    for t in range(T):
        changed = tokens.clone()
        changed[t] = (changed[t] + 1) % V
        table.append((predictions(model, changed) - before).abs().amax((1, 2)))
    return torch.stack(table, 1)


def assert_honest(model: LanguageModel) -> None:
    table = sensitivity(model).detach()
    own = torch.eye(T, dtype=torch.bool)
    assert (table[own] < 1e-12).all(), "a word takes part in its own prediction"
    assert (table[~own] > 1e-9).all(), "a word takes no part in the prediction of another"


class Naive(BidirectionalLM):
    """The states that the notes join, ``[h^f_t; h^b_t]``, both of which have read w_t."""

    def _read(self, stack: Any, tokens_TB: Tensor, last: Tensor, layers: Any) -> Any:
        return stack(self.embed(tokens_TB), layers)


class OneSideNaive(BidirectionalLM):
    """Right context that begins with w_t."""

    def _read(self, stack: Any, tokens_TB: Tensor, last: Tensor, layers: Any) -> Any:
        return (Naive if stack is self.from_right else BidirectionalLM)._read(self, stack, tokens_TB, last, layers)


@pytest.mark.parametrize(("kind", "layers", "connection"), VARIANTS)
def test_no_word_takes_part_in_its_own_prediction(kind: str, layers: int, connection: str) -> None:
    assert_honest(build(kind, num_layers=layers, connection=connection))


@pytest.mark.parametrize("naive", [Naive, OneSideNaive])
def test_the_check_catches_what_sees_itself(naive: type[BidirectionalLM]) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="own prediction"):
        assert_honest(naive(params(), V, 0).double().eval())


@pytest.mark.parametrize("kind", ["lstm", "gru_reset_after"])
def test_states_are_those_of_torch(kind: str) -> None:
    """torch's bidirectional layer over ``<eos> w_1 ... w_T <eos>``, its outputs read one place off on either side."""
    model = build(kind)
    layer = (nn.LSTM if kind == "lstm" else nn.GRU)(7, 7, bidirectional=True).double()
    for stack, suffix in ((model.from_left, "l0"), (model.from_right, "l0_reverse")):
        (cell,) = stack.cells
        bias_ih, bias_hh = cell.fused_biases()
        own = {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        for name, value in own.items():
            getattr(layer, f"{name}_{suffix}").data.copy_(value)
    tokens = draw(T, B)
    eos = torch.zeros(1, B, dtype=torch.long)
    states = layer(model.embedding(torch.cat([eos, tokens, eos])))[0]
    expected = model.projection(torch.cat([states[:T, :, :7], states[2:, :, 7:]], -1)).flatten(0, 1)
    torch.testing.assert_close(model.hidden(tokens, model.initial_state(B))[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_padding_does_not_enter(kind: str) -> None:
    model = build(kind, num_layers=2)
    lengths = torch.tensor([T, 4, 1])
    scored = []
    for seed in (1, 2):
        tokens = draw(T, B)
        padding = torch.arange(T)[:, None] >= lengths
        tokens = torch.where(padding, draw(T, B, seed=seed + 5), tokens)
        scored.append(model.score(tokens, model.initial_state(B)._replace(lengths=lengths))[0])
    for column, length in enumerate(lengths.tolist()):
        alone = model.score(draw(T, B)[:length, column : column + 1], model.initial_state(1))[0]
        for score in scored:
            torch.testing.assert_close(score[:length, column], alone[:, 0], rtol=1e-10, atol=1e-10)


def test_state_carries_the_left_context_alone() -> None:
    """What training sees: all that was, and of what comes the rest of the window."""
    model = build("lstm", num_layers=2)
    tokens, changed = draw(T, B), draw(T, B)
    changed[2] = (changed[2] + 1) % V
    first, state = model.score(tokens[:5], model.initial_state(B))
    second, end = model.score(tokens[5:], detach(state))
    other_first, other_state = model.score(changed[:5], model.initial_state(B))
    assert not torch.equal(second, model.score(tokens[5:], other_state)[0])
    assert torch.equal(end.last, tokens[-1])
    whole = model.score(tokens, model.initial_state(B))[0]
    assert (whole[:5] != first).all()
    torch.testing.assert_close(whole[5:], second, rtol=1e-10, atol=1e-10)
    assert not torch.equal(first, other_first)


def test_lengths_count_down_over_windows() -> None:
    model = build()
    lengths = torch.tensor([9, 6, 2])
    tokens = draw(T, B)
    _, state = model.score(tokens[:5], model.initial_state(B)._replace(lengths=lengths))
    assert state.lengths.tolist() == [4, 1, 0]
    carried = model.score(tokens[5:], state)[0]
    cut = model.score(tokens[5:6], state)[0]
    torch.testing.assert_close(carried[0, 1], cut[0, 1], rtol=1e-10, atol=1e-10)
    assert not torch.equal(carried[0, 0], cut[0, 0])


def test_long_texts_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("lstm", num_layers=2)
    tokens = draw(T, B)
    state = model.initial_state(B)._replace(lengths=torch.tensor([T, T - 1, 3]))
    kept = torch.arange(T)[:, None] < state.lengths
    whole = model.score_and_rank(tokens, state)
    monkeypatch.setattr(bidirectional, "SCORED_STEPS", 4)
    parts = model.score_and_rank(tokens, state)
    torch.testing.assert_close(parts[0][kept], whole[0][kept], rtol=1e-12, atol=1e-12)
    assert torch.equal(parts[1][kept], whole[1][kept])
    nats, _, _ = model.training_loss(tokens, model.initial_state(B))
    torch.testing.assert_close(-model.score(tokens, model.initial_state(B))[0].sum(), nats, rtol=1e-10, atol=1e-10)


def test_penalties_of_both_directions() -> None:
    model = build("lstm", num_layers=2, activation_penalty=2.0, temporal_penalty=1.0).train()
    tokens, eos = draw(T, B), torch.zeros(1, B, dtype=torch.long)
    nats, penalty, _ = model.training_loss(tokens, model.initial_state(B))
    expected = torch.zeros((), dtype=torch.float64)
    for stack, text in ((model.from_left, tokens), (model.from_right, tokens.flip(0))):
        h = stack(model.embedding(torch.cat([eos, text[:-1]])), stack.zero_state(B)).y_TBW
        expected += 2.0 * (h**2).mean() + ((h[1:] - h[:-1]) ** 2).mean()
    torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=1e-12)
    (nats + penalty).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())
    none = build("lstm").train()
    assert none.training_loss(tokens, none.initial_state(B))[1] is None


def make_split() -> Split:
    """Random lines of 1 to 30 tokens in documents of 1 to 20 lines."""
    rng = np.random.default_rng(0)
    lines = [np.append(rng.integers(1, V, rng.integers(0, 30)), 0) for _ in range(150)]
    ends = np.cumsum([len(line) for line in lines])
    documents = np.unique([0, *rng.choice(ends[:-1], 12, replace=False), ends[-1]])
    ids = np.concatenate(lines).astype(np.uint8)
    return Split("valid", 0, ids, documents.astype(np.int64), len(lines), 0, 0, 0, "")


@pytest.mark.parametrize("protocol", ["stateful", "reset"])
def test_evaluation_gives_each_word_its_whole_segment(protocol: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bidirectional, "SCORED_STEPS", 50)
    model, split = build("gru", num_layers=2), make_split()
    scored = [score_split(model, split, protocol, batch_size) for batch_size in (1, 3, 32)]
    starts = split.document_starts if protocol == "stateful" else split.line_starts
    assert np.diff(starts).max() > (100 if protocol == "stateful" else 20)
    for start, end in pairwise(starts):
        tokens = torch.from_numpy(split.ids[start:end].astype(np.int64))[:, None]
        row = predictions(model, tokens)[:, 0].detach()
        target = row.gather(1, tokens)
        for nats, ranks in scored:
            np.testing.assert_allclose(nats[start:end], -target[:, 0].numpy(), rtol=1e-6)
            np.testing.assert_array_equal(ranks[start:end], (row > target).sum(1).numpy())


def test_both_sides_are_used() -> None:
    """Pairs x, y with x drawn at random and told by y: from the left a guess among 8, from both sides certain."""
    kinds, generator = 8, torch.Generator().manual_seed(0)

    def window(steps: int = 20, batch: int = 32) -> Tensor:
        x = torch.randint(kinds, (steps // 2, batch), generator=generator)
        return torch.stack([1 + x, 1 + kinds + x], 1).flatten(0, 1)

    found = {}
    for both in (True, False):
        torch.manual_seed(0)
        size = {"embedding_size": 16, "hidden_size": 16, "tie_weights": False}
        model = build_model(ModelParams(kind="gru", bidirectional=both, **size), 1 + 2 * kinds, 0)
        optimizer = torch.optim.Adam(model.parameters(), 0.02)
        state = model.initial_state(32)
        for _ in range(200):
            tokens = window()
            nats, _, state = model.training_loss(tokens, detach(state))
            optimizer.zero_grad()
            (nats / tokens.numel()).backward()
            optimizer.step()
        with torch.inference_mode():
            found[both] = float(-model.eval().score(window(), detach(state))[0][::2].mean())
    assert found[True] < 0.05
    assert found[False] > math.log(kinds) - 0.05


def test_sizes_by_hand() -> None:
    """Two stacks; the output layer reads both, through a projection where it is tied."""
    layer, joined = 3 * 7 * (5 + 7 + 1), 2 * 7
    tied = build_model(ModelParams(kind="gru", bidirectional=True, embedding_size=5, hidden_size=7), V, 0)
    assert tied.num_parameters() == {
        "embedding": V * 5,
        "recurrent": 2 * layer,
        "output": joined * 5 + V,
        "total": V * 5 + 2 * layer + joined * 5 + V,
    }
    work = {"recurrent": 2 * 2 * 3 * 7 * (5 + 7), "output": 2 * (joined * 5 + V * 5)}
    assert tied.operations_per_token() == work | {"total": sum(work.values())}
    untied = params(embedding_size=5, num_layers=2, tie_weights=False)
    sizes = build_model(untied, V, 0).num_parameters()
    assert sizes["recurrent"] == 2 * (layer + 3 * 7 * (7 + 7 + 1))
    assert sizes["output"] == V * (joined + 1)


def test_it_cannot_continue_a_text() -> None:
    model = build()
    assert not model.left_to_right
    with pytest.raises(ValueError, match="cannot continue a text; take a model with `bidirectional: false`"):
        model.next_log_prob(model.initial_state(1))
