"""Trained models on disk: ``model.safetensors`` (weights) and ``model.json`` (how to build and use them)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights

from nextword.config import ModelParams
from nextword.files import whole_file, write_json
from nextword.models import build_model
from nextword.models.language_model import LanguageModel

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class ModelDescription:
    """What is needed to use a trained model."""

    name: str
    params: ModelParams
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    seed: int


def save_model(model: LanguageModel, description: ModelDescription, folder: Path) -> None:
    """Write a model folder; a half-written one is never seen under the final names."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / WEIGHTS) as part:
        save_weights(model, str(part))
    content = asdict(description) | {"params": description.params.model_dump(mode="json")}
    write_json(folder / DESCRIPTION, content)


def load_description(folder: Path) -> ModelDescription:
    """Read ``model.json``.

    Raises:
        ValueError: the folder holds no trained model.
    """
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{folder} holds no trained model (no {DESCRIPTION}); give a folder like models/lstm/seed-0"
        ) from None
    if "params" not in content:
        raise ValueError(f"{folder} holds no neural model; give a folder like models/lstm/seed-0")
    params = ModelParams.model_validate_json(json.dumps(content.pop("params")))
    return ModelDescription(params=params, **content)


def load_model(folder: Path, device: str | torch.device = "cpu") -> LanguageModel:
    """Load a trained model in evaluation mode.

    Raises:
        ValueError: the folder holds no trained model.
    """
    description = load_description(folder)
    model = build_model(description.params, description.vocab_size, description.eos_id)
    load_weights(model, str(folder / WEIGHTS))
    return model.to(device).eval()
