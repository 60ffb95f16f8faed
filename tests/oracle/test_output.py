"""The chunked cross-entropy against torch's, forward and gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from nextword.models import output as output_module
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
