"""What holds for every neural language model."""

import pytest
import torch

from nextword.config import ModelParams
from nextword.models import MODELS, build_model
from nextword.models.connections import CONNECTIONS
from nextword.models.language_model import LanguageModel, detach

V, T, B = 23, 11, 4
DEEP = {"num_layers": 3, "hidden_size": 9}
REGULARIZED = {
    "kind": "lstm", "connection": "residual", **DEEP, "dropout": 0.1, "dropout_input": 0.4, "dropout_hidden": 0.3,
    "dropout_output": 0.2, "dropout_embedding": 0.2, "dropout_recurrent": 0.3, "weight_drop": 0.5, "variational": True,
    "activation_penalty": 2.0, "temporal_penalty": 1.0,
}  # fmt: skip
VARIANTS = {
    **{kind: {"kind": kind} for kind in MODELS if kind != "nnlm"},
    "nnlm": {"kind": "nnlm", "window": 3},
    "nnlm_direct": {"kind": "nnlm", "window": 2, "direct_connections": True, "tie_weights": False},
    "deep_projected": {"kind": "lstm", "num_layers": 3, "hidden_size": 9},
    "narrow_top": {"kind": "lstm", "num_layers": 3, "hidden_size": 9, "last_hidden_size": 7},
    "untied": {"kind": "gru", "tie_weights": False, "hidden_size": 9},
    "adaptive_softmax": {"kind": "gru", "tie_weights": False, "hidden_size": 9, "adaptive_softmax": (5, 12)},
    "nnlm_adaptive": {"kind": "nnlm", "window": 2, "tie_weights": False, "adaptive_softmax": (9,)},
    **{
        f"{kind}_{connection}": {"kind": kind, "connection": connection, **DEEP}
        for kind in ("rnn", "lstm", "gru")
        for connection in CONNECTIONS
    },
    "dense_untied": {"kind": "lstm", "connection": "dense", "num_layers": 2, "tie_weights": False},
    "checkpointed": {"kind": "gru", "num_layers": 2, "checkpoint_steps": 3},
    "irnn": {"kind": "rnn_relu", "recurrent_init": "identity", "recurrent_scale": 0.9},
    "regularized": REGULARIZED,
}


def build(name: str) -> LanguageModel:
    torch.manual_seed(0)
    params = ModelParams(**({"embedding_size": 7, "hidden_size": 7, "init_scale": 0.6} | VARIANTS[name]))
    return build_model(params, V, 0).double().eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(V, (T, B), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", VARIANTS)
def test_probabilities_sum_to_one(name: str, tokens: torch.Tensor) -> None:
    model = build(name)
    _, state = model.score(tokens, model.initial_state(B))
    torch.testing.assert_close(model.next_log_prob(state).exp().sum(-1), torch.ones(B, dtype=torch.float64))


@pytest.mark.parametrize("name", VARIANTS)
def test_next_distribution_is_what_scores(name: str, tokens: torch.Tensor) -> None:
    model = build(name)
    whole, _ = model.score(tokens, model.initial_state(B))
    state = model.initial_state(B)
    for t in range(T):
        step = model.next_log_prob(state).gather(1, tokens[t, :, None])[:, 0]
        torch.testing.assert_close(step, whole[t], rtol=1e-10, atol=1e-10)
        _, state = model.score(tokens[t : t + 1], state)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("cut", [1, 5, 10])
def test_chunks_equal_whole(name: str, cut: int, tokens: torch.Tensor) -> None:
    model = build(name)
    whole, _ = model.score(tokens, model.initial_state(B))
    first, state = model.score(tokens[:cut], model.initial_state(B))
    second, _ = model.score(tokens[cut:], detach(state))
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_causality(name: str, tokens: torch.Tensor) -> None:
    """A changed token changes its own score and later ones, never an earlier one."""
    model = build(name)
    changed = tokens.clone()
    changed[5] = (changed[5] + 1) % V
    a, b = (model.score(x, model.initial_state(B))[0] for x in (tokens, changed))
    assert torch.equal(a[:5], b[:5])
    assert not torch.equal(a[5], b[5])
    assert not torch.equal(a[6], b[6])


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_of_a_batch_do_not_meet(name: str, tokens: torch.Tensor) -> None:
    model = build(name)
    order = torch.tensor([2, 0, 3, 1])
    a = model.score(tokens, model.initial_state(B))[0]
    b = model.score(tokens[:, order], model.initial_state(B))[0]
    torch.testing.assert_close(a[:, order], b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_the_score(name: str, tokens: torch.Tensor) -> None:
    """In evaluation mode no regulariser acts, and there is no penalty."""
    model = build(name)
    nats, penalty, _ = model.training_loss(tokens, model.initial_state(B))
    torch.testing.assert_close(nats, -model.score(tokens, model.initial_state(B))[0].sum(), rtol=1e-10, atol=1e-10)
    assert penalty is None


@pytest.mark.parametrize(
    "key", [key for key in REGULARIZED if key.startswith(("dropout_", "weight_")) or key.endswith("_penalty")]
)
def test_each_regularizer_acts_in_training(key: str, tokens: torch.Tensor) -> None:
    params = {"kind": "gru", "embedding_size": 7, "init_scale": 0.6, **DEEP, key: REGULARIZED[key]}
    torch.manual_seed(0)
    model = build_model(ModelParams(**params), V, 0).double().train()
    nats, penalty, _ = model.training_loss(tokens, model.initial_state(B))
    plain, _, _ = model.eval().training_loss(tokens, model.initial_state(B))
    if key.endswith("_penalty"):
        assert torch.equal(nats, plain) and penalty is not None and penalty > 0
    else:
        assert abs(nats - plain) > 1e-3 and penalty is None


def test_window_forgets_and_recurrence_remembers(tokens: torch.Tensor) -> None:
    changed = tokens.clone()
    changed[0] = (changed[0] + 1) % V
    for name, remembers in (("nnlm", False), ("lstm", True)):
        model = build(name)
        a, b = (model.score(x, model.initial_state(B))[0] for x in (tokens, changed))
        assert torch.equal(a[5:], b[5:]) is not remembers


def test_parameter_counts_by_hand() -> None:
    """Zaremba et al.'s small LSTM (2 x 200 untied, V = 10,000): 4.65M with one bias a gate."""
    model = build_model(ModelParams(kind="lstm", num_layers=2, tie_weights=False), 10_000, 0)
    counts = model.num_parameters()
    assert counts == {
        "embedding": 10_000 * 200,
        "recurrent": 2 * (4 * 200 * 400 + 4 * 200),
        "output": 10_000 * 200 + 10_000,
        "total": 4_651_600,
    }
    gru = build_model(ModelParams(kind="gru"), 10_000, 0).num_parameters()["recurrent"]
    lstm = build_model(ModelParams(kind="lstm"), 10_000, 0).num_parameters()["recurrent"]
    assert gru * 4 == lstm * 3
    projected = build_model(ModelParams(kind="rnn", hidden_size=40, embedding_size=32), 100, 0).num_parameters()
    awd = ModelParams(kind="lstm", num_layers=3, embedding_size=400, hidden_size=1150, last_hidden_size=400)
    recurrent = sum(4 * (own * (read + own) + own) for read, own in ((400, 1150), (1150, 1150), (1150, 400)))
    assert build_model(awd, 100, 0).num_parameters()["recurrent"] == recurrent
    assert projected == {"embedding": 3200, "recurrent": 40 * 73, "output": 100 + 40 * 32, "total": 7500}


@pytest.mark.parametrize("kind", ["lstm", "nnlm"])
def test_untied_weights_are_drawn_in_a_fixed_order(kind: str) -> None:
    """Embedding, then output: a seed means the same weights in every process."""
    window = {"window": 2} if kind == "nnlm" else {}
    params = ModelParams(kind=kind, embedding_size=7, hidden_size=7, tie_weights=False, init_scale=1e-9, **window)
    drawn: list[torch.Tensor] = []
    uniform = torch.nn.init.uniform_
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.init, "uniform_", lambda w, *bounds: drawn.append(w) or uniform(w, *bounds))
        model = build_model(params, V, 0)
    assert [id(w) for w in drawn if w.shape[0] == V] == [id(model.embedding.weight), id(model.output.weight)]


def test_operations_by_hand() -> None:
    size = {"embedding_size": 5, "hidden_size": 7}
    tied = build_model(ModelParams(kind="gru_reset_after", num_layers=2, **size), V, 0).operations_per_token()
    assert tied == {
        "recurrent": 2 * 21 * (5 + 7 + 7 + 7),
        "output": 2 * (V * 5 + 5 * 7),
        "total": 2 * 21 * 26 + 2 * 150,
    }
    wide = ModelParams(kind="nnlm", window=2, direct_connections=True, tie_weights=False, **size)
    assert build_model(wide, V, 0).operations_per_token() == {"recurrent": 140, "output": 2 * V * 17, "total": 922}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kind": "lstmm"}, "unknown kind 'lstmm'; allowed: gru, gru_reset_after, lstm, .*nnlm, rnn"),
        ({"kind": "nnlm"}, "needs `window`"),
        ({"kind": "lstm", "window": 3}, "no `window`"),
        ({"kind": "gru", "engine": "fused"}, "no fused kernel"),
        ({"kind": "gru", "forget_bias": 1.0}, "no forget gate"),
        ({"kind": "lstm_nfg", "forget_bias": 1.0}, "no forget gate"),
        ({"kind": "nnlm", "window": 3, "direct_connections": True}, "tie_weights: false"),
        (
            {"kind": "nnlm", "window": 3, "weight_drop": 0.1, "variational": True},
            "no `weight_drop` and no `variational`",
        ),
        ({"kind": "nnlm", "window": 3, "recurrent_init": "orthogonal"}, "no `recurrent_init`; leave"),
        ({"kind": "gru", "connection": "dense"}, "set num_layers to 2 or more"),
        ({"kind": "gru", "dropout_hidden": 0.1}, "falls between layers"),
        ({"kind": "gru", "recurrent_scale": 0.5}, "set recurrent_init"),
        ({"kind": "gru", "last_hidden_size": 5}, "for two layers or more"),
    ],
)
def test_bad_params_are_explained(params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(ModelParams(**params), V, 0)
