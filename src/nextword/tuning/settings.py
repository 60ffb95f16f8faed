"""What a search found, applied to the parameters of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nextword.config import ModelParams, Params


def not_searched(model: str) -> dict[str, Any]:
    """``reports/tune/NAME.json`` of a model that keeps its own settings."""
    return {"model": model, "searched": False, "settings": {}, "trials": []}


def tuned(params: Params, model: str, folder: Path) -> Params:
    """``params`` with the settings that stage ``tune@MODEL`` found for ``model``.

    Args:
        params: the whole tree.
        model: key under ``models:``.
        folder: ``reports/tune``.

    Raises:
        ValueError: no report, one that was made with another list ``tune.models``, or settings that the model cannot
            be built with.
    """
    from nextword.models import check_model  # brings torch

    path, again = folder / f"{model}.json", f"run `dvc repro tune@{model}`"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        searched, settings = report["searched"], {key: float(value) for key, value in report["settings"].items()}
    except FileNotFoundError:
        raise ValueError(f"{path} not found; {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no report of tuning ({error}); delete it and {again}") from None
    if searched != (model in params.tune.models):
        state = "searched" if searched else "not searched"
        raise ValueError(f"{path}: {model} was {state}, against tune.models of params.yaml; {again}")
    try:
        check_model(ModelParams.model_validate(params.models[model].model_dump() | settings))
    except ValueError as error:
        raise ValueError(f"{path}: {model} cannot take the settings {settings}: {error}") from None
    return params.with_settings(model, settings)
