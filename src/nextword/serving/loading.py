"""A folder with a trained model, of any kind, as a :class:`TextModel`."""

from __future__ import annotations

import json
from pathlib import Path

from nextword.serving.backends import Backend, Network, Ngrams
from nextword.serving.text_model import TextModel
from nextword.serving.vocabulary import REQUIRED, Vocabulary

TOKENIZER_FILES = REQUIRED
NGRAM, DESCRIPTION = "ngram.json", "model.json"


def load_text_model(folder: Path, ids: Path, device: str = "cpu") -> TextModel:
    """Load from disk.

    Args:
        folder: of one seed of a neural model (``model.safetensors`` and ``model.json``), or of an n-gram model
            (``ngram.json`` and its arrays).
        ids: folder with ``tokenizer.json`` and ``meta.json``.
        device: ``auto``, ``cpu`` or ``cuda``, where a neural model computes; auto is a GPU where there is one.

    Raises:
        ValueError: the folder holds no trained model, a file is missing, the model was trained with another
            tokenizer, or there is no such device.
    """
    is_ngram = (folder / NGRAM).is_file()
    if not is_ngram and not (folder / DESCRIPTION).is_file():
        seeds = sorted(path.parent.name for path in folder.glob(f"seed-*/{DESCRIPTION}"))
        raise ValueError(
            f"{folder} holds the seeds {', '.join(seeds)}; give one of them, e.g. {folder / seeds[0]}"
            if seeds
            else f"{folder} holds no trained model (no {DESCRIPTION}, no {NGRAM}); "
            "give a folder like models/lstm/seed-0 or models/ngram"
        )
    vocabulary = Vocabulary.load(ids)
    _check_tokenizer(folder, vocabulary)
    backend: Backend
    if is_ngram:
        from nextword.ngram import NgramModel

        backend = Ngrams(NgramModel.load(folder, memory_map=True))
        name, size = "ngram", backend.model.vocab_size
    else:
        from nextword.training.artifacts import load_description, load_model

        backend = Network(load_model(folder, _accelerator(device)))
        about = load_description(folder)
        name, size = f"{about.name} seed {about.seed}", about.vocab_size
    if size != vocabulary.vocab_size:
        raise ValueError(f"{folder} knows {size} types, the tokenizer in {ids} {vocabulary.vocab_size}; {_REMEDY}")
    return TextModel(name, backend, vocabulary)


def _accelerator(device: str) -> str:
    """``cpu`` or ``cuda``; a registered model computes on the CPU, and comes without what training needs."""
    if device == "cpu":
        return device
    from nextword.training.placement import find_devices

    return find_devices(device).accelerator


_REMEDY = "give the ids folder it was trained on, or train it again (`dvc repro`)"


def _check_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    """Every model says in ``model.json`` with which tokenizer it was trained."""
    try:
        trained_with = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["tokenizer_sha256"]
    except FileNotFoundError:  # an n-gram model that was saved by hand
        return
    if trained_with != vocabulary.tokenizer_sha256:
        raise ValueError(
            f"{folder} was trained with tokenizer {trained_with[:12]}, {vocabulary.folder} holds "
            f"{vocabulary.tokenizer_sha256[:12]}; {_REMEDY}"
        )
