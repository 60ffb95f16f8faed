"""What of params.yaml a training depends on, and no more.

Its result does not change with the seeds of other runs, the group in which a model is reported, or what is only about
the machine. Stage ``plan`` writes these conditions to ``data/plan``, and stages depend on its files where sections of
params.yaml say more than they need.
"""

from __future__ import annotations

from typing import Any

from nextword.config.sections import Params, TrainParams

_OF_OTHERS = {"seeds", "max_parallel_runs", "checkpoint_seconds"}
_OF_WHOLE_TRAININGS = {"max_epochs", "early_stopping_patience", "devices_per_run", "accumulate", "random_bptt"}


def of_training(params: Params, model: str) -> dict[str, Any]:
    """Of the training of one seed of ``model`` in stage ``train``."""
    return {
        "train": params.train.model_dump(mode="json", exclude=_OF_OTHERS | {"max_epochs"}),
        "model": params.models[model].model_dump(mode="json", exclude={"seeds", "group", "max_epochs"}),
        "max_epochs": params.epochs_of(model),
    }


def of_short_training(train: TrainParams) -> dict[str, Any]:
    """Of the trainings inside other stages, each of which says itself how long it is."""
    return train.model_dump(mode="json", exclude=_OF_OTHERS | _OF_WHOLE_TRAININGS)


def of_search(params: Params, model: str) -> dict[str, Any]:
    """Of the search of the settings of ``model``; the settings that it looks for do not count."""
    found = {"learning_rate", "dropout"}
    return {
        "tune": params.tune.model_dump(mode="json", exclude={"models"}),
        "train": of_short_training(params.train),
        "model": params.models[model].model_dump(mode="json", exclude={"seeds", "group", "max_epochs"} | found),
    }


def plan(params: Params) -> dict[str, Any]:
    """The content of ``data/plan`` by path."""
    files: dict[str, Any] = {"short.json": of_short_training(params.train)}
    for name, model in params.models.items():
        seeds = params.seeds_of(name)
        files[f"tune/{name}.json"] = of_search(params, name) if name in params.tune.models else {}
        files[f"train/{name}.json"] = of_training(params, name) | {"seeds": seeds}
        files[f"evaluate/{name}.json"] = {"group": model.group, "seeds": seeds}
    return files
