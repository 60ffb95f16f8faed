"""Every cell on every engine against torch's kernels, or against its equations written out slowly; float64."""

import pytest
import torch
from torch import nn

from nextword.models.cells import CELLS, GRU, LSTM, RNN, Cell, GRUResetAfter, ReLURNN
from nextword.models.scan import _rnn_in, order, scan, why_not

T, B, SIZE_IN, H = 7, 3, 5, 4
FUSED = [kind for kind, cell in CELLS.items() if cell.fused is not None]
PAIRS = [(kind, engine) for kind, cell in CELLS.items() for engine in order() if why_not(engine, cell) is None]


def make(cell: type[Cell], seed: int = 0) -> tuple[Cell, torch.Tensor, tuple[torch.Tensor, ...]]:
    torch.manual_seed(seed)
    layer = cell(SIZE_IN, H).double()
    layer.initialize(0.7)
    x = torch.randn(T, B, SIZE_IN, dtype=torch.float64, requires_grad=True)
    state = cell.State(*[torch.randn(B, H, dtype=torch.float64, requires_grad=True) for _ in cell.State._fields])
    return layer, x, state


def with_gradients(layer, x, state, output, last):
    torch.manual_seed(1)
    loss = (output * torch.randn_like(output)).sum() + sum((f * torch.randn_like(f)).sum() for f in last)
    return [output, *last, *torch.autograd.grad(loss, [x, *state, *layer.parameters()])]


def assert_same(got, want) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_every_cell_runs_on_the_derived_engines() -> None:
    assert all((kind, engine) in PAIRS for kind in CELLS for engine in ("scan", "loop"))
    assert sorted(FUSED) == ["gru_reset_after", "lstm", "rnn", "rnn_relu"]


@pytest.mark.parametrize(("kind", "engine"), [pair for pair in PAIRS if pair[1] != "loop"])
@pytest.mark.parametrize("seed", range(3))
def test_all_engines_are_one_function(kind: str, engine: str, seed: int) -> None:
    layer, x, state = make(CELLS[kind], seed)
    slow, fast = (with_gradients(layer, x, state, *scan(layer, x, state, e)) for e in ("loop", engine))
    assert_same(fast, slow)


@pytest.mark.parametrize("engine", ["scan", "compiled"])
@pytest.mark.parametrize("cell", [RNN, ReLURNN, LSTM, GRUResetAfter])
def test_equal_to_torch_module(cell: type[Cell], engine: str) -> None:
    if reason := why_not(engine, cell):
        pytest.skip(reason)
    layer, x, state = make(cell)
    kinds = {RNN: nn.RNN, ReLURNN: nn.RNN, LSTM: nn.LSTM, GRUResetAfter: nn.GRU}
    module = kinds[cell](SIZE_IN, H, **({"nonlinearity": "relu"} if cell is ReLURNN else {})).double()
    bias, bias_hh = layer.fused_biases()
    with torch.no_grad():
        for name, value in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
                               (layer.weight_ih, layer.weight_hh, bias, bias_hh), strict=True):  # fmt: skip
            getattr(module, f"{name}_l0").copy_(value)
    initial = [field[None] for field in state]
    expected, last = module(x, tuple(initial) if len(initial) > 1 else initial[0])
    last = [field[0] for field in (last if isinstance(last, tuple) else [last])]
    got = scan(layer, x, state, engine)
    torch.manual_seed(1)
    loss = (expected * torch.randn_like(expected)).sum() + sum((f * torch.randn_like(f)).sum() for f in last)
    want = torch.autograd.grad(loss, [x, *state, module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0])
    assert_same(with_gradients(layer, x, state, *got)[: len(last) + 1 + len(want)], [expected, *last, *want])


def by_hand(layer: Cell, x_t: torch.Tensor, s):
    """One step, each equation with its own matrix over the joined vector [h_{t-1}, x_t], as textbooks write it."""

    def affine(gate: str, h: torch.Tensor) -> torch.Tensor:
        rows = layer.gate_rows(gate)
        joined = torch.cat([layer.weight_hh[rows], layer.weight_ih[rows]], dim=1)
        return torch.cat([h, x_t], dim=1) @ joined.T + layer.bias[rows]

    def gate(name: str, c: torch.Tensor) -> torch.Tensor:
        """A gate of Greff's LSTM: 1 where it is left out; with its peephole, and in FGR with the gates before."""
        if name not in layer.gates:
            return torch.ones(())
        total = affine(name, s.h)
        if hasattr(layer, f"peephole_{name}"):
            total = total + c @ torch.diag(getattr(layer, f"peephole_{name}"))
        if kind == "lstm_fgr":
            block = slice("ifo".index(name) * H, ("ifo".index(name) + 1) * H)
            total = total + sum(getattr(s, g) @ getattr(layer, f"weight_from_{g}")[block].T for g in "ifo")
        return sigmoid(total)

    kind, sigmoid, tanh = layer.kind, torch.sigmoid, torch.tanh
    if kind == "rnn":
        return (tanh(affine("h", s.h)),)
    if kind == "rnn_relu":
        return (torch.clamp(affine("h", s.h), min=0),)
    if kind == "rnn_residual":
        return (s.h + tanh(affine("h", s.h)),)
    if kind == "gru":
        r, z = sigmoid(affine("r", s.h)), sigmoid(affine("z", s.h))
        return ((1 - z) * s.h + z * tanh(affine("n", r * s.h)),)
    if kind == "gru_reset_after":
        r, z = sigmoid(affine("r", s.h)), sigmoid(affine("z", s.h))
        rows = layer.gate_rows("n")
        inner = s.h @ layer.weight_hh[rows].T + layer.bias_hn
        n = tanh(x_t @ layer.weight_ih[rows].T + layer.bias[rows] + r * inner)
        return ((1 - z) * n + z * s.h,)
    f = gate("f", s.c)
    i = 1 - f if kind == "lstm_cifg" else gate("i", s.c)
    g = affine("g", s.h)
    c = f * s.c + i * (g if kind == "lstm_niaf" else tanh(g))
    o = gate("o", c)
    h = o * (c if kind == "lstm_noaf" else tanh(c))
    return (h, c, i, f, o) if kind == "lstm_fgr" else (h, c)


@pytest.mark.parametrize(("kind", "engine"), PAIRS)
def test_equal_to_the_equations(kind: str, engine: str) -> None:
    layer, x, state = make(CELLS[kind], 5)
    slow = state
    outputs = []
    for x_t in x:
        slow = layer.State(*by_hand(layer, x_t, slow))
        outputs.append(slow.h)
    want = with_gradients(layer, x, state, torch.stack(outputs), slow)
    assert_same(with_gradients(layer, x, state, *scan(layer, x, state, engine)), want)


def test_the_two_grus_differ() -> None:
    before, x, state = make(GRU)
    after = GRUResetAfter(SIZE_IN, H).double()
    after.load_state_dict(before.state_dict() | {"bias_hn": torch.zeros(H, dtype=torch.float64)})
    a, b = scan(before, x, state)[0], scan(after, x, state)[0]
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize(("kind", "engine"), PAIRS)
def test_gradcheck(kind: str, engine: str) -> None:
    layer, x, state = make(CELLS[kind])
    inputs = (x, *state, *layer.parameters())
    assert torch.autograd.gradcheck(lambda *_: scan(layer, x, state, engine)[0], inputs, fast_mode=True)


@pytest.mark.parametrize(("kind", "engine"), PAIRS)
def test_chunks_equal_whole(kind: str, engine: str) -> None:
    layer, x, state = make(CELLS[kind])
    whole = with_gradients(layer, x, state, *scan(layer, x, state, engine))
    first, middle = scan(layer, x[:3], state, engine)
    second, end = scan(layer, x[3:], middle, engine)
    assert_same(with_gradients(layer, x, state, torch.cat([first, second]), end), whole)
    assert_same(with_gradients(layer, x, state, *scan(layer, x, state, engine, checkpoint_steps=2)), whole)


@pytest.mark.parametrize(("kind", "engine"), PAIRS)
def test_without_gradients_the_same(kind: str, engine: str) -> None:
    layer, x, state = make(CELLS[kind])
    with torch.inference_mode():
        output, last = scan(layer, x, state, engine)
    want, want_last = scan(layer, x, state, engine)
    assert_same([output, *last], [want.detach(), *(f.detach() for f in want_last)])


def test_no_fused_kernel_for_the_gru_that_resets_before() -> None:
    layer, x, state = make(GRU)
    with pytest.raises(ValueError, match="engine fused cannot run 'gru': no fused kernel computes its equations; take"):
        scan(layer, x, state, "fused")


@pytest.mark.parametrize("kind", FUSED)
def test_fused_in_a_type_of_its_own(kind: str) -> None:
    """What runs under autocast on a GPU: in the same type the same function, in a lower one rounded, the state not."""

    def run(low: torch.dtype, layer: Cell, x, state):
        tensors = [layer.weight_ih, layer.weight_hh, *layer.fused_biases()]
        output, last = _rnn_in(low, layer, x, state, tensors)
        assert output.dtype == low and all(field.dtype == torch.float64 for field in last)
        return with_gradients(layer, x, state, output.double(), last)

    layer, x, state = make(CELLS[kind])
    want = with_gradients(layer, x, state, *scan(layer, x, state, "fused"))
    assert_same(run(torch.float64, layer, x, state), want)
    for a, b in zip(run(torch.bfloat16, layer, x, state), want, strict=True):
        assert a.dtype == torch.float64 and 0 < (a - b).norm() / b.norm() < 0.03


def test_float32_is_not_rounded_to_tf32() -> None:
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
