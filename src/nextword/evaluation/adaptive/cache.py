"""The neural cache: what a model has read not long ago, found again by its own hidden states.

Shapes: T time steps, B documents side by side, S steps of a window and of what is remembered before it, E hidden size,
N targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.config.comparison import CacheParams
from nextword.evaluation.combination import mix
from nextword.models.language_model import LanguageModel
from nextword.text.ids import Split
from nextword.text.streams import SEGMENT_STEPS, segment_windows

Nats = NDArray[np.floating[Any]]


@torch.inference_mode()
def cache_log_prob(
    model: LanguageModel, split: Split, size: int, thetas: Sequence[float], batch_size: int
) -> NDArray[np.float64]:
    """Log-probability of every target under the cache alone.

    ``p_cache(w) ~ sum_i exp(theta h_t . h_i) 1[w = w_i]`` over the last ``size`` targets w_i of the same document,
    h_i being the input of the output layer at w_i (Grave, Joulin & Usunier 2017, eq. 3 and 4).

    Args:
        model: left-to-right, in evaluation mode, on its device.
        split: what to score; the cache is empty at the start of each document.
        size: targets remembered.
        thetas: flatness of the distribution, one or more.
        batch_size: documents side by side; no figure depends on it.

    Returns:
        (len(thetas), N) in nats; -infinity where the cache lacks the target, NaN where it says nothing (it is empty,
        or a hidden state has overflowed).
    """
    device = model.output.weight.device
    log_prob = np.full((len(thetas), split.num_tokens), np.nan)
    state: Any = None
    keys_SBE = words_SB = torch.empty(0)
    for window in segment_windows(split.ids, split.document_starts, batch_size, SEGMENT_STEPS):
        words_TB = torch.from_numpy(window.tokens).to(device)
        if window.first:
            state = model.initial_state(words_TB.shape[1])
        hidden_NE, state = model.hidden(words_TB, state)
        hidden_TBE = hidden_NE.view(*words_TB.shape, -1)
        if window.first:
            keys_SBE, words_SB = hidden_TBE, words_TB
        else:
            keys_SBE, words_SB = torch.cat([keys_SBE[-size:], hidden_TBE]), torch.cat([words_SB[-size:], words_TB])
        live = int((window.place[0] >= 0).sum())  # the longest documents come first
        found = _look_up(hidden_TBE[:, :live], keys_SBE[:, :live], words_SB[:, :live], size, thetas)
        place = window.place[:, :live].T
        log_prob[:, place[place >= 0]] = found.cpu().numpy()[:, place >= 0]
    return log_prob


def _look_up(hidden_TBE: Tensor, keys_SBE: Tensor, words_SB: Tensor, size: int, thetas: Sequence[float]) -> Tensor:
    """Log-probability of each of the last T words, (len(thetas), B, T), given the ``size`` words before it."""
    steps, before = len(hidden_TBE), len(keys_SBE) - len(hidden_TBE)
    distance = before + torch.arange(steps)[:, None] - torch.arange(before + steps)
    outside_TS = ((distance < 1) | (distance > size)).to(words_SB.device)
    words_BS = words_SB.t()
    same_BTS = words_BS[:, before:, None] == words_BS[:, None, :]
    dots_BTS = torch.bmm(hidden_TBE.transpose(0, 1), keys_SBE.permute(1, 2, 0)).masked_fill_(outside_TS, -math.inf)
    dots_BTS -= dots_BTS.amax(-1, keepdim=True)  # all -infinity where the cache is empty: NaN
    found = []
    for theta in thetas:
        share_BTS = torch.exp(theta * dots_BTS)
        found.append(torch.log((share_BTS * same_BTS).sum(-1)) - torch.log(share_BTS.sum(-1)))
    return torch.stack(found)


def mix_cache(nats: Nats, log_cache: Nats, weight: float) -> NDArray[np.float64]:
    """``-log((1 - weight) p + weight p_cache)``, (N,); the model alone where the cache says nothing.

    Args:
        nats: (N,) ``-log p`` of the model.
        log_cache: (N,) of :func:`cache_log_prob`.
        weight: of the cache, from 0 to below 1.
    """
    silent = np.isnan(log_cache)
    return np.where(silent, nats, mix([nats, np.where(silent, math.inf, -log_cache)], [1.0 - weight, weight]))


def choose_cache(
    model: LanguageModel, sample: Split, nats: Nats, params: CacheParams, batch_size: int
) -> dict[str, float]:
    """``theta`` and ``weight`` of the grid with the fewest nats on ``sample``, whose plain nats are given."""
    log_cache = cache_log_prob(model, sample, params.size, params.thetas, batch_size)
    grid = list(product(range(len(params.thetas)), params.weights))
    totals = [mix_cache(nats, log_cache[i], weight).sum() for i, weight in grid]
    i, weight = grid[int(np.argmin(totals))]
    return {"theta": params.thetas[i], "weight": weight, "size": params.size}
