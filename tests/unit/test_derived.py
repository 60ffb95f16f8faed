"""Engines derived from a step: what can be traced, what is compiled, and what happens where it cannot."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from nextword.config import ModelParams
from nextword.models import c_library as library
from nextword.models import check_model
from nextword.models.cells import CELLS, LSTM, Cell, HState
from nextword.models.derived import c_kernels, graphs
from nextword.models.derived.expression import FUNCTIONS, ZERO, Expression, NotTraceable, expression, named, pull_back
from nextword.models.derived.trace import trace
from nextword.models.scan import order, resolve_engine, scan, why_not


class Odd(Cell):
    """Divides, squares, takes exponentials and cuts ``a`` in the ways that a step may."""

    gates = ("p", "q")

    def step(self, a, s, w):
        p, q = w.hh(s.h)
        left, right = a[:, : self.hidden_size], a[:, self.hidden_size :]
        x = torch.square(p + left) / (1.0 + torch.exp(torch.neg(q)))
        return HState(torch.addcmul(x - 2 * right, 0.5 - p, torch.relu(q)) / 3 - torch.mul(torch.sub(p, q), 0.1))


class Softmax(Cell):
    """Not pointwise: each unit's new value depends on all others."""

    gates = ("h",)

    def step(self, a, s, w):
        return HState(torch.softmax(w.hh(s.h, a), -1))


class TwiceUsed(Cell):
    """Multiplies one matrix twice in a step, and what it makes of the state."""

    gates = ("h",)

    def step(self, a, s, w):
        inner = torch.tanh(w.hh(s.h, a))
        return HState(torch.tanh(w.hh(inner * 0.5) + inner))


def gradients(layer: Cell, engine: str, dtype: torch.dtype = torch.float64):
    torch.manual_seed(1)
    x = torch.randn(6, 3, layer.input_size, dtype=dtype, requires_grad=True)
    h = torch.randn(3, layer.hidden_size, dtype=dtype, requires_grad=True)
    output, _ = scan(layer, x, HState(h), engine)
    return [output, *torch.autograd.grad((output * output.detach().cos()).sum(), [x, h, *layer.parameters()])]


def test_graphs_are_for_gpus_and_asked_for() -> None:
    """Elsewhere their windows run as scan, and the reports say so."""
    gru = CELLS["gru"]
    assert [resolve_engine(gru, "graph", device) for device in ("cpu", "cuda")] == ["scan", "graph"]
    assert "graph" not in (*order("cpu"), *order("cuda"))
    with pytest.raises(ValueError, match="remove checkpoint_steps"):
        check_model(ModelParams(kind="gru", engine="graph", checkpoint_steps=8))


@pytest.mark.parametrize("cell", [Odd, TwiceUsed])
@pytest.mark.parametrize("engine", ["compiled", "scan"])
def test_any_arithmetic_step(cell: type[Cell], engine: str) -> None:
    if reason := why_not(engine, cell):
        pytest.skip(reason)
    torch.manual_seed(0)
    layer = cell(2, 3).double()
    layer.initialize(0.5)
    for a, b in zip(gradients(layer, engine), gradients(layer, "loop"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


class Delayed(Cell):
    """Its state keeps what another part of it was a step before."""

    class State(NamedTuple):
        h: torch.Tensor
        c: torch.Tensor
        p: torch.Tensor

    gates = ("h",)

    def step(self, a, s, w):
        h = torch.tanh(w.hh(s.h, a) + 0.7 * s.c)
        return self.State(h, s.p, h * s.c)


@pytest.mark.parametrize("engine", ["compiled", "scan"])
def test_a_state_may_be_handed_from_part_to_part(engine: str) -> None:
    if reason := why_not(engine, Delayed):
        pytest.skip(reason)
    torch.manual_seed(0)
    layer = Delayed(2, 3).double()
    layer.initialize(0.5)
    x = torch.randn(6, 3, 2, dtype=torch.float64)
    found = []
    for used in (engine, "loop"):
        state = Delayed.State(
            *[torch.full((3, 3), v, dtype=torch.float64, requires_grad=True) for v in (0.1, 0.2, 0.3)]
        )
        output, last = scan(layer, x, state, used)
        loss = (output * output.detach().cos()).sum() + (last.c * last.p).sum()
        found.append([output, *torch.autograd.grad(loss, [*state, *layer.parameters()])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


class Leaky(Cell):
    """A number of its own, which no kernel holds."""

    gates = ("h",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.leak = torch.nn.Parameter(torch.zeros(1))

    def step(self, a, s, w):
        return HState(s.h + w.leak * torch.tanh(w.hh(s.h, a)))


class Scaled(Cell):
    """Its equations hold its size."""

    gates = ("h",)

    def step(self, a, s, w):
        return HState(torch.tanh(w.hh(s.h, a) / math.sqrt(self.hidden_size)))


@pytest.mark.parametrize(
    ("cell", "why"), [(Leaky, r"leak is \(1,\), neither \(H,\) nor"), (Scaled, "its step is another at another size")]
)
def test_what_is_not_of_its_size_runs_in_the_loop(cell: type[Cell], why: str) -> None:
    assert resolve_engine(cell, "auto") == "loop"
    for engine in ("compiled", "scan"):
        assert re.search(why, why_not(engine, cell) or "")


class StaticGradient(torch.autograd.Function):
    """As the backward pass of a CUDA graph: every gradient lies in the same place."""

    place = torch.zeros(1)

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, d):
        StaticGradient.place.copy_(2 * d)
        return StaticGradient.place.detach()


def test_gradients_of_replays_are_added_up() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    for factor in (1.0, 10.0):
        (StaticGradient.apply(graphs._own(weight)) * factor).sum().backward()
    assert weight.grad is not None and weight.grad.item() == 22.0
    assert graphs._own(x := torch.ones(1)) is x


def test_what_is_not_pointwise_runs_in_the_loop() -> None:
    assert resolve_engine(Softmax, "auto") == "loop"
    with pytest.raises(
        ValueError, match=r"engine scan cannot run 'softmax'.*softmax is not pointwise.*take auto, loop"
    ):
        Softmax.kind = "softmax"
        resolve_engine(Softmax, "scan")
    torch.manual_seed(0)
    layer = Softmax(2, 3).double()
    layer.initialize(0.5)
    assert all(g.abs().max() > 0 for g in gradients(layer, "auto"))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_derivatives_by_autograd(function) -> None:
    """Symbolic derivatives of every known function, evaluated by hand-fed numbers, against autograd's."""
    numbers = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.7, -0.4, 1.3)]
    count = next(n for n in (1, 2, 3) if _accepts(function, n))
    value = function(*numbers[:count])
    wanted = torch.autograd.grad(value, numbers[:count])
    inputs = [named(f"x{i}") for i in range(count)]
    adjoint = pull_back({FUNCTIONS[function](*inputs): expression(1.0)})
    known = dict(zip(inputs, numbers, strict=False))
    for x, want in zip(inputs, wanted, strict=True):
        torch.testing.assert_close(_evaluate(adjoint.get(x, ZERO), known), want.detach(), rtol=1e-12, atol=1e-12)


def _accepts(function, count: int) -> bool:
    try:
        function(*[torch.ones(2)] * count)
        FUNCTIONS[function](*[named("x")] * count)
    except TypeError:
        return False
    return True


def _evaluate(node: Expression, known) -> torch.Tensor:
    if node in known:
        return known[node].detach()
    args = [_evaluate(arg, known) for arg in node.args]
    plain = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
        "positive": lambda x: (x > 0).to(x),
    }
    if node.op == "constant":
        return torch.tensor(node.value, dtype=torch.float64)
    return plain.get(node.op, getattr(torch, node.op, None))(*args)


def test_equal_expressions_are_one() -> None:
    x, y = named("x"), named("y")
    assert x + y * 2 is x + y * 2
    assert x * 0 is ZERO and x + 0 is x and x * 1 is x


@pytest.mark.parametrize(
    "step",
    [
        lambda s, a: a[:, :2],
        lambda s, a: a[:2],
        lambda s, a: s.h @ s.h,
        lambda s, a: s.h.sum(),
        lambda s, a: "h",
        lambda s, a: s.h if s.h else a[:, :3],
        lambda s, a: s.h > 0,
    ],
)
def test_untraceable_steps_are_refused(step) -> None:
    class Strange(Cell):
        gates = ("a", "b")

        def step(self, a, s, w):
            return HState(step(s, a))

    with pytest.raises(NotTraceable):
        trace(Strange(3, 3))


def test_without_a_compiler_the_scan_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(source: str):
        raise library.NoCompiler("no C compiler found")

    monkeypatch.setattr(c_kernels, "load", none)

    class Fresh(LSTM):
        fused = None

    Fresh.kind = "fresh"
    assert resolve_engine(Fresh, "auto") == "scan"
    with pytest.raises(ValueError, match="no C compiler found; take auto, scan or loop"):
        resolve_engine(Fresh, "compiled")


@pytest.mark.skipif(library.compiler() is None, reason="no C compiler")
class TestLibrary:
    SOURCE = "int answer(void) { return 42; }"

    def test_compiled_once_and_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        library._loaded.cache_clear()
        assert library.load(self.SOURCE).answer() == 42
        (kept,) = tmp_path.rglob("*.so")
        monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))
        library._loaded.cache_clear()
        assert library.load(self.SOURCE).answer() == 42
        assert kept.parent.stat().st_mode & 0o077 == 0

    def test_what_the_compiler_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with pytest.raises(library.NoCompiler, match="error"):
            library.load("int answer(void) { return }")
        assert not list(tmp_path.rglob("*.so"))

    def test_a_failure_is_found_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for _ in range(2):
            with pytest.raises(library.NoCompiler, match="error"):
                library.load("int fourth(void) { return }")
            monkeypatch.setattr(library, "_compile", lambda *_: pytest.fail("compiled again"))

    def test_what_does_not_load_is_compiled_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        source = "int fifth(void) { return 5; }"
        (tmp_path / "nextword").mkdir(mode=0o700)
        monkeypatch.setattr(library, "_compile", lambda command, source, path: path.write_bytes(b""))
        with pytest.raises(library.NoCompiler, match="too short"):
            library.load(source)
        monkeypatch.undo()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        library._loaded.cache_clear()
        assert library.load(source).fifth() == 5

    def test_the_first_process_keeps_its_file(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first.so", tmp_path / "step.so"
        first.write_text("first")
        second.write_text("second")
        library._publish(second, first)
        assert first.read_text() == "first"
        library._publish(second, tmp_path / "new.so")
        assert (tmp_path / "new.so").read_text() == "second"

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        with pytest.raises(library.NoCompiler, match="file"):
            library.load("int other(void) { return 1; }")

    def test_a_folder_that_others_can_write_is_not_run_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        (tmp_path / "nextword").mkdir()
        (tmp_path / "nextword").chmod(0o777)
        with pytest.raises(library.NoCompiler, match="others can write"):
            library.load("int third(void) { return 3; }")

    @pytest.mark.parametrize("kind", CELLS)
    def test_numbers_that_are_none_stay_so(self, kind: str) -> None:
        """A divergence must be seen: neither kernels nor their exponential may turn NaN into a number."""
        layer = CELLS[kind](3, 4)
        layer.initialize(0.5)
        x = torch.randn(3, 2, 3)
        x[1, 0, 0] = math.nan
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                output, _ = scan(layer, x, layer.zero_state(2), "compiled")
            assert output[0].isfinite().all()
            assert output[1:, 0].isnan().all()
            assert output[:, 1].isfinite().all()

    @pytest.mark.parametrize("kind", CELLS)
    def test_float32_is_near_float64(self, kind: str) -> None:
        layer = CELLS[kind](20, 20)
        torch.manual_seed(0)
        layer.initialize(0.3)
        x = torch.randn(30, 4, 20) * 3
        exact, _ = scan(layer.double(), x.double(), layer.zero_state(4), "loop")
        single, _ = scan(layer.float(), x, layer.zero_state(4), "compiled")
        torch.testing.assert_close(single.double(), exact, rtol=2e-4, atol=2e-4)

    @pytest.mark.parametrize("kind", ["gru", "lstm_peephole"])
    @pytest.mark.parametrize("engine", ["compiled", "scan"])
    def test_mixed_precision_is_near(self, kind: str, engine: str) -> None:
        layer = CELLS[kind](16, 16)
        torch.manual_seed(0)
        layer.initialize(0.3)
        x = torch.randn(9, 4, 16, requires_grad=True)

        def run(low: bool) -> list[torch.Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                output, _ = scan(layer, x, layer.zero_state(4), engine)
            return [output, *torch.autograd.grad(output.sum(), [x, *layer.parameters()])]

        for low, full in zip(run(True), run(False), strict=True):
            assert low.dtype == torch.float32
            assert (low - full).norm() < 0.03 * full.norm()
