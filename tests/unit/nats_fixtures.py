"""Ids, and nats of every target, as the earlier stages write them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

VOCAB_SIZE = 5000
DOCUMENTS = {
    "train": (450, 300, 250, 400, 400, 600, 700, 500),
    "valid": (290, 390, 180, 310, 420, 260, 350, 200),
    "test": (200, 350, 260, 420, 310, 180, 390, 290),
}
"""Tokens of each document of the ids; train_sample are the first five of train."""
NUM_TARGETS = {"train_sample": 1_800, "valid": 2_400, "test": 2_400}
NUM_OOV = {"train_sample": 60, "valid": 100, "test": 105}
LINE = 10
"""Tokens of every line."""


def write_ids(folder: Path) -> None:
    """``data/ids`` with the documents of :data:`DOCUMENTS`."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, sizes in DOCUMENTS.items():
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        ids = np.random.default_rng(len(split)).integers(1, VOCAB_SIZE, int(starts[-1])).astype(np.uint16)
        ids[LINE - 1 :: LINE] = 0
        np.save(folder / f"{split}.npy", ids)
        np.save(folder / f"{split}.documents.npy", starts)
        tokens = len(ids)
        splits[split] = {
            "num_tokens": tokens, "num_lines": tokens // LINE, "num_words": tokens, "num_bytes": 5 * tokens,
            "num_oov": NUM_OOV.get(split, 0), "sha256": f"{tokens:064x}",
        }  # fmt: skip
    meta = {"kind": "word", "vocab_size": VOCAB_SIZE, "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "0" * 64}
    dump(folder / "meta.json", {**meta, "splits": splits})
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "vocabulary.json").write_text("[]", encoding="utf-8")


def save_nats(path: Path, split: str, log_perplexity: float, salt: Sequence[int]) -> None:
    """Nats of every target: hard and easy words alike for all models, noise by ``salt``, the mean as given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = np.random.default_rng([3, len(split)])
    nats = text.gamma(2.0, 2.0, NUM_TARGETS[split])
    nats += 0.3 * np.random.default_rng([5, *salt]).normal(size=len(nats))
    if math.isinf(log_perplexity):
        nats[::3] = math.inf
    else:
        nats += log_perplexity - nats.mean()
    np.save(path, nats.astype(np.float32))


def write_nats(folder: Path, report: dict[str, Any]) -> None:
    """``reports/nats/NAME/`` of a neural model, with the means of its evaluation report."""
    name = report["model"]
    for run in report["runs"]:
        scores = [(s, way, m) for s, protocols in run["splits"].items() for way, m in protocols.items()]
        scores += [(s, way, m) for way, one in run.get("adaptive", {}).items() for s, m in one["splits"].items()]
        for split, way, scored in scores:
            salt = (run["seed"], hash_of(name))
            save_nats(folder / name / f"seed-{run['seed']}.{split}.{way}.npy", split, mean_nats(scored), salt)


def mean_nats(scored: dict[str, Any]) -> float:
    """Nats a target of METRICS."""
    return math.inf if scored["nats"] is None else scored["nats"] / scored["num_targets"]


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(text.encode().ljust(16, b"_")[:16], "big")


def dump(path: Path, tree: dict[str, Any]) -> None:
    """Write a report."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, allow_nan=False), encoding="utf-8")
