"""The LSTM of the notes, and Greff et al.'s vanilla LSTM with its ablations.

All are ``c_t = f * c_{t-1} + i * g``, ``h_t = o * tanh(c_t)``; a variant leaves one part out or puts one in.
Source of the variants and their names: Greff, Srivastava, Koutnik, Steunebrink & Schmidhuber, LSTM: A Search Space
Odyssey (2015). The forget-gate bias starts at 1 in all of them (Jozefowicz et al. 2015).
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nextword.models.cells.base import Cell, HCState, RecurrentInit, tanh

sigmoid = torch.sigmoid


class LSTM(Cell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    ``i, f, o = sigmoid(W [h_{t-1}, x_t] + b)``; ``g = tanh(W_c [h_{t-1}, x_t] + b_c)``;
    ``c_t = f * c_{t-1} + i * g``; ``h_t = o * tanh(c_t)``. In Greff's terms NP: no peepholes.
    """

    kind = "lstm"
    gates: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    State: ClassVar[type[Any]] = HCState
    fused: ClassVar[Any] = torch.lstm

    def initialize(self, scale: float, recurrent: RecurrentInit = "uniform", gain: float = 1.0) -> None:
        """As :meth:`Cell.initialize`, with forget-gate bias 1 (Jozefowicz et al. 2015)."""
        super().initialize(scale, recurrent, gain)
        if "f" in self.gates:
            self.set_forget_bias(1.0)

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, f, g, o = w.hh(s.h, a)
        c = sigmoid(f) * s.c + sigmoid(i) * tanh(g)
        return HCState(sigmoid(o) * tanh(c), c)


class PeepholeLSTM(LSTM):
    """V, the vanilla LSTM: gates see the memory cell, ``i, f`` at t-1 and ``o`` at t (Gers & Schmidhuber 2000)."""

    kind = "lstm_peephole"
    fused = None

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        for gate in self.gates:
            if gate in "ifo":
                setattr(self, f"peephole_{gate}", nn.Parameter(torch.empty(hidden_size)))

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, f, g, o = w.hh(s.h, a)
        c = sigmoid(f + w.peephole_f * s.c) * s.c + sigmoid(i + w.peephole_i * s.c) * tanh(g)
        return HCState(sigmoid(o + w.peephole_o * c) * tanh(c), c)


class NoInputGate(PeepholeLSTM):
    """NIG: ``i = 1``."""

    kind = "lstm_nig"
    gates = ("f", "g", "o")

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        f, g, o = w.hh(s.h, a)
        c = sigmoid(f + w.peephole_f * s.c) * s.c + tanh(g)
        return HCState(sigmoid(o + w.peephole_o * c) * tanh(c), c)


class NoForgetGate(PeepholeLSTM):
    """NFG: ``f = 1``, the LSTM of 1997 (with peepholes)."""

    kind = "lstm_nfg"
    gates = ("i", "g", "o")

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, g, o = w.hh(s.h, a)
        c = s.c + sigmoid(i + w.peephole_i * s.c) * tanh(g)
        return HCState(sigmoid(o + w.peephole_o * c) * tanh(c), c)


class NoOutputGate(PeepholeLSTM):
    """NOG: ``o = 1``."""

    kind = "lstm_nog"
    gates = ("i", "f", "g")

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, f, g = w.hh(s.h, a)
        c = sigmoid(f + w.peephole_f * s.c) * s.c + sigmoid(i + w.peephole_i * s.c) * tanh(g)
        return HCState(tanh(c), c)


class NoInputActivation(PeepholeLSTM):
    """NIAF: ``g`` is linear."""

    kind = "lstm_niaf"

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, f, g, o = w.hh(s.h, a)
        c = sigmoid(f + w.peephole_f * s.c) * s.c + sigmoid(i + w.peephole_i * s.c) * g
        return HCState(sigmoid(o + w.peephole_o * c) * tanh(c), c)


class NoOutputActivation(PeepholeLSTM):
    """NOAF: ``h_t = o * c_t``."""

    kind = "lstm_noaf"

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        i, f, g, o = w.hh(s.h, a)
        c = sigmoid(f + w.peephole_f * s.c) * s.c + sigmoid(i + w.peephole_i * s.c) * tanh(g)
        return HCState(sigmoid(o + w.peephole_o * c) * c, c)


class CoupledGates(PeepholeLSTM):
    """CIFG: ``i = 1 - f`` (the coupling of the GRU)."""

    kind = "lstm_cifg"
    gates = ("f", "g", "o")

    def step(self, a: Tensor, s: HCState, w: Any) -> HCState:  # noqa: D102
        f, g, o = w.hh(s.h, a)
        c = torch.lerp(tanh(g), s.c, sigmoid(f + w.peephole_f * s.c))
        return HCState(sigmoid(o + w.peephole_o * c) * tanh(c), c)


class GateState(NamedTuple):
    """State of the full gate recurrence: the gates are remembered too."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    i: Tensor  # (B, H)
    f: Tensor  # (B, H)
    o: Tensor  # (B, H)


class FullGateRecurrence(PeepholeLSTM):
    """FGR: every gate also sees all three gates of the step before, nine matrices more."""

    kind = "lstm_fgr"
    gates = ("i", "f", "o", "g")
    State = GateState

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        for gate in "ifo":
            setattr(self, f"weight_from_{gate}", nn.Parameter(torch.empty(3 * hidden_size, hidden_size)))

    def recurrent_weights(self) -> dict[str, Tensor]:  # noqa: D102
        split, own = 3 * self.hidden_size, super().recurrent_weights()
        del own["hh"]
        return own | {"ifo": self.weight_hh[:split], "g": self.weight_hh[split:]}

    def step(self, a: Tensor, s: Any, w: Any) -> Any:  # noqa: D102
        split = 3 * self.hidden_size
        i, f, o = w.from_o(s.o, w.from_f(s.f, w.from_i(s.i, w.ifo(s.h, a[:, :split]))))
        i, f = sigmoid(i + w.peephole_i * s.c), sigmoid(f + w.peephole_f * s.c)
        c = f * s.c + i * tanh(w.g(s.h, a[:, split:]))
        o = sigmoid(o + w.peephole_o * c)
        return GateState(o * tanh(c), c, i, f, o)
