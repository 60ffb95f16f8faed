"""A tiny corpus with structure worth learning, encoded as the stages encode it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from nextword.config import CorpusParams, EvaluateParams, ModelParams, Params, TokenizerParams, TrainParams
from nextword.text import encode_corpus, prepare_corpus

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "likes",
    "old",
    "young",
    "house",
    "river",
    "in",
    "on",
    "and",
    ",",
    ".",
]


def write_text(folder: Path, num_documents: int = 12, lines: int = 30) -> Path:
    """Documents as files, each line a short random sentence."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for document in range(num_documents):
        text = "\n".join(
            " ".join(rng.choice(WORDS[i % 3 :: 3]) for i in range(rng.randint(1, 12))) for _ in range(lines)
        )
        (folder / f"{document:02}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    source = {"path": str(write_text(root / "text")), "documents": "file"}
    corpus = CorpusParams(source="text", text=source, allow_outside=True)
    prepare_corpus(corpus, root / "corpus")
    encode_corpus(TokenizerParams(vocab_size=None), root / "corpus", root / "ids")
    return root / "ids"


@pytest.fixture(scope="session")
def tiny_params() -> Params:
    size = {"embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02}
    return Params(
        train=TrainParams(
            seeds=(0, 1), batch_size=4, bptt=7, max_epochs=2, precision="float32", accelerator="cpu", clip_norm=1.0
        ),
        models={
            "lstm": ModelParams(kind="lstm", **size),
            "gru": ModelParams(kind="gru", **size),
            "nnlm": ModelParams(kind="nnlm", window=2, seeds=(3,), **size),
        },
        evaluate=EvaluateParams(batch_size=3, train_sample_tokens=500),
    )


@pytest.fixture(scope="session")
def mount_namespace() -> None:
    """Skips where a process cannot have mounts of its own (``unshare -rm``)."""
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        subprocess.run(words, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no mount namespace of one's own here: {error}")
