"""The adaptive softmax against torch's, float64, forward and gradients; the same in chunks and without the C kernel."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nextword.config import ModelParams
from nextword.models import build_model, softmax_kernel
from nextword.models import output as output_module
from nextword.models.output import SoftmaxOutput
from nextword.models.output_adaptive import AdaptiveSoftmaxOutput
from nextword.models.sizes import matched_size

N, E, V = 60, 32, 31
CUTOFFS = [5, 12]
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def make_layer() -> AdaptiveSoftmaxOutput:
    torch.manual_seed(0)
    layer = AdaptiveSoftmaxOutput(V, E, CUTOFFS).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def torchs(layer: AdaptiveSoftmaxOutput) -> nn.AdaptiveLogSoftmaxWithLoss:
    """Torch's layer over the same parameters, with a bias in the clusters too."""
    reference = nn.AdaptiveLogSoftmaxWithLoss(E, V, CUTOFFS, div_value=4.0, head_bias=True).double()
    reference.head.weight, reference.head.bias = layer.head.weight, layer.head.bias
    for theirs, ours in zip(reference.tail, layer.tails, strict=True):
        assert (theirs[0].weight.shape, theirs[1].weight.shape) == (ours.project.weight.shape, ours.words.weight.shape)
        theirs[0] = ours.project
        theirs[1] = nn.Linear(*reversed(ours.words.weight.shape))
        theirs[1].weight, theirs[1].bias = ours.words.weight, ours.words.bias
    return reference


@pytest.fixture(params=["kernel", "torch"])
def _with_and_without_kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "torch":
        monkeypatch.setattr(softmax_kernel, "available", lambda *_: False)
    elif not softmax_kernel.available(torch.float64, torch.zeros(1, dtype=torch.float64)):
        pytest.skip("no C compiler")
    yield


@pytest.mark.usefixtures("_with_and_without_kernel")
@pytest.mark.parametrize("chunk_logits", [1, 7 * V, 1 << 20])
@pytest.mark.parametrize("below", [V, CUTOFFS[1], CUTOFFS[0]])
def test_equals_torch(monkeypatch: pytest.MonkeyPatch, chunk_logits: int, below: int) -> None:
    """Targets from all clusters, from some and from none; without targets a cluster's gradients are there, and zero."""
    monkeypatch.setattr(output_module, "CHUNK_LOGITS", chunk_logits)
    layer = make_layer()
    reference = torchs(layer)
    hidden, targets = torch.randn(N, E, dtype=torch.float64, requires_grad=True), torch.randperm(N) % below
    inputs = [hidden, *layer.parameters()]
    got, want = layer.sum_nats(hidden, targets), -reference(hidden, targets).output.sum()
    torch.testing.assert_close(got, want, **EXACT)
    wanted = torch.autograd.grad(3 * want, inputs, allow_unused=True, materialize_grads=True)
    for a, b in zip(torch.autograd.grad(3 * got, inputs), wanted, strict=True):
        torch.testing.assert_close(a, b, **EXACT)
    torch.testing.assert_close(layer.target_log_prob(hidden, targets).sum(), -want, **EXACT)
    with torch.no_grad():
        log_prob, own = layer.log_prob(hidden), reference(hidden, targets).output
        torch.testing.assert_close(log_prob, reference.log_prob(hidden), **EXACT)
        score, rank = layer.score(hidden, targets)
        torch.testing.assert_close(score, own, **EXACT)
        torch.testing.assert_close(layer.target_log_prob(hidden, targets), own, **EXACT)
    order = log_prob.argsort(dim=1, descending=True)
    assert torch.equal(order.gather(1, rank[:, None])[:, 0], targets)


def test_ranks_of_every_type() -> None:
    """Whatever the target, its rank is its place in the whole distribution."""
    layer, hidden = make_layer(), torch.randn(9, E, dtype=torch.float64)
    with torch.no_grad():
        _, rank = layer.score(hidden.repeat_interleave(V, 0), torch.arange(V).repeat(9))
    assert torch.equal(rank.view(9, V).sort().values, torch.arange(V).expand(9, V))


@pytest.mark.usefixtures("_with_and_without_kernel")
@pytest.mark.parametrize("adaptive", [True, False])
def test_no_type_is_first_where_scores_are_no_numbers(adaptive: bool) -> None:
    layer = make_layer() if adaptive else SoftmaxOutput(V, E).double()
    layer.initialize(0.1)
    hidden = torch.randn(V, E, dtype=torch.float64)
    hidden[1::4, 0], hidden[3::4, 0] = torch.nan, torch.inf
    with torch.no_grad():
        score, rank = layer.score(hidden, torch.arange(V))
    assert score[1::2].isnan().all() and (rank[1::2] == V).all()
    assert score[::2].isfinite().all() and (rank[::2] < V).all()


def test_bfloat16_stays_close() -> None:
    layer = make_layer().float()
    hidden, targets = torch.randn(N, E, requires_grad=True), torch.randint(V, (N,))
    inputs = [hidden, *layer.parameters()]
    exact = torch.autograd.grad(layer.sum_nats(hidden, targets), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.autograd.grad(layer.sum_nats(hidden, targets), inputs)
    for a, b in zip(exact, rough, strict=True):
        assert (a - b).norm() / a.norm() < 0.03
        assert a.dtype == b.dtype == torch.float32


def test_parameters_by_hand() -> None:
    sizes = {"kind": "lstm", "embedding_size": 16, "hidden_size": 32, "tie_weights": False}
    model = build_model(ModelParams(**sizes, adaptive_softmax=(5, 12)), V, 0)
    tails = (32 * 8 + 7 * 8 + 7) + (32 * 2 + 19 * 2 + 19)
    assert model.num_parameters()["output"] == 7 * 32 + 7 + tails
    assert model.operations_per_token()["output"] == 2 * (7 * 32 + tails - 7 - 19)


def test_initial_weights() -> None:
    torch.manual_seed(0)
    params = ModelParams(kind="gru", tie_weights=False, adaptive_softmax=(400, 800))
    spread = {name: p.abs().max().item() for name, p in build_model(params, 2000, 0).output.named_parameters()}
    for name, largest in spread.items():
        bound = 0.0 if "bias" in name else 200**-0.5 if "project" in name else 0.1
        assert 0.99 * bound <= largest <= bound, name


def test_sizes_are_matched_as_without() -> None:
    """The output layer is no part of what is matched, and the vocabulary is not known there."""
    keys = {"kind": "lstm", "embedding_size": 128, "match": {"kind": "gru", "hidden_size": 128}, "tie_weights": False}
    assert matched_size(ModelParams(**keys, adaptive_softmax=(2000, 9000))) == matched_size(ModelParams(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"adaptive_softmax": (5, 12)}, "set tie_weights: false"),
        ({"adaptive_softmax": (12, 5), "tie_weights": False}, r"\[12, 5\] must rise"),
        ({"adaptive_softmax": (5, 5), "tie_weights": False}, r"\[5, 5\] must rise"),
        ({"adaptive_softmax": (5, V), "tie_weights": False}, r"\[5, 31\]: the vocabulary has 31 types"),
    ],
)
def test_bad_cutoffs_are_explained(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(ModelParams(kind="lstm", **keys), V, 0)
