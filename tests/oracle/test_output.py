"""The chunked cross-entropy against torch's, forward and gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nextword.models import output as output_module
from nextword.models import softmax_kernel
from nextword.models.output import SoftmaxOutput

N, E, V = 50, 6, 31


@pytest.mark.parametrize("chunk_logits", [1, 7 * V, 1 << 20])
def test_sum_nats_equals_cross_entropy(monkeypatch: pytest.MonkeyPatch, chunk_logits: int) -> None:
    monkeypatch.setattr(output_module, "CHUNK_LOGITS", chunk_logits)
    torch.manual_seed(0)
    layer = SoftmaxOutput(V, E).double()
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    hidden = torch.randn(N, E, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(V, (N,))
    inputs = [hidden, layer.weight, layer.bias]
    got = layer.sum_nats(hidden, targets)
    want = cross_entropy(hidden @ layer.weight.T + layer.bias, targets, reduction="sum")
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    for a, b in zip(torch.autograd.grad(3 * got, inputs), torch.autograd.grad(3 * want, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    log_prob, rank = layer.score(hidden, targets)
    torch.testing.assert_close(-log_prob.sum(), want, rtol=1e-12, atol=1e-12)
    order = layer.log_prob(hidden).argsort(dim=1, descending=True)
    assert torch.equal(order.gather(1, rank[:, None])[:, 0], targets)


def test_a_second_backward_is_refused() -> None:
    layer = SoftmaxOutput(V, E)
    torch.nn.init.normal_(layer.weight)
    loss = layer.sum_nats(torch.randn(N, E), torch.randint(V, (N,)))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_bfloat16_stays_close() -> None:
    torch.manual_seed(0)
    layer = SoftmaxOutput(V, E)
    torch.nn.init.normal_(layer.weight)
    hidden = torch.randn(N, E, requires_grad=True)
    targets = torch.randint(V, (N,))
    exact = torch.autograd.grad(layer.sum_nats(hidden, targets), [hidden, layer.weight])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.autograd.grad(layer.sum_nats(hidden, targets), [hidden, layer.weight])
    for a, b in zip(exact, rough, strict=True):
        assert (a - b).norm() / a.norm() < 0.02
        assert a.dtype == b.dtype == torch.float32


@pytest.mark.parametrize(("real", "low"), [(torch.float32, torch.float32), (torch.float32, torch.bfloat16),
                                           (torch.float64, torch.float64)])  # fmt: skip
@pytest.mark.parametrize(("positions", "types"), [(1, 1), (5, 7), (9, 16), (33, 1003)])
@pytest.mark.parametrize("threads", [1, 2])
def test_kernel_against_log_softmax(real, low, positions: int, types: int, threads: int) -> None:
    logits, bias = torch.randn(positions, types, dtype=real).mul_(5).to(low), torch.randn(types, dtype=real)
    if not softmax_kernel.available(low, bias):
        pytest.skip("no C compiler")
    targets = torch.randint(types, (positions,))
    log_prob = torch.log_softmax(logits.double() + bias.double(), 1)
    own = log_prob.gather(1, targets[:, None])
    exact = log_prob.exp().scatter_add(1, targets[:, None], -torch.ones_like(own))
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if real == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        score, rank = softmax_kernel.score(logits, torch.eye(types, dtype=low), bias, targets)
        nats, grad_bias = softmax_kernel.error_(logits, bias, targets)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(score.double(), own[:, 0], **tolerance)
    assert torch.equal(rank, (log_prob > own).sum(1))
    torch.testing.assert_close(nats, -own.sum(), **tolerance)
    torch.testing.assert_close(grad_bias.double(), exact.sum(0), **tolerance)
    torch.testing.assert_close(logits.double(), exact, rtol=2**-8 if low == torch.bfloat16 else 2e-5, atol=2e-6)


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_kernel_hides_no_divergence(low) -> None:
    logits, bias, targets = torch.zeros(3, 40, dtype=low), torch.zeros(40), torch.tensor([1, 2, 3])
    if not softmax_kernel.available(low, bias):
        pytest.skip("no C compiler")
    logits[0, 7], logits[1, 30] = torch.nan, torch.inf
    score, _ = softmax_kernel.score(logits, torch.eye(40, dtype=low), bias, targets)
    assert score.isnan().tolist() == [True, True, False]
    nats, _ = softmax_kernel.error_(logits, bias, targets)
    assert nats.isnan() and logits[0].isnan().any() and logits[2].isfinite().all()


def test_without_the_kernel_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = SoftmaxOutput(29, 6).double()
    torch.nn.init.normal_(layer.weight)
    hidden, targets = torch.randn(11, 6, dtype=torch.float64, requires_grad=True), torch.randint(29, (11,))

    def run():
        nats = layer.sum_nats(hidden, targets)
        with torch.no_grad():
            scored = layer.score(hidden, targets)
        return [nats, *torch.autograd.grad(nats, [hidden, *layer.parameters()]), *scored]

    with_kernel = run()
    monkeypatch.setattr(softmax_kernel, "available", lambda *_: False)
    for a, b in zip(with_kernel, run(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_without_the_kernel_low_types_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax_kernel, "available", lambda *_: False)
    torch.manual_seed(0)
    logits, bias, targets = torch.randn(9, 1003).mul_(5).bfloat16(), torch.randn(1003), torch.randint(1003, (9,))
    log_prob = torch.log_softmax(logits.double() + bias.double(), 1)
    own = log_prob.gather(1, targets[:, None])
    exact = log_prob.exp().scatter_add(1, targets[:, None], -torch.ones_like(own))
    nats, grad_bias = output_module._error_(logits, bias, targets)
    torch.testing.assert_close(nats, -own.sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad_bias.double(), exact.sum(0), rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(logits.double(), exact, rtol=2**-8, atol=2e-6)
