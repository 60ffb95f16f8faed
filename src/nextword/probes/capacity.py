"""What LSTM and GRU can hold: random text by heart, and real text where nothing keeps them from overfitting.

Bits a parameter: Collins, Sohl-Dickstein & Sussillo, "Capacity and trainability in recurrent neural networks" (2017).

Shapes: T time steps, B columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextword.config import CapacityParams, ModelParams, ScheduleParams, TrainParams
from nextword.config.sections import SizeParams
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.models.sizes import hidden_parameters, matched_size
from nextword.pool import run_jobs
from nextword.stage import Progress
from nextword.text.ids import load_ids, smallest_dtype
from nextword.text.streams import Columns, Ids
from nextword.training.brief import train_briefly

KINDS = ("lstm", "gru", "gru_reset_after")
MATCHED = "lstm_matched"
"""Name of the LSTM with as many hidden parameters as the GRU."""
BPTT = 20
"""Steps through which a gradient flows back."""
COLUMN_TOKENS = 400
"""Tokens in a column of random text: with columns in proportion to the length, all lengths get as many updates."""
REAL_BATCH = 10
"""Columns of real text."""
VALID_TOKENS = 10_000
"""Tokens of valid scored after each pass, from its start."""

Run = dict[str, Any]


def networks(embedding_size: int, hidden_size: int) -> dict[str, ModelParams]:
    """LSTM and both GRUs of one hidden size, and an LSTM of the GRU's hidden parameters; nothing is regularised.

    Raises:
        ValueError: no hidden size of the matched LSTM comes within 1%.
    """
    size = {"embedding_size": embedding_size, "hidden_size": hidden_size}
    found = {kind: ModelParams.model_validate({"kind": kind, **size}) for kind in KINDS}
    match = ModelParams(
        kind="lstm", embedding_size=embedding_size, match=SizeParams(kind="gru", hidden_size=hidden_size)
    )
    return found | {MATCHED: found["lstm"].model_copy(update={"hidden_size": matched_size(match)})}


def capacity(
    ids: Path, params: CapacityParams, train: TrainParams, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Train every network on texts of rising length without dropout or weight decay, and see what it has learned.

    *Random text*: N words, independent and uniform over V types, so that no code is shorter than ``N log2 V`` bits. A
    network that assigns it ``L`` nats after training has memorised ``max(0, N log2 V - L / ln 2)`` bits of it. That is
    a lower bound on what it could hold: training is ``random_epochs`` long and no longer. Cosine schedule.

    *Real text*: the first tokens of train, over and over, until ``seen_tokens`` were trained on; the loss on them at
    the end, and the loss on valid (its first ``VALID_TOKENS``) after each pass. Constant learning rate.

    Weights and random text are drawn from the seed, so that all networks of a seed read the same. Each text gets as
    many updates at every length; so the learning rate is chosen at the shortest one, with the first seed. All losses
    are of the text in columns, as it was trained on, with the state carried along each.

    Args:
        ids: folder that ``encode`` wrote.
        params: sizes, lengths, budget, seeds.
        train: precision; all else is the same whatever it says (AdamW, clipping at norm 1).
        workers: processes; no figure depends on their number.
        progress: called with jobs done and in all.

    Returns:
        ``networks``: by name ``kind``, ``hidden_size``, ``num_parameters`` (all, with the vocabulary of the random
        text) and ``hidden_parameters``; ``random``: ``vocabulary``, ``epochs``, ``lengths``, ``runs`` of ``network``,
        ``seed``, ``tokens``, ``learning_rate``, ``bits``, ``bits_per_parameter`` (of all); ``real``: ``sizes``,
        ``seen_tokens``, ``valid_tokens``, ``runs`` of ``network``, ``seed``, ``tokens``, ``learning_rate``,
        ``train_nats``, ``valid_nats``, ``best_valid_nats``, ``best_pass`` (from 1), ``passes``, ``gap``
        (``valid_nats - train_nats``), in nats a target and None where the training diverged.

    Raises:
        ValueError: no LSTM is of the GRU's size, or train is shorter than a batch.
    """
    found = networks(params.embedding_size, params.hidden_size)
    # the longest first
    jobs = [(work, ids, params, train, name, model) for work in (_real, _random) for name, model in found.items()]
    results = run_jobs(_carry_out, jobs, workers, progress)
    runs = {
        work: [run for job, result in zip(jobs, results, strict=True) if job[0] is work for run in result]
        for work in (_random, _real)
    }
    with torch.device("meta"):  # counted, never filled
        sizes = {
            name: build_model(model, params.random_vocabulary, 0).num_parameters() for name, model in found.items()
        }
    return {
        "networks": {
            name: {
                "kind": model.kind,
                "hidden_size": model.hidden_size,
                "num_parameters": sizes[name]["total"],
                "hidden_parameters": hidden_parameters(model),
            }
            for name, model in found.items()
        },
        "random": {
            "vocabulary": params.random_vocabulary,
            "epochs": params.random_epochs,
            "lengths": params.random_tokens,
            "runs": runs[_random],
        },
        "real": {
            "sizes": params.train_tokens,
            "seen_tokens": params.seen_tokens,
            "valid_tokens": VALID_TOKENS,
            "runs": runs[_real],
        },
    }


def _carry_out(work: Callable[..., list[Run]], *arguments: Any) -> list[Run]:
    return work(*arguments)


def _random(ids: Path, params: CapacityParams, train: TrainParams, name: str, model: ModelParams) -> list[Run]:
    """All runs of a network on random text."""

    def run(tokens: int, seed: int, learning_rate: float) -> Run:
        vocabulary = params.random_vocabulary
        text = np.random.default_rng([seed, tokens]).integers(0, vocabulary, tokens).astype(smallest_dtype(vocabulary))
        settings = _settings(train, max(1, tokens // COLUMN_TOKENS), "cosine")
        network = _build(model, vocabulary, 0, seed)
        columns = Columns(text, settings.batch_size, settings.bptt)
        train_briefly(network, text, settings, learning_rate, len(columns) * params.random_epochs)
        nats = column_nats(network, text, settings.batch_size)
        # what is in no column was never read
        bits = columns.columns.size * (math.log2(vocabulary) - nats / math.log(2))
        bits = max(0.0, bits) if math.isfinite(bits) else 0.0
        return {
            "network": name, "seed": seed, "tokens": tokens, "learning_rate": learning_rate, "bits": bits,
            "bits_per_parameter": bits / network.num_parameters()["total"],
        }  # fmt: skip

    return _all_runs(run, params, params.random_tokens, lambda run: -run["bits"])


def _real(ids: Path, params: CapacityParams, train: TrainParams, name: str, model: ModelParams) -> list[Run]:
    """All runs of a network on parts of train."""
    corpus = load_ids(ids)
    valid = corpus["valid"].ids[:VALID_TOKENS]
    settings = _settings(train, REAL_BATCH, "constant")

    def run(tokens: int, seed: int, learning_rate: float) -> Run:
        network = _build(model, corpus.vocab_size, corpus.eos_id, seed)
        text = corpus["train"].ids[:tokens]
        columns = Columns(text, settings.batch_size, settings.bptt)
        scores: list[float] = []
        brief = train_briefly(
            network,
            text,
            settings,
            learning_rate,
            max(1, round(params.seen_tokens / columns.columns.size * len(columns))),
            lambda _: scores.append(column_nats(network, valid, settings.batch_size)),
        )
        ended = brief.diverged_at is None
        train_nats = column_nats(network, text, settings.batch_size) if ended else None
        valid_nats = column_nats(network, valid, settings.batch_size) if ended else None
        best = int(np.argmin(scores)) if scores else None
        return {
            "network": name, "seed": seed, "tokens": tokens, "learning_rate": learning_rate,
            "train_nats": train_nats, "valid_nats": valid_nats,
            "best_valid_nats": None if best is None else scores[best],
            "best_pass": None if best is None else best + 1, "passes": len(scores),
            "gap": valid_nats - train_nats if valid_nats is not None and train_nats is not None else None,
        }  # fmt: skip

    return _all_runs(run, params, params.train_tokens, lambda run: _or_infinite(run["train_nats"]))


def _all_runs(
    run: Callable[[int, int, float], Run],
    params: CapacityParams,
    lengths: tuple[int, ...],
    loss: Callable[[Run], float],
) -> list[Run]:
    """Every length with every seed, at the learning rate that is best at the shortest with the first seed."""
    shortest, first = min(lengths), params.seeds[0]
    tried = [run(shortest, first, rate) for rate in params.learning_rates]
    best = min(tried, key=loss)
    return [
        best if (tokens, seed) == (shortest, first) else run(tokens, seed, best["learning_rate"])
        for tokens in lengths
        for seed in params.seeds
    ]


@torch.inference_mode()
def column_nats(model: LanguageModel, ids: Ids, batch_size: int) -> float:
    """Nats a target of a text in columns; infinite where a state overflowed.

    Args:
        model: its dropout is taken out for the while.
        ids: (N,); the N % B tokens at the end are in no column.
        batch_size: B.
    """
    training = model.training
    model.eval()
    device = model.output.weight.device
    columns = Columns(ids, batch_size, 256)
    total, state = 0.0, model.initial_state(batch_size)
    for window in columns:
        log_prob_TB, state = model.score(torch.from_numpy(window).to(device), state)
        total -= float(log_prob_TB.double().sum())
    model.train(training)
    return math.inf if math.isnan(total) else total / columns.columns.size


def _build(params: ModelParams, vocab_size: int, eos_id: int, seed: int) -> LanguageModel:
    torch.manual_seed(seed)
    return build_model(params, vocab_size, eos_id)


def _settings(train: TrainParams, batch_size: int, schedule: Any) -> TrainParams:
    return TrainParams(
        batch_size=batch_size, bptt=BPTT, precision=train.precision, schedule=ScheduleParams(kind=schedule)
    )


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value
