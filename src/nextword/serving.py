"""A trained model as people use it: raw text in; its probability, or a continuation, out.

Uses nothing of a model but the one language-model interface: ``initial_state(batch)``, ``score(tokens, state)``,
``left_to_right`` and, for continuations, ``next_log_prob(state)``.

Shapes: T time steps, B texts side by side, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

TOKENIZER_FILES = ("tokenizer.json", "meta.json")
STEPS_A_CALL = 64
TEXTS_A_CALL = 32


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


@dataclass(frozen=True)
class Sampling:
    """How a continuation is drawn.

    Raises:
        ValueError: a number is out of range.
    """

    max_tokens: int = 50
    """Length of the continuation; each new line counts as one token."""
    temperature: float = 1.0
    """Divides the log-probabilities; 0 always takes the most probable token."""
    top_k: int = 0
    """Draw from the k most probable tokens; 0 draws from all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give at least 1")
        if not (0 <= self.temperature < math.inf):
            raise ValueError(f"temperature is {self.temperature}; give a finite number >= 0 (0 is greedy)")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; give a number >= 0 (0 draws from all tokens)")


class TextModel:
    """A model with its tokenizer.

    Example:
        >>> from pathlib import Path
        >>> model = TextModel.load(Path("models/gru/seed-0"), Path("data/ids"))  # doctest: +SKIP
        >>> model.score(["we the people"])[0].perplexity  # doctest: +SKIP
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, eos_id: int, unk_id: int | None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self.unk_id = unk_id

    @classmethod
    def load(cls, model: Path, ids: Path) -> TextModel:
        """Load from disk.

        Args:
            model: folder with ``model.safetensors`` and ``model.json``.
            ids: folder with ``tokenizer.json`` and ``meta.json``.

        Raises:
            ValueError: a file is missing, or the model was trained with another tokenizer.
        """
        from tokenizers import Tokenizer

        from nextword.training.artifacts import load_model

        for file in TOKENIZER_FILES:
            if not (ids / file).is_file():
                raise ValueError(f"{ids / file} not found; run the stage `encode` (`dvc repro encode`)")
        meta = json.loads((ids / "meta.json").read_text(encoding="utf-8"))
        network = load_model(model).eval()
        trained_with = json.loads((model / "model.json").read_text(encoding="utf-8"))["tokenizer_sha256"]
        if trained_with != meta["tokenizer_sha256"]:
            raise ValueError(
                f"{model} was trained with tokenizer {trained_with[:12]}, {ids} holds {meta['tokenizer_sha256'][:12]}; "
                "give the ids folder it was trained on, or train it again (`dvc repro`)"
            )
        return cls(network, Tokenizer.from_file(str(ids / "tokenizer.json")), meta["eos_id"], meta["unk_id"])

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, ``<eos>`` after each line (an empty text is one empty line)."""
        ids: list[int] = []
        for line in text.removesuffix("\n").split("\n"):
            ids += [*self.tokenizer.encode(line, add_special_tokens=False).ids, self.eos_id]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``, a line end for each ``<eos>``."""
        lines: list[list[int]] = [[]]
        for token in ids:
            if token == self.eos_id:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(self.tokenizer.decode(line, skip_special_tokens=False) if line else "" for line in lines)

    def score(self, texts: Sequence[str]) -> list[Score]:
        """Score each text from a fresh state, which is carried across its lines.

        Texts of about equal length go side by side; nothing of the result depends on what stands beside a text.
        """
        encoded = [self.encode(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index]))
        scores: dict[int, Score] = {}
        for start in range(0, len(order), TEXTS_A_CALL):
            part = order[start : start + TEXTS_A_CALL]
            for index, nats in zip(part, self._log_probs([encoded[index] for index in part]), strict=True):
                scores[index] = Score(nats, len(encoded[index]))
        return [scores[index] for index in range(len(texts))]

    def continuations(self, prompts: Sequence[str], sampling: Sampling) -> list[str]:
        """Draw a continuation of each prompt; one seed gives one result for the whole list.

        The last line of a prompt is open: the continuation starts in it. The unknown word is never drawn.

        Raises:
            ValueError: the model is bidirectional.
        """
        import torch

        generator = torch.Generator().manual_seed(sampling.seed)
        with torch.inference_mode():
            return [self.decode(list(self._draw(prompt, sampling, generator))) for prompt in prompts]

    def _log_probs(self, encoded: list[list[int]]) -> list[float]:
        """Total log-probability of each list of ids, in nats; shorter ones are padded and the padding not counted."""
        import torch

        longest = max(map(len, encoded))
        device = self._device()
        tokens_TB = torch.full((longest, len(encoded)), self.eos_id, dtype=torch.long, device=device)
        lengths_B = torch.tensor([len(ids) for ids in encoded], device=device)
        for column, ids in enumerate(encoded):
            tokens_TB[: len(ids), column] = torch.tensor(ids, device=device)
        total_B = torch.zeros(len(encoded), dtype=torch.float64, device=device)
        with torch.inference_mode():
            state = self.model.initial_state(len(encoded))
            steps = STEPS_A_CALL
            if not self.model.left_to_right:  # it reads texts from both ends
                state, steps = state._replace(lengths=lengths_B), longest
            for start in range(0, longest, steps):
                log_prob_TB, state = self.model.score(tokens_TB[start : start + steps], state)
                steps_T1 = torch.arange(start, start + len(log_prob_TB), device=device)[:, None]
                total_B += torch.where(steps_T1 < lengths_B, log_prob_TB.double(), 0.0).sum(0)
        return [float(total) for total in total_B]

    def _draw(self, prompt: str, sampling: Sampling, generator: torch.Generator) -> Iterator[int]:
        import torch

        device = self._device()
        state = self.model.initial_state(1)
        given = self.encode(prompt)[:-1] if not prompt.endswith("\n") else self.encode(prompt)
        for start in range(0, len(given), STEPS_A_CALL):
            chunk_T1 = torch.tensor(given[start : start + STEPS_A_CALL], device=device)[:, None]
            _, state = self.model.score(chunk_T1, state)
        for _ in range(sampling.max_tokens):
            log_prob_V = self.model.next_log_prob(state)[0].float().cpu()
            if self.unk_id is not None:
                log_prob_V[self.unk_id] = -math.inf
            token = _pick(log_prob_V, sampling, generator)
            yield token
            _, state = self.model.score(torch.tensor([[token]], device=device), state)

    def _device(self) -> torch.device:
        import torch

        parameter = next(iter(self.model.parameters()), None)
        return torch.device("cpu") if parameter is None else parameter.device


def _pick(log_prob_V: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    import torch

    if sampling.temperature == 0:
        return int(log_prob_V.argmax())
    if 0 < sampling.top_k < len(log_prob_V):
        kept = log_prob_V.topk(sampling.top_k)
        log_prob_V = torch.full_like(log_prob_V, -math.inf).scatter(0, kept.indices, kept.values)
    return int(torch.multinomial(torch.softmax(log_prob_V / sampling.temperature, 0), 1, generator=generator))
