"""Dynamic evaluation: a model that goes on learning from a text as it reads it.

Shapes: T time steps, N targets.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.models.cells import Cell
from nextword.models.language_model import LanguageModel, detach
from nextword.models.stack import RecurrentStack
from nextword.text.ids import Ids, Split

Scores = tuple[NDArray[np.float32], NDArray[np.int32]]


@dataclass(frozen=True)
class Rule:
    """How weights follow the text: ``theta <- theta + decay (theta_0 - theta) - learning_rate g / (s + mean s)``.

    g is the gradient of the nats summed over the last ``steps`` tokens, theta_0 the trained weights, s the root mean
    square of g of each weight on train, its mean that over all weights. Source: Krause, Kahembwe, Murray & Renals,
    Dynamic Evaluation of Neural Sequence Models (2018), eq. 4 to 6: RMS with a global decay, ``mean s`` as epsilon.
    """

    learning_rate: float
    steps: int
    decay: float


def documents(split: Split) -> list[Ids]:
    """The ids of each document."""
    return np.split(split.ids, split.document_starts[1:-1])


def gradient_scale(model: LanguageModel, train: Split, steps: int) -> list[Tensor]:
    """``s + mean s`` of :class:`Rule`, by parameter: how large the gradients of a trained model are on train.

    Args:
        model: left-to-right, in evaluation mode.
        train: the text that is read, in windows of ``steps`` tokens.
        steps: T.
    """
    model = _differentiable(model)
    weights: list[Tensor] = list(model.parameters())
    squares, count = [torch.zeros_like(w) for w in weights], 0
    for ids in documents(train):
        for _, _, gradients in _read(model, weights, ids, steps):
            torch._foreach_addcmul_(squares, gradients, gradients)
            count += 1
    roots = [square.div_(count).sqrt_() for square in squares]
    mean = sum(float(root.sum(dtype=torch.float64)) for root in roots) / sum(root.numel() for root in roots)
    return [root.add_(mean) for root in roots]


def score_dynamically(model: LanguageModel, ids: Ids, rule: Rule, scale: list[Tensor]) -> Scores:
    """Nats and rank of every target of a document; each is scored before the weights learn from it.

    Args:
        model: left-to-right, in evaluation mode; its own weights stay as they are.
        ids: (N,) one document.
        rule: of the updates.
        scale: of :func:`gradient_scale`.

    Returns:
        (N,) nats, infinite from where a score is not a number: the weights have diverged; (N,) number of types held
        more probable than the target.
    """
    adapted = _differentiable(model)
    trained: list[Tensor] = list(model.parameters())
    weights: list[Tensor] = list(adapted.parameters())
    with torch.no_grad():
        rates = [rule.learning_rate / s for s in scale]
    nats, ranks = np.full(len(ids), np.inf, np.float32), np.full(len(ids), adapted.embedding.num_embeddings, np.int32)
    done = 0
    for log_prob, rank, gradients in _read(adapted, weights, ids, rule.steps):
        if log_prob.isnan().any():
            break
        part = slice(done, done + len(log_prob))
        nats[part], ranks[part] = -log_prob.cpu().numpy(), rank.cpu().numpy()
        done = part.stop
        with torch.no_grad():
            torch._foreach_lerp_(weights, trained, rule.decay)
            torch._foreach_addcmul_(weights, gradients, rates, value=-1.0)
    return nats, ranks


def _read(
    model: LanguageModel, weights: list[Tensor], ids: Ids, steps: int
) -> Iterator[tuple[Tensor, Tensor, tuple[Tensor, ...]]]:
    """Log-probability and rank of each target (T,), and the gradient of their nats, window by window.

    The weights may be changed between windows; the state is carried on as it was computed.
    """
    state: Any = model.initial_state(1)
    for start in range(0, len(ids), steps):
        window = torch.from_numpy(ids[start : start + steps].astype(np.int64))
        words_T1 = window.to(model.output.weight.device)[:, None]
        hidden_TE, state = model.hidden(words_T1, detach(state))
        log_prob_TV = model.output.log_prob(hidden_TE)
        own_T1 = log_prob_TV.gather(1, words_T1)
        gradients = torch.autograd.grad(-own_T1.sum(), weights)
        rank_T = (log_prob_TV.detach() > own_T1.detach()).sum(1)
        yield own_T1.detach()[:, 0], rank_T, gradients


def _differentiable(model: LanguageModel) -> LanguageModel:
    """A copy whose cells run as in training (cuDNN differentiates no others), but for dropout, and unrecorded."""
    model = copy.deepcopy(model)
    for part in model.modules():
        if isinstance(part, Cell):
            part.training = True
        if isinstance(part, RecurrentStack) and part.params.engine == "graph":  # for one document, and in threads
            part.params = part.params.model_copy(update={"engine": "scan"})
    return model
