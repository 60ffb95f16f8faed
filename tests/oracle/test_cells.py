"""Every cell against torch's kernels, or against a slow version written straight from its equations; float64."""

import pytest
import torch
from torch import nn

from nextword.models.cells import CELLS, GRU, LSTM, RNN, Cell, GRUResetAfter, HCState, HState
from nextword.models.scan import scan

T, B, SIZE_IN, H = 7, 3, 5, 4
FUSED = [kind for kind, cell in CELLS.items() if cell.fused is not None]


def make(cell: type[Cell], seed: int = 0) -> tuple[Cell, torch.Tensor, tuple[torch.Tensor, ...]]:
    torch.manual_seed(seed)
    layer = cell(SIZE_IN, H).double()
    layer.initialize(0.7)
    x = torch.randn(T, B, SIZE_IN, dtype=torch.float64, requires_grad=True)
    state = cell.State(*[torch.randn(B, H, dtype=torch.float64, requires_grad=True) for _ in cell.State._fields])
    return layer, x, state


def outputs_and_gradients(layer, x, state, engine):
    output, last = scan(layer, x, state, engine)
    torch.manual_seed(1)
    loss = (output * torch.randn_like(output)).sum() + sum((f * torch.randn_like(f)).sum() for f in last)
    return [output, *last, *torch.autograd.grad(loss, [x, *state, *layer.parameters()])]


@pytest.mark.parametrize("kind", FUSED)
@pytest.mark.parametrize("seed", range(3))
def test_both_engines_are_one_function(kind: str, seed: int) -> None:
    layer, x, state = make(CELLS[kind], seed)
    slow, fast = (outputs_and_gradients(layer, x, state, engine) for engine in ("scan", "fused"))
    for a, b in zip(slow, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", [RNN, LSTM, GRUResetAfter])
def test_equal_to_torch_module(cell: type[Cell]) -> None:
    layer, x, state = make(cell)
    module = {RNN: nn.RNN, LSTM: nn.LSTM, GRUResetAfter: nn.GRU}[cell](SIZE_IN, H).double()
    with torch.no_grad():
        bias, bias_hh = layer.fused_biases()
        for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
                               (layer.weight_ih, layer.weight_hh, bias, bias_hh), strict=True):  # fmt: skip
            getattr(module, f"{name}_l0").copy_(value)
    initial = [field[None] for field in state]
    expected, last = module(x, tuple(initial) if len(initial) > 1 else initial[0])
    output, new = scan(layer, x, state, "scan")
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    for field, want in zip(new, last if isinstance(last, tuple) else [last], strict=True):
        torch.testing.assert_close(field, want[0], rtol=1e-12, atol=1e-12)


def by_hand(layer: Cell, x_t: torch.Tensor, state):
    """One step, each equation with its own matrix over the joined vector [h_{t-1}, x_t], as textbooks write it."""

    def affine(gate: str, h: torch.Tensor) -> torch.Tensor:
        rows = layer.gate_rows(gate)
        joined = torch.cat([layer.weight_hh[rows], layer.weight_ih[rows]], dim=1)
        return torch.cat([h, x_t], dim=1) @ joined.T + layer.bias[rows]

    sigmoid, tanh = torch.sigmoid, torch.tanh
    if isinstance(layer, RNN):
        return HState(tanh(affine("h", state.h)))
    if isinstance(layer, LSTM):
        c = sigmoid(affine("f", state.h)) * state.c + sigmoid(affine("i", state.h)) * tanh(affine("g", state.h))
        return HCState(sigmoid(affine("o", state.h)) * tanh(c), c)
    assert isinstance(layer, GRU)
    r, z = sigmoid(affine("r", state.h)), sigmoid(affine("z", state.h))
    return HState((1 - z) * state.h + z * tanh(affine("n", r * state.h)))


@pytest.mark.parametrize("cell", [RNN, LSTM, GRU])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_equations(cell: type[Cell], seed: int) -> None:
    layer, x, state = make(cell, seed)
    got = outputs_and_gradients(layer, x, state, "scan")
    slow = state
    outputs = []
    for x_t in x:
        slow = by_hand(layer, x_t, slow)
        outputs.append(slow.h)
    output = torch.stack(outputs)
    torch.manual_seed(1)
    loss = (output * torch.randn_like(output)).sum() + sum((f * torch.randn_like(f)).sum() for f in slow)
    want = [output, *slow, *torch.autograd.grad(loss, [x, *state, *layer.parameters()])]
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_two_grus_differ() -> None:
    before, x, state = make(GRU)
    after = GRUResetAfter(SIZE_IN, H).double()
    after.load_state_dict(before.state_dict() | {"bias_hn": torch.zeros(H, dtype=torch.float64)})
    a, b = scan(before, x, state)[0], scan(after, x, state)[0]
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("kind", CELLS)
def test_gradcheck(kind: str) -> None:
    layer, x, state = make(CELLS[kind])
    parameters = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *rest: scan(layer, x, state, "scan")[0], (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("engine", ["scan", "auto"])
def test_chunks_equal_whole(kind: str, engine: str) -> None:
    layer, x, state = make(CELLS[kind])
    whole, last = scan(layer, x, state, engine)
    first, middle = scan(layer, x[:3], state, engine)
    second, end = scan(layer, x[3:], middle, engine)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    for a, b in zip(end, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_no_fused_kernel_for_the_gru_that_resets_before() -> None:
    layer, x, state = make(GRU)
    with pytest.raises(ValueError, match="no fused kernel"):
        scan(layer, x, state, "fused")
