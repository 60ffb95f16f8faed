"""Scores of trained neural models under both protocols."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextword.allocator import keep_freed_memory
from nextword.config import Params
from nextword.evaluation.adaptive import score_adaptively
from nextword.evaluation.rule import Scorer
from nextword.models.language_model import LanguageModel
from nextword.text.ids import EncodedCorpus, Split, load_ids
from nextword.text.streams import SEGMENT_STEPS, segment_windows
from nextword.training.artifacts import ModelDescription, load_description, load_model
from nextword.training.placement import find_devices

Protocol = Literal["stateful", "reset"]
PROTOCOLS: tuple[Protocol, ...] = ("stateful", "reset")


@torch.inference_mode()
def score_split(
    model: LanguageModel, split: Split, protocol: Protocol, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Nats and rank of every target of a split.

    A model that is not left-to-right is given each line or document whole: both sides of every word, up to its ends.

    Args:
        model: in evaluation mode, on its device.
        split: what to score.
        protocol: ``stateful`` carries the state across the lines of a document and begins anew at each document;
            ``reset`` begins anew at each line, as an n-gram model does.
        batch_size: documents or lines side by side; no figure depends on it.

    Returns:
        (num_tokens,) ``-log p`` in nats, and (num_tokens,) number of types held more probable than the target.
    """
    device = model.output.weight.device
    starts = split.document_starts if protocol == "stateful" else split.line_starts
    nats = np.full(split.num_tokens, np.nan, np.float32)
    ranks = np.zeros(split.num_tokens, np.int32)
    steps = SEGMENT_STEPS if model.left_to_right else split.num_tokens
    state: Any = None
    for window in segment_windows(split.ids, starts, batch_size, steps):
        kept = window.place >= 0
        if window.first:
            state = model.initial_state(window.tokens.shape[1])
        if not model.left_to_right:
            state = state._replace(lengths=torch.from_numpy(kept.sum(0)).to(device))
        log_prob, rank, state = model.score_and_rank(torch.from_numpy(window.tokens).to(device), state)
        nats[window.place[kept]] = nats_of(log_prob)[kept]
        ranks[window.place[kept]] = rank.cpu().numpy()[kept]
    return nats, ranks


def nats_of(log_prob: Tensor) -> NDArray[np.floating[Any]]:
    """``-log p``; infinite where it is not a number: a state that overflowed predicts nothing."""
    nats = -log_prob.cpu().numpy()
    return np.where(np.isnan(nats), np.inf, nats)


def head(split: Split, num_tokens: int) -> Split:
    """The first lines of a split that hold at least ``num_tokens`` tokens (all of it where it is shorter)."""
    if num_tokens >= split.num_tokens:
        return split
    end = num_tokens
    while split.ids[end - 1] != split.eos_id:  # no look at all the lines: the split may be long
        end += 1
    documents = split.document_starts
    inside = documents[documents < end]
    return replace(
        split,
        name=f"{split.name}_sample",
        ids=split.ids[:end],
        document_starts=np.append(inside, end).astype(np.int64),
        num_lines=int(np.count_nonzero(split.ids[:end] == split.eos_id)),
        num_words=0,  # not known for a part
        num_bytes=0,
    )


def evaluate_model(
    params: Params, name: str, ids: Path, models: Path, nats_out: Path, on_result: Callable[[int, dict[str, Any]], None]
) -> dict[str, Any]:
    """Score every seed of a trained model on a sample of train, on valid and on test, under both protocols.

    Args:
        params: the whole tree.
        name: key under ``models:``.
        ids: folder that ``encode`` wrote.
        models: folder of the model's seeds.
        nats_out: receives ``seed-K.SPLIT.WAY.npy``, float32 nats per target; WAY is a protocol, ``cache`` or
            ``dynamic``.
        on_result: called with each seed and its metrics.

    Returns:
        the report of the model (reports/evaluate/NAME.json). ``adaptive`` of a run has, by way, the ``settings`` that
        were chosen and metrics by split; ways in which the seed was not scored are missing.

    Raises:
        ValueError: the models were trained with another tokenizer than the ids have.
    """
    corpus = load_ids(ids)
    splits = {
        "train_sample": head(corpus["train"], params.evaluate.train_sample_tokens),
        "valid": corpus["valid"],
        "test": corpus["test"],
    }
    sample = head(splits["valid"], params.evaluate.adaptive.tune_tokens)
    scorers = {key: Scorer(corpus, split) for key, split in (splits | {"valid_sample": sample}).items()}
    seeds = params.seeds_of(name)
    trained = [_checked(models / f"seed-{seed}", corpus) for seed in seeds]
    devices = find_devices(params.train.accelerator)
    nats_out.mkdir(parents=True, exist_ok=True)

    def score(task: tuple[int, str, Protocol]) -> tuple[NDArray[np.float32], dict[str, Any]]:
        seed, key, protocol = task
        nats, ranks = score_split(loaded[seed], splits[key], protocol, params.evaluate.batch_size)
        np.save(nats_out / f"seed-{seed}.{key}.{protocol}.npy", nats)
        return nats, scorers[key].summarize(nats, ranks)

    # One thread a task: a step of a recurrent model is too small to share, and kernels run outside Python's lock.
    torch.set_num_threads(1)
    keep_freed_memory()
    places = ["cpu"] if devices.accelerator == "cpu" else [f"cuda:{number}" for number in range(devices.num_devices)]
    loaded = {
        seed: load_model(models / f"seed-{seed}", place) for seed, place in zip(seeds, cycle(places), strict=False)
    }
    # Seeds take turns, and so do the GPUs that hold them.
    tasks = [(seed, key, protocol) for key in splits for protocol in PROTOCOLS for seed in seeds]
    with ThreadPoolExecutor(devices.num_devices) as pool:
        results = dict(zip(tasks, pool.map(score, tasks), strict=True))
        nats = {(seed, key): results[seed, key, "stateful"][0] for seed in seeds for key in splits}
        adaptive, adapted = params.evaluate.adaptive, {}
        if loaded[seeds[0]].left_to_right and trained[0].params.group in adaptive.groups:
            train_head = head(corpus["train"], adaptive.tune_tokens)
            parts = {"valid": splits["valid"], "test": splits["test"], "valid_sample": sample, "train_head": train_head}
            adapted = score_adaptively(loaded, parts, nats, adaptive, params.evaluate.batch_size, pool.map)
    runs = []
    for seed in seeds:
        result = {key: {protocol: results[seed, key, protocol][1] for protocol in PROTOCOLS} for key in splits}
        ways: dict[str, Any] = {}
        for way, one in adapted.get(seed, {}).items():
            ways[way] = {"settings": one.settings, "splits": {}}
            for key, (scored, ranks) in one.scores.items():
                np.save(nats_out / f"seed-{seed}.{key}.{way}.npy", scored)
                ways[way]["splits"][key] = scorers[key].summarize(scored, ranks)
        runs.append({"seed": seed, "splits": result, "adaptive": ways})
        on_result(seed, runs[-1])
    return {"model": name, "kind": params.models[name].kind, "runs": runs}


def _checked(folder: Path, corpus: EncodedCorpus) -> ModelDescription:
    description = load_description(folder)
    if description.tokenizer_sha256 != corpus.tokenizer_sha256:
        raise ValueError(
            f"{folder} was trained with another tokenizer than {corpus.folder} has; train it again (dvc repro does)"
        )
    return description
