"""Exploding gradients on real text: the scale of the recurrent matrix at the start, with and without clipping.

Two things of the lecture notes are told apart: gradients that grow over the steps, which clipping bounds, and states
that grow (ReLU has no upper limit), which it does not.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nextword.config import ExplodingParams, ModelParams
from nextword.evaluation.statistics import mean_interval
from nextword.models import build_model
from nextword.models.language_model import detach
from nextword.pool import run_jobs
from nextword.probes.proportion import proportion
from nextword.stage import Progress
from nextword.text.ids import load_ids
from nextword.text.streams import Columns

KINDS = ("rnn", "rnn_relu")
"""tanh and ReLU networks."""
BATCH_SIZE = 8
"""Streams of text side by side."""
BPTT = 35
"""Steps through which a gradient flows back."""
DIVERGED = 1.5
"""A final loss above so many times ln V is a divergence: a network that has merely learned nothing stays near ln V."""
LAST_STEPS = 5
"""The final loss is the mean over so many last updates: those of one differ by the text they fell on."""


def exploding_gradients(
    ids: Path, params: ExplodingParams, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Train language models by plain SGD from an orthogonal recurrent matrix times each scale.

    A run ends at the first loss or gradient norm that is infinite or not a number, before the update. It has diverged
    where that happened, or where its final loss is more than ``DIVERGED`` times that of equal probabilities, ln V: "the
    loss suddenly becomes NaN or very large". Nothing here raises on a divergence.

    Args:
        ids: folder that ``encode`` wrote; the models read train.
        params: scales, clipping, sizes, updates, seeds.
        workers: processes, one thread each; the results do not depend on their number.
        progress: called with the number of runs done and of all.

    Returns:
        ``uniform_loss`` (ln V, nats), ``clip_norm``, ``learning_rate``, ``hidden_size``, ``steps``, ``bptt``,
        ``batch_size``, ``seeds``, and ``settings``, one for each kind, scale and clipping:

        - ``kind``, ``scale``, ``clipped`` (bool);
        - ``diverged`` and ``non_finite``: ``count``, ``of``, ``rate``, ``low``, ``high`` (Wilson);
        - ``final_loss``: mean and t-interval over the runs with a finite one (``count``), or None;
        - ``runs``: ``seed``; ``diverged``; ``first_non_finite``, the update (from 0) or None; ``non_finite``, what was:
          ``loss``, ``gradient`` or None; ``grad_norm_before``, the last finite norm or None; ``largest_grad_norm``;
          ``final_loss`` or None; ``losses`` (nats a token) and ``grad_norms`` (before clipping) by update.
    """
    settings = [(kind, scale, clipped) for kind in KINDS for scale in params.scales for clipped in (False, True)]
    jobs = [(ids, params, *setting, seed) for setting in settings for seed in params.seeds]
    runs = iter(run_jobs(train_run, jobs, workers, progress))
    corpus = load_ids(ids)
    return {
        "uniform_loss": math.log(corpus.vocab_size),
        **params.model_dump(mode="json", exclude={"scales"}),
        "batch_size": BATCH_SIZE,
        "bptt": BPTT,
        "settings": [
            {"kind": kind, "scale": scale, "clipped": clipped} | _summarize([next(runs) for _ in params.seeds])
            for kind, scale, clipped in settings
        ],
    }


def train_run(ids: Path, params: ExplodingParams, kind: str, scale: float, clipped: bool, seed: int) -> dict[str, Any]:
    """One run; see :func:`exploding_gradients`. The same seed starts from the same weights but for the scale."""
    corpus = load_ids(ids)
    size = params.hidden_size
    keys = {"recurrent_init": "orthogonal", "recurrent_scale": scale, "embedding_size": size, "hidden_size": size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(ModelParams.model_validate({"kind": kind} | keys), corpus.vocab_size, corpus.eos_id)
    optimizer = torch.optim.SGD(model.parameters(), params.learning_rate, fused=True)
    windows = Columns(corpus["train"].ids, BATCH_SIZE, BPTT)
    start = model.initial_state(BATCH_SIZE)
    losses: list[float] = []
    norms: list[float] = []
    culprit = None
    state: Any = start
    for number, window in enumerate(islice(chain.from_iterable(repeat(windows)), params.steps)):
        tokens = torch.from_numpy(window)
        nats, _, state = model.training_loss(tokens, start if number % len(windows) == 0 else detach(state))
        optimizer.zero_grad()
        (nats / tokens.numel()).backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), params.clip_norm if clipped else math.inf))
        loss = float(nats.detach()) / tokens.numel()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            culprit = "gradient" if math.isfinite(loss) else "loss"
            break
        losses.append(loss)
        norms.append(norm)
        optimizer.step()
    final = float(np.mean(losses[-LAST_STEPS:])) if culprit is None else None
    return {
        "seed": seed,
        "diverged": final is None or final > DIVERGED * math.log(corpus.vocab_size),
        "first_non_finite": None if culprit is None else len(losses),
        "non_finite": culprit,
        "grad_norm_before": norms[-1] if culprit is not None and norms else None,
        "largest_grad_norm": max(norms, default=None),
        "final_loss": final,
        "losses": losses,
        "grad_norms": norms,
    }


def _summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    finals = [run["final_loss"] for run in runs if run["final_loss"] is not None]
    return {
        "diverged": proportion(sum(run["diverged"] for run in runs), len(runs)),
        "non_finite": proportion(sum(run["non_finite"] is not None for run in runs), len(runs)),
        "final_loss": asdict(mean_interval(finals)) if finals else None,
        "runs": runs,
    }
