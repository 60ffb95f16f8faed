"""One training of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nextword.config import ModelParams, TrainParams
from nextword.evaluation.neural import score_split
from nextword.models import build_model
from nextword.text.ids import load_ids
from nextword.training.brief import train_briefly

EVALUATION_BATCH = 32
"""Documents of valid side by side; no figure depends on it."""


@dataclass(frozen=True)
class Outcome:
    """What one training came to."""

    valid_nats: float
    """Nats a target of valid, stateful; infinite where the training diverged."""
    seconds: float
    """Of training alone."""


def run_trial(ids: Path, model: ModelParams, train: TrainParams, steps: int, seed: int, device: str) -> Outcome:
    """Train from fresh weights for ``steps`` updates under the whole schedule, then score valid.

    Args:
        ids: folder that ``encode`` wrote.
        model: with the learning rate and the dropout to try.
        train: batch, bptt, optimiser, schedule, clipping, precision.
        steps: updates; past the end of train it begins anew.
        seed: of weights and dropout.
        device: torch's name of it.
    """
    if device != "cpu":
        torch.cuda.set_device(device)  # some of what torch does is for the current one
    torch.manual_seed(seed)
    corpus = load_ids(ids)
    text = corpus["train"]
    network = build_model(model, corpus.vocab_size, corpus.eos_id).to(device)
    brief = train_briefly(network, text.ids, train, model.learning_rate, steps, starts=text.document_starts)
    if brief.diverged_at is not None:
        return Outcome(math.inf, brief.seconds)
    nats, _ = score_split(network.eval(), corpus["valid"], "stateful", EVALUATION_BATCH)
    mean = float(np.mean(nats, dtype=np.float64))
    return Outcome(math.inf if math.isnan(mean) else mean, brief.seconds)
