"""The one n-gram model: a back-off table, whatever the smoothing that filled it.

Every smoothing here can be written as (Katz 1987; for interpolated models Chen & Goodman 1999, section 2.9)::

    p(w | h) = p_table(h w)               if h w is in the table of its order
             = backoff(h) * p(w | h')     otherwise; h' is h without its first word, backoff(h) = 1 if h is unknown

so saving, ARPA files and scoring are each one piece of code. Legend: T time, B batch, N = order - 1, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nextword.ngram.counts import AnyIntArray, FloatArray, IntArray, check_ids
from nextword.ngram.lookup import initial_context, match

_SCORE_CHUNK = 1 << 18
"""Tokens scored at once by ``score_ids``: bounds the memory of its temporaries."""


@dataclass(frozen=True, eq=False)
class Table:
    """The k-grams of one order: row r of each array belongs to the k-gram of rank r."""

    codes: IntArray
    """(T,) rank of the context * (V + 1) + word, strictly rising. Order 1 has all V ids and ``<s>``."""
    log_prob: FloatArray
    """(T,) ln p(word | context); -inf for zero probability."""
    log_backoff: FloatArray
    """(T,) ln of the weight of the next lower order after this k-gram; empty in the highest order."""

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class NgramModel:
    """A back-off n-gram model over ``vocab_size`` ids."""

    tables: tuple[Table, ...]
    vocab_size: int
    eos_id: int
    smoothing: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What was estimated (discounts, weights, ...), as JSON values."""
    notes: tuple[str, ...] = ()
    """Fallbacks that were taken, in plain words."""

    @property
    def order(self) -> int:
        """Words in the longest n-gram: the word and the N words before it that it depends on."""
        return len(self.tables)

    @property
    def num_parameters(self) -> int:
        """Probabilities and back-off weights stored."""
        return sum(len(table.log_prob) + len(table.log_backoff) for table in self.tables)

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for table in self.tables for a in (table.codes, table.log_prob, table.log_backoff))

    def initial_state(self, batch: int) -> IntArray:
        """State before a line: (N, B) int64, the last N ids; -1 is nothing, ``vocab_size`` is ``<s>``."""
        return initial_context(self.order, batch, self.vocab_size)

    def score(self, tokens_TB: AnyIntArray, state: IntArray) -> tuple[npt.NDArray[np.float64], IntArray]:
        """Natural log-probability of each token after the state and the tokens above it in its column.

        A column that goes past ``eos_id`` starts a new line there.

        Returns:
            log_prob_TB float64, and the state after the last row.

        Raises:
            ValueError: ``state`` does not belong to this order and batch.
        """
        tokens_TB = np.asarray(tokens_TB)
        if state.shape != (self.order - 1, tokens_TB.shape[1]):
            raise ValueError(
                f"state has shape {state.shape}, this order-{self.order} model needs "
                f"{(self.order - 1, tokens_TB.shape[1])}; start from initial_state(batch)"
            )
        log_prob_TB = np.zeros(tokens_TB.shape)
        log_backoff: FloatArray = np.zeros(1)
        codes = [table.codes for table in self.tables]
        for table, (ngrams_TB, contexts_TB) in zip(
            self.tables, match(codes, tokens_TB, state, self.vocab_size, self.eos_id), strict=True
        ):
            known = contexts_TB >= 0
            log_prob_TB[known] += log_backoff[contexts_TB[known]]
            hit = ngrams_TB >= 0
            log_prob_TB[hit] = table.log_prob[ngrams_TB[hit]]
            log_backoff = table.log_backoff
        return log_prob_TB, self._next_state(tokens_TB, state)

    def _next_state(self, tokens_TB: AnyIntArray, state: IntArray) -> IntArray:
        """The last N ids of each column. An ``<eos>`` among them needs no care: no match reaches across it."""
        n = self.order - 1
        state = np.concatenate([state, tokens_TB[max(0, len(tokens_TB) - n) :].astype(np.int64)])
        return state[len(state) - n :]

    def score_ids(self, ids: AnyIntArray) -> npt.NDArray[np.float64]:
        """Nats of each id, given its line up to it: (num_tokens,) float64, inf where the probability is zero.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        ids = np.asarray(ids)
        check_ids(ids, self.vocab_size)
        nats = np.empty(len(ids))
        state = self.initial_state(1)
        for start in range(0, len(ids), _SCORE_CHUNK):
            log_prob_TB, state = self.score(ids[start : start + _SCORE_CHUNK, None], state)
            np.negative(log_prob_TB[:, 0], out=nats[start : start + len(log_prob_TB)])
        return nats

    def next_distribution(self, context_ids: Sequence[int] | AnyIntArray) -> npt.NDArray[np.float64]:
        """Probability of every id after ``context_ids``: (V,) float64.

        Args:
            context_ids: the line so far; only the last N ids matter, and where there are fewer the line starts there.
        """
        words = np.asarray(context_ids, dtype=np.int64).reshape(-1)
        check_ids(words, self.vocab_size)
        state = self._next_state(words[:, None], self.initial_state(1))
        base = self.vocab_size + 1
        prob_V = np.exp(self.tables[0].log_prob[:-1].astype(np.float64))
        any_word = np.array([[self.eos_id]])
        matches = match([t.codes for t in self.tables], any_word, state, self.vocab_size, self.eos_id)
        next(matches)
        for below, table, (_, contexts_TB) in zip(self.tables, self.tables[1:], matches, strict=False):
            context = int(contexts_TB[0, 0])
            if context >= 0:
                first, last = np.searchsorted(table.codes, [context * base, (context + 1) * base])
                prob_V *= np.exp(float(below.log_backoff[context]))
                prob_V[table.codes[first:last] - context * base] = np.exp(table.log_prob[first:last])
        return prob_V

    def save(self, folder: Path) -> None:
        """Write ``ngram.json`` and one ``.npy`` file an array; no pickle."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for k, table in enumerate(self.tables, start=1):
            for name in ("codes", "log_prob", "log_backoff"):
                np.save(folder / f"{name}_{k}.npy", getattr(table, name), allow_pickle=False)
        about = {
            "smoothing": self.smoothing, "order": self.order, "vocab_size": self.vocab_size, "eos_id": self.eos_id,
            "parameters": dict(self.parameters), "notes": list(self.notes),
        }  # fmt: skip
        (folder / "ngram.json").write_text(json.dumps(about, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, memory_map: bool = False) -> NgramModel:
        """Read what :meth:`save` wrote; with ``memory_map`` the arrays stay on disk until they are used.

        Raises:
            ValueError: the folder holds no n-gram model, or an incomplete one.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / "ngram.json").read_text(encoding="utf-8"))
            mode: Literal["r"] | None = "r" if memory_map else None
            tables = tuple(
                Table(*(
                    np.load(folder / f"{name}_{k}.npy", mmap_mode=mode, allow_pickle=False)
                    for name in ("codes", "log_prob", "log_backoff")
                ))
                for k in range(1, about["order"] + 1)
            )  # fmt: skip
        except FileNotFoundError as error:
            missing = error.filename
            raise ValueError(f"{folder} holds no whole n-gram model: {missing} is missing; save it again") from None
        return cls(
            tables, about["vocab_size"], about["eos_id"], about["smoothing"], about["parameters"], tuple(about["notes"])
        )
