"""Recurrent language models: embedding, a stack of recurrent layers, softmax.

Shapes: T time steps, B batch, N = T*B positions, W width of the stack's output, V vocabulary size.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from nextword.config import ModelParams
from nextword.models.cells import CellState
from nextword.models.language_model import LanguageModel
from nextword.models.stack import RecurrentStack


class RecurrentState(NamedTuple):
    """What a recurrent model remembers."""

    last: Tensor  # (B,) the last token read; it enters the network with the next window
    layers: tuple[CellState, ...]


class RecurrentLM(LanguageModel):
    """``h^1 = RNN(E(w_{t-1}))``, ``h^l = RNN(h^{l-1})``, ``p(w_t) = softmax(W h^L + b)`` (Mikolov et al. 2010).

    Args:
        params: sizes, cell (``kind``), connection, regularisers, tying, initialisation.
        vocab_size: V.
        eos_id: the token taken as read before a text begins.
    """

    def __init__(self, params: ModelParams, vocab_size: int, eos_id: int) -> None:
        super().__init__()
        self.eos_id = eos_id
        self._build_input(params, vocab_size)
        self.stack = RecurrentStack(params)
        self._build_output(params, vocab_size, self.stack.width)

    @property
    def engine(self) -> str:  # noqa: D102
        return self.stack.engine

    def initial_state(self, batch: int) -> RecurrentState:  # noqa: D102
        return RecurrentState(*self._start(self.stack, batch))

    def hidden(self, tokens_TB: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:  # noqa: D102
        read = self._read(self.stack, tokens_TB, *state)
        return self.projection(read.y_TBW).flatten(0, 1), RecurrentState(tokens_TB[-1], read.states)

    def training_loss(  # noqa: D102
        self, tokens_TB: Tensor, state: RecurrentState
    ) -> tuple[Tensor, Tensor | None, RecurrentState]:
        read = self._read(self.stack, tokens_TB, *state)
        nats = self.output.sum_nats(self.projection(read.y_TBW).flatten(0, 1), tokens_TB.reshape(-1))
        return nats, self.stack.penalty(read), RecurrentState(tokens_TB[-1], read.states)
