"""Recurrent language models: embedding, a stack of recurrent layers, softmax.

Shapes: T time steps, B batch, N = T*B positions, E embedding size, H hidden size, V vocabulary size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.models.cells import CELLS, Cell, CellState
from nextword.models.language_model import LanguageModel
from nextword.models.scan import resolve_engine, scan


class RecurrentState(NamedTuple):
    """What a recurrent model remembers."""

    last: Tensor  # (B,) the last token read; it enters the network with the next window
    layers: tuple[CellState, ...]


class RecurrentLM(LanguageModel):
    """``h^1 = RNN(E(w_{t-1}))``, ``h^l = RNN(h^{l-1})``, ``p(w_t) = softmax(W h^L + b)`` (Mikolov et al. 2010).

    Args:
        params: sizes, cell (``kind``), dropout, tying, initialisation.
        vocab_size: V.
        eos_id: the token taken as read before a text begins.
    """

    def __init__(self, params: ModelParams, vocab_size: int, eos_id: int) -> None:
        super().__init__()
        cell = CELLS[params.kind]
        self.eos_id = eos_id
        self.requested_engine = params.engine
        self.engine = resolve_engine(cell, params.engine)
        self.embedding = nn.Embedding(vocab_size, params.embedding_size)
        sizes = [params.embedding_size, *[params.hidden_size] * params.num_layers]
        self.layers = nn.ModuleList(cell(i, h) for i, h in pairwise(sizes))
        self.dropout = nn.Dropout(params.dropout)
        self._build_output(params, vocab_size, params.hidden_size)
        self._initialize(params)

    @property
    def cells(self) -> list[Cell]:
        """The layers, lowest first."""
        return [cast(Cell, layer) for layer in self.layers]

    def _initialize(self, params: ModelParams) -> None:
        scale = params.init_scale or params.hidden_size**-0.5
        if self.projection is not None:
            nn.init.uniform_(self.projection.weight, -scale, scale)
        for layer in self.cells:
            layer.initialize(scale)
            if params.forget_bias is not None:
                layer.set_forget_bias(params.forget_bias)

    def initial_state(self, batch: int) -> RecurrentState:  # noqa: D102
        last = torch.full((batch,), self.eos_id, dtype=torch.long, device=self.embedding.weight.device)
        return RecurrentState(last, tuple(layer.zero_state(batch) for layer in self.cells))

    def hidden(self, tokens_TB: Tensor, state: RecurrentState) -> tuple[Tensor, RecurrentState]:  # noqa: D102
        inputs_TB = torch.cat([state.last[None], tokens_TB[:-1]])
        x = self.dropout(self.embedding(inputs_TB))
        states = []
        for layer, s in zip(self.cells, state.layers, strict=True):
            x, s = scan(layer, x, s, self.requested_engine)
            x = self.dropout(x)
            states.append(s)
        if self.projection is not None:
            x = self.projection(x)
        return x.flatten(0, 1), RecurrentState(tokens_TB[-1], tuple(states))
