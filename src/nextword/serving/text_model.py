"""Raw text in; its probability, or a continuation, out.

Shapes: T time steps, B texts side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextword.serving.backends import TEXTS_A_CALL, Backend
from nextword.serving.sampling import Sampling
from nextword.serving.vocabulary import Vocabulary
from nextword.text.reading import with_line_feeds


@dataclass(frozen=True)
class Score:
    """How probable a text is.

    Of a bidirectional model the sum is a pseudo-log-likelihood and :attr:`perplexity` a pseudo-perplexity (Salazar et
    al. 2020): each token is predicted from all others, so neither compares with those of a left-to-right model.
    """

    log_prob_nats: float
    """Total natural log-probability of its tokens, the ``<eos>`` after each line included."""
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(-log_prob_nats / num_tokens); infinite where it cannot be told from infinity."""
        try:
            return math.exp(-self.log_prob_nats / self.num_tokens)
        except OverflowError:
            return math.inf


class TextModel:
    """A model with its tokenizer.

    Args:
        name: by which messages call it.
        backend: what computes.
        vocabulary: the tokenizer that it was trained with.

    Example:
        >>> from pathlib import Path
        >>> from nextword.serving import load_text_model
        >>> model = load_text_model(Path("models/gru/seed-0"), Path("data/ids"))  # doctest: +SKIP
        >>> model.score(["we the people"])[0].perplexity  # doctest: +SKIP
    """

    def __init__(self, name: str, backend: Backend, vocabulary: Vocabulary) -> None:
        self.name = name
        self.backend = backend
        self.vocabulary = vocabulary

    def score(self, texts: Sequence[str]) -> list[Score]:
        """Score each text from a fresh state, which is carried across its lines (an empty text is one empty line).

        Line ends may be LF, CRLF or CR, as in a file; so they may in a prompt.

        Texts of about equal length go side by side; nothing of the result depends on what stands beside a text.
        """
        if not texts:
            return []
        lines = [with_line_feeds(text).removesuffix("\n").split("\n") for text in texts]
        ids = self.vocabulary.encode_lines([line for one in lines for line in one])
        line_ends = np.flatnonzero(ids == self.vocabulary.eos_id) + 1
        ends = line_ends[np.cumsum([len(one) for one in lines]) - 1]
        starts = np.concatenate([[0], ends]).astype(np.int64)
        nats = np.add.reduceat(self.backend.nats(ids, starts), starts[:-1])
        return [Score(-float(total), int(size)) for total, size in zip(nats, np.diff(starts), strict=True)]

    def continuations(self, prompts: Sequence[str], sampling: Sampling) -> list[str]:
        """Draw a continuation of each prompt: text ``i`` depends on its prompt, the seed and ``i`` alone.

        The last line of a prompt is open: the continuation starts in it. The unknown word is never drawn.

        Raises:
            ValueError: the model is bidirectional, or gives no word a probability somewhere.
        """
        given = [self.prompt_ids(prompt) for prompt in prompts]
        return [self.vocabulary.decode_open(ids) for ids in self.draw(given, sampling)]

    def prompt_ids(self, prompt: str) -> list[int]:
        """Ids of a text whose last line is open."""
        ids: list[int] = self.vocabulary.encode_lines(with_line_feeds(prompt).split("\n")).tolist()
        return ids[:-1]

    def draw(self, given: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """As :meth:`continuations`, from ids to ids."""
        drawn: list[list[int]] = [[] for _ in given]
        by_length: dict[int, list[int]] = {}
        for index, ids in enumerate(given):
            by_length.setdefault(len(ids), []).append(index)
        for same in by_length.values():
            for start in range(0, len(same), TEXTS_A_CALL):
                part = same[start : start + TEXTS_A_CALL]
                tokens_TB = np.array([given[index] for index in part], dtype=np.int64).T
                uniform_TB = np.stack([sampling.uniform(index) for index in part], axis=1)
                for index, ids in zip(part, self._draw(tokens_TB, sampling, uniform_TB).T, strict=True):
                    drawn[index] = ids.tolist()
        return drawn

    def _draw(
        self, given_TB: NDArray[np.int64], sampling: Sampling, uniform_TB: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """(max_tokens, B) tokens after ``given_TB``."""
        state = self.backend.initial_state(uniform_TB.shape[1])
        if len(given_TB):
            state = self.backend.read(given_TB, state)
        tokens_TB = np.empty(uniform_TB.shape, dtype=np.int64)
        for step, uniform_B in enumerate(uniform_TB):
            log_prob_BV = self.backend.next_log_prob(state)
            if self.vocabulary.unk_id is not None:
                log_prob_BV[:, self.vocabulary.unk_id] = -np.inf
            tokens_TB[step] = sampling.pick(log_prob_BV, uniform_B)
            state = self.backend.read(tokens_TB[step : step + 1], state)
        return tokens_TB
