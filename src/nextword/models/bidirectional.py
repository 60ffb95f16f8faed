"""A bidirectional model: each word predicted from all words before it and all words after it, never from itself.

It is no left-to-right language model: the product of its predictions is not the probability of a text, and its figure
is a pseudo-perplexity.

Shapes: T time steps, B batch, N = T*B positions, E embedding size, W width of a stack's output, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from nextword.config import ModelParams
from nextword.models.cells import CellState
from nextword.models.language_model import LanguageModel
from nextword.models.stack import RecurrentStack

SCORED_STEPS = 256
"""Time steps of a text that are scored at a time; no figure depends on it."""
UNKNOWN = torch.iinfo(torch.long).max
"""Length of a text that goes on beyond every window."""


class BidirectionalState(NamedTuple):
    """What lies to the left of a window, and where the text ends to the right."""

    last: Tensor  # (B,) the last token read; it enters the network with the next window
    layers: tuple[CellState, ...]  # of the stack that reads from left to right
    lengths: Tensor  # (B,) tokens up to the end of the text; what a window holds beyond them is padding


class BidirectionalLM(LanguageModel):
    """``p(w_t) = softmax(W [h^f; h^b] + b)``, h^f having read ``... w_{t-1}`` and h^b ``w_T ... w_{t+1}``.

    The two directions are two whole stacks that meet at the output layer alone. Mixing them between layers, as deep
    bidirectional taggers do, would let w_t reach its own prediction: the second layer would read at t-1 what the
    first one, on its way from the right, had read of w_t.

    Both read one ``<eos>`` before anything else. The right context of a window ends where the window does, so whoever
    wants the whole of it hands over whole texts (:meth:`score_and_rank` takes any length). Training does not: its
    windows end anywhere. So the model cannot learn that an empty right context means the end of a line, which it would
    have to know where lines are scored alone.

    Each direction draws dropout masks of its own and is penalised (AR, TAR) as one alone is.

    Args:
        params: sizes, cell (``kind``) and the rest, the same for both directions.
        vocab_size: V.
        eos_id: the token taken as read before a text begins, from either side.

    Source: Schuster & Paliwal, Bidirectional Recurrent Neural Networks (1997), whose ``h_t = [h^f_t; h^b_t]`` holds
    w_t twice and so suits tags, not the words themselves.
    """

    left_to_right = False

    def __init__(self, params: ModelParams, vocab_size: int, eos_id: int) -> None:
        super().__init__()
        self.eos_id = eos_id
        self._build_input(params, vocab_size)
        self.from_left, self.from_right = RecurrentStack(params), RecurrentStack(params)
        self._build_output(params, vocab_size, self.from_left.width + self.from_right.width)

    @property
    def engine(self) -> str:  # noqa: D102
        return self.from_left.engine

    def initial_state(self, batch: int) -> BidirectionalState:
        """State at the start of a text of unknown length; ``_replace(lengths=...)`` says where each column ends."""
        last, layers = self._start(self.from_left, batch)
        return BidirectionalState(last, layers, torch.full_like(last, UNKNOWN))

    def hidden(self, tokens_TB: Tensor, state: BidirectionalState) -> tuple[Tensor, BidirectionalState]:  # noqa: D102
        hidden_NE, _, state = next(self._parts(tokens_TB, state, len(tokens_TB)))
        return hidden_NE, state

    def training_loss(  # noqa: D102
        self, tokens_TB: Tensor, state: BidirectionalState
    ) -> tuple[Tensor, Tensor | None, BidirectionalState]:
        hidden_NE, penalty, state = next(self._parts(tokens_TB, state, len(tokens_TB)))
        return self.output.sum_nats(hidden_NE, tokens_TB.reshape(-1)), penalty, state

    def score(self, tokens_TB: Tensor, state: BidirectionalState) -> tuple[Tensor, BidirectionalState]:
        """As in the base class, with the right context of the whole window, however long."""
        log_prob, _, state = self.score_and_rank(tokens_TB, state)
        return log_prob, state

    def score_and_rank(self, tokens_TB: Tensor, state: BidirectionalState) -> tuple[Tensor, Tensor, BidirectionalState]:
        """As in the base class, with the right context of the whole window, however long.

        Of the window as a whole only the outputs of one stack are held, (T, B, W).
        """
        log_probs, ranks = [], []
        parts = zip(self._parts(tokens_TB, state, SCORED_STEPS), torch.split(tokens_TB, SCORED_STEPS), strict=True)
        for (hidden_NE, _, after), part_TB in parts:
            state = after
            log_prob, rank = self.output.score(hidden_NE, part_TB.reshape(-1))
            log_probs.append(log_prob.view(part_TB.shape))
            ranks.append(rank.view(part_TB.shape))
        return torch.cat(log_probs), torch.cat(ranks), state

    def next_log_prob(self, state: BidirectionalState) -> Tensor:
        """Not to be had.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "a bidirectional model predicts a word from the words on both sides of it, so it cannot continue a text; "
            "take a model with `bidirectional: false`"
        )

    def _parts(
        self, tokens_TB: Tensor, state: BidirectionalState, steps: int
    ) -> Iterator[tuple[Tensor, Tensor | None, BidirectionalState]]:
        """Input of the output layer, (N, E), penalty and state after, for each ``steps`` time steps of a window."""
        # To the stack on the right the mirrored text is a text like any other. Each column is mirrored at its own end,
        # so padding comes last there too and reaches nothing.
        steps_T1 = torch.arange(len(tokens_TB), device=tokens_TB.device)[:, None]
        mirror_TB = (state.lengths.clamp(max=len(tokens_TB)) - 1 - steps_T1).clamp(min=0)
        last, layers = self._start(self.from_right, tokens_TB.shape[1])
        outputs, penalties = [], []
        for part_TB in torch.split(tokens_TB.gather(0, mirror_TB), steps):
            right = self._read(self.from_right, part_TB, last, layers)
            last, layers = part_TB[-1], right.states
            outputs.append(right.y_TBW)
            penalties.append(self.from_right.penalty(right))
        right_TBW = torch.cat(outputs)
        del outputs
        windows = zip(torch.split(tokens_TB, steps), torch.split(mirror_TB, steps), penalties, strict=True)
        for part_TB, back_TB, penalty in windows:
            left = self._read(self.from_left, part_TB, state.last, state.layers)
            state = BidirectionalState(part_TB[-1], left.states, (state.lengths - len(part_TB)).clamp(min=0))
            back_TBW = right_TBW.gather(0, back_TB[:, :, None].expand(-1, -1, right_TBW.shape[-1]))
            own = self.from_left.penalty(left)
            total = None if own is None or penalty is None else own + penalty
            yield self.projection(torch.cat([left.y_TBW, back_TBW], dim=-1)).flatten(0, 1), total, state
