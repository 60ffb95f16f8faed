"""All recurrent layers of one direction.

Shapes: T time steps, B batch, E embedding size, H hidden size, W width of what enters the output layer.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.models.cells import CELLS, Cell, CellState
from nextword.models.connections import CONNECTIONS, Plain
from nextword.models.regularizers import StateDrop, WeightDrop, activation_penalty, build_dropout
from nextword.models.scan import resolve_engine, scan


class StackOutput(NamedTuple):
    """What a stack makes of a window."""

    y_TBW: Tensor
    """For the output layer, after dropout."""
    raw_TBH: Tensor
    """The last layer's output before dropout."""
    states: tuple[CellState, ...]
    """By layer, after the last step."""


class RecurrentStack(nn.Module):
    """Layers l = 1..L: ``h^l = RNN(s^{l-1})``, dropped out once, then joined to ``s^{l-1}`` (see ``connections``).

    Its weights hold nothing until :meth:`initialize`, so that a model can draw its own before them.

    Args:
        params: cell (``kind``), sizes, connection, dropout, weight and state drop, initialisation, engine.
    """

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.params = params
        self.layers, self.joints = nn.ModuleList(), nn.ModuleList()
        self.width = params.embedding_size
        """W."""
        sizes = [params.hidden_size] * (params.num_layers - 1) + [params.last_hidden_size or params.hidden_size]
        for number, size in enumerate(sizes, start=1):
            rule = CONNECTIONS[params.connection]
            joint = (rule if number >= rule.first else Plain)(self.width, size)
            self.layers.append(CELLS[params.kind](self.width, size))
            self.joints.append(joint)
            self.width = joint.width
        hidden, output = (params.dropout if p is None else p for p in (params.dropout_hidden, params.dropout_output))
        rates = [hidden] * (params.num_layers - 1) + [output]
        self.dropouts = nn.ModuleList(build_dropout(p, params.variational) for p in rates)
        self.weight_drop, self.state_drop = WeightDrop(params.weight_drop), StateDrop(params.dropout_recurrent)

    @property
    def cells(self) -> list[Cell]:
        """The layers, lowest first."""
        return [cast(Cell, layer) for layer in self.layers]

    @property
    def engine(self) -> str:
        """What computes the layers where their weights lie."""
        return resolve_engine(type(self.cells[0]), self.params.engine, self.cells[0].bias.device.type)

    def initialize(self) -> None:
        """Draw all weights, layer by layer."""
        params = self.params
        for cell, joint in zip(self.cells, self.joints, strict=True):
            scale = params.init_scale or cell.hidden_size**-0.5
            cell.initialize(scale, params.recurrent_init, params.recurrent_scale or 1.0)
            if params.forget_bias is not None:
                cell.set_forget_bias(params.forget_bias)
            cast(Plain, joint).initialize(scale)

    def zero_state(self, batch: int) -> tuple[CellState, ...]:
        """By layer, the all-zero state."""
        return tuple(cell.zero_state(batch) for cell in self.cells)

    def forward(self, x_TBE: Tensor, states: tuple[CellState, ...]) -> StackOutput:
        """Run all layers over a window.

        Args:
            x_TBE: embeddings, after dropout.
            states: by layer, before the first step.
        """
        stream, after, raw = x_TBE, [], x_TBE
        for cell, joint, dropout, state in zip(self.cells, self.joints, self.dropouts, states, strict=True):
            weights = self.state_drop(self.weight_drop(cell.recurrent_weights()))
            raw, state = scan(cell, stream, state, self.params.engine, weights, self.params.checkpoint_steps)
            stream = joint(dropout(raw), stream)
            after.append(state)
        return StackOutput(stream, raw, tuple(after))

    def penalty(self, output: StackOutput) -> Tensor | None:
        """AR and TAR of a window, a scalar; None where there are none."""
        if not self.training:
            return None
        factors = self.params.activation_penalty, self.params.temporal_penalty
        return activation_penalty(output.y_TBW, output.raw_TBH, *factors)
