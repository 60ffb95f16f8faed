"""A small corpus and random models for the tests of adaptive evaluation."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from probe_fixtures import encode

from nextword.config import ModelParams
from nextword.evaluation.adaptive.dynamic import Rule, documents, score_dynamically
from nextword.evaluation.neural import score_split
from nextword.models import build_model
from nextword.models.language_model import LanguageModel
from nextword.text import EncodedCorpus
from nextword.text.ids import Ids, Split

KINDS: list[dict[str, Any]] = [
    {"kind": "nnlm", "window": 3, "direct_connections": True, "tie_weights": False},
    {"kind": "rnn"},
    {"kind": "lstm", "num_layers": 2, "connection": "residual"},
    {"kind": "gru", "tie_weights": False},
    {"kind": "lstm_peephole"},
]


def make_corpus(folder: Path) -> EncodedCorpus:
    """Random words; documents of several lengths."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(30)]

    def document(lines: int) -> str:
        return "\n".join(" ".join(rng.choices(words, range(1, 31), k=7)) for _ in range(lines))

    # lines of each document; a line of 7 words is 8 tokens
    lines = {"train": [60, 40], "valid": [10, 6], "test": [5, 1, 22]}
    return encode(folder, **{split: [document(n) for n in of] for split, of in lines.items()})


def build(corpus: EncodedCorpus, **params: Any) -> LanguageModel:
    """A model with random weights, in float64."""
    torch.manual_seed(0)
    size = {"embedding_size": 12, "hidden_size": 12, "init_scale": 0.7, "dropout": 0.5}
    return build_model(ModelParams.model_validate(size | params), corpus.vocab_size, corpus.eos_id).double().eval()


def plain_nats(model: LanguageModel, split: Split) -> NDArray[np.float32]:
    """The plain scores."""
    return score_split(model, split, "stateful", 2)[0]


def dynamic(model: LanguageModel, split: Split, rule: Rule, scale: list[torch.Tensor]) -> NDArray[np.float32]:
    """The scores of all documents, one after another."""
    return np.concatenate([score_dynamically(model, ids, rule, scale)[0] for ids in documents(split)])


def one_document(split: Split, ids: Ids) -> Split:
    """A split with one document."""
    changed = copy.copy(split)
    changed.__dict__.pop("line_starts", None)
    changed.__dict__.update(ids=ids, document_starts=np.array([0, len(ids)]))
    return changed
