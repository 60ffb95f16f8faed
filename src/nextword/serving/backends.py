"""What computes: a neural network or an n-gram table, behind one interface of arrays.

Shapes: N tokens, T time steps, B texts side by side, V vocabulary, E embedding size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nextword.text.ids import Ids
from nextword.text.streams import SEGMENT_STEPS, segment_windows

if TYPE_CHECKING:
    from nextword.models.language_model import LanguageModel
    from nextword.ngram import NgramModel

TEXTS_A_CALL = 32
"""Texts side by side; no figure depends on it."""

Floats = NDArray[np.floating[Any]]


class Backend(Protocol):
    """A trained model over ids. A state is everything that it remembers of B texts."""

    left_to_right: bool
    """Whether each prediction depends on earlier words alone, so that their product is the probability of a text."""

    def nats(self, ids_N: Ids, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """``-log p`` of each id, (N,); infinite where p is 0 or the state overflowed.

        Args:
            ids_N: segments end to end, each ending in ``<eos>``.
            starts: (segments + 1,) where each begins, and N. Each is scored from a fresh state.
        """

    def initial_state(self, batch: int) -> Any:
        """State before a text."""

    def read(self, tokens_TB: NDArray[np.int64], state: Any) -> Any:
        """State after the tokens."""

    def next_log_prob(self, state: Any) -> NDArray[np.float64]:
        """Log-probability of every type as the next token, (B, V).

        Raises:
            ValueError: the model is bidirectional.
        """

    def embeddings(self) -> NDArray[np.float32]:
        """Input embeddings, (V, E).

        Raises:
            ValueError: the model has none.
        """


class Network:
    """A neural model.

    Uses nothing of it but the language-model interface: ``initial_state(batch)``, ``score(tokens, state)``,
    ``left_to_right``; for continuations ``hidden(tokens, state)`` and ``next_log_prob(state)``; and ``embedding``.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.left_to_right = model.left_to_right
        self._device = next(model.parameters()).device

    def nats(self, ids_N: Ids, starts: NDArray[np.int64]) -> NDArray[np.float64]:  # noqa: D102
        import torch

        nats = np.empty(len(ids_N))
        # A bidirectional model reads each text from both ends, so it is given whole texts.
        steps = SEGMENT_STEPS if self.left_to_right else max(len(ids_N), 1)
        state: Any = None
        with torch.inference_mode():
            for window in segment_windows(ids_N, starts, TEXTS_A_CALL, steps):
                kept_TB = window.place >= 0
                if window.first:
                    state = self.model.initial_state(window.tokens.shape[1])
                if not self.left_to_right:
                    state = state._replace(lengths=torch.from_numpy(kept_TB.sum(0)).to(self._device))
                log_prob_TB, state = self.model.score(torch.from_numpy(window.tokens).to(self._device), state)
                nats[window.place[kept_TB]] = -log_prob_TB.double().cpu().numpy()[kept_TB]
        return np.where(np.isnan(nats), np.inf, nats)

    def initial_state(self, batch: int) -> Any:  # noqa: D102
        return self.model.initial_state(batch)

    def read(self, tokens_TB: NDArray[np.int64], state: Any) -> Any:  # noqa: D102
        import torch

        with torch.inference_mode():
            for part_TB in torch.split(torch.from_numpy(tokens_TB).to(self._device), SEGMENT_STEPS):
                _, state = self.model.hidden(part_TB, state)  # as `score`, without the softmax
        return state

    def next_log_prob(self, state: Any) -> NDArray[np.float64]:  # noqa: D102
        import torch

        with torch.inference_mode():
            log_prob_BV: NDArray[np.float64] = self.model.next_log_prob(state).double().cpu().numpy()
        return log_prob_BV

    def embeddings(self) -> NDArray[np.float32]:  # noqa: D102
        table_VE: NDArray[np.float32] = self.model.embedding.weight.detach().float().cpu().numpy()
        return table_VE


class Ngrams:
    """An n-gram model."""

    left_to_right = True

    def __init__(self, model: NgramModel) -> None:
        self.model = model

    def nats(self, ids_N: Ids, starts: NDArray[np.int64]) -> NDArray[np.float64]:  # noqa: D102
        return self.model.score_ids(ids_N)  # begins anew after each <eos>, so at each segment

    def initial_state(self, batch: int) -> Any:  # noqa: D102
        return self.model.initial_state(batch)

    def read(self, tokens_TB: NDArray[np.int64], state: Any) -> Any:  # noqa: D102
        return self.model.score(tokens_TB, state)[1]

    def next_log_prob(self, state: Any) -> NDArray[np.float64]:  # noqa: D102
        with np.errstate(divide="ignore"):  # the log of zero is -inf: zero probability is a legal value
            return np.log(np.stack([self.model.next_distribution(self._line(column)) for column in state.T]))

    def embeddings(self) -> NDArray[np.float32]:  # noqa: D102
        raise ValueError("an n-gram model has no embeddings; take a neural model, e.g. models/lstm/seed-0")

    def _line(self, column_N: NDArray[np.int64]) -> NDArray[np.int64]:
        """The words of the line so far that a column of the state remembers."""
        begins = (column_N < 0) | (column_N == self.model.vocab_size) | (column_N == self.model.eos_id)
        return column_N[np.flatnonzero(begins)[-1] + 1 :] if begins.any() else column_N
