"""The feed-forward neural language model with a fixed window (Bengio et al. 2003).

Shapes: T time steps, B batch, N = T*B positions, W window (n - 1 words), E embedding size, H hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nextword.config import ModelParams
from nextword.models.language_model import LanguageModel
from nextword.models.regularizers import Dropout


class WindowState(NamedTuple):
    """The last words read."""

    words: Tensor  # (W, B)

    @property
    def last(self) -> Tensor:
        """The last word, (B,)."""
        return self.words[-1]


class NNLM(LanguageModel):
    """``p(w_t) = softmax(b + U tanh(d + H x) [+ W x])``, ``x = [E(w_{t-n+1}); ...; E(w_{t-1})]``.

    Args:
        params: ``window`` is n - 1; ``direct_connections`` adds ``W x``.
        vocab_size: V.
        eos_id: fills the window before a text begins.
    """

    def __init__(self, params: ModelParams, vocab_size: int, eos_id: int) -> None:
        super().__init__()
        assert params.window is not None
        self.eos_id, self.window = eos_id, params.window
        self._build_input(params, vocab_size)
        width = params.window * params.embedding_size
        self.layer = nn.Linear(width, params.hidden_size)
        self.dropout = Dropout(params.dropout if params.dropout_output is None else params.dropout_output)
        self.direct_connections = params.direct_connections
        self._build_output(params, vocab_size, params.hidden_size + width * params.direct_connections)

    def initial_state(self, batch: int) -> WindowState:  # noqa: D102
        shape = (self.window, batch)
        return WindowState(torch.full(shape, self.eos_id, dtype=torch.long, device=self.embedding.weight.device))

    def emptied(self, state: WindowState, columns_B: Tensor) -> WindowState:
        """The state itself: there is nothing in it but words."""
        return state

    def hidden(self, tokens_TB: Tensor, state: WindowState) -> tuple[Tensor, WindowState]:  # noqa: D102
        history = torch.cat([state.words, tokens_TB])
        e = self.embed(history[:-1])
        # (T+W-1, B, E) -> (T, B, E, W) -> (N, W*E), oldest word first
        x = e.unfold(0, self.window, 1).permute(0, 1, 3, 2).flatten(2).flatten(0, 1)
        h = self.projection(self.dropout(torch.tanh(self.layer(x))))
        if self.direct_connections:
            h = torch.cat([h, x.to(h.dtype)], dim=-1)
        return h, WindowState(history[-self.window :])
