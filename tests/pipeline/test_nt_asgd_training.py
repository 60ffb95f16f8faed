"""NT-ASGD and epochs of a model's own in real runs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextword.config import ModelParams, Params
from nextword.evaluation.neural import score_split
from nextword.text.ids import load_ids
from nextword.training.artifacts import load_model
from nextword.training.nt_asgd import stopped_falling
from nextword.training.run import train_model

EPOCHS = 9


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_ids: Path, tiny_params: Params) -> dict[str, dict[str, Any]]:
    """The same model by SGD, at a rate too high to settle, and by NT-ASGD; every regulariser at work."""
    model = ModelParams(
        kind="lstm", embedding_size=8, hidden_size=8, num_layers=2, connection="residual", learning_rate=14.0,
        seeds=(0,), max_epochs=EPOCHS, dropout=0.1, dropout_embedding=0.1, weight_drop=0.2, variational=True,
        activation_penalty=1.0, temporal_penalty=1.0,
    )  # fmt: skip
    constant = tiny_params.train.schedule.model_copy(update={"kind": "constant"})
    changes = {"nonmonotone_interval": 1, "clip_norm": 0.5, "schedule": constant, "bptt": 20}

    def run(optimizer: str) -> dict[str, Any]:
        root = tmp_path_factory.mktemp(optimizer)
        train = tiny_params.train.model_copy(update=changes | {"optimizer": optimizer})
        params = tiny_params.model_copy(update={"train": train, "models": {"lstm": model}})
        rows: list[dict[str, Any]] = []
        report = train_model(params, "lstm", tiny_ids, root / "out", root / "work", lambda job, row: rows.append(row))
        return report["runs"][0] | {"folder": root / "out" / "seed-0", "rows": rows}

    return {optimizer: run(optimizer) for optimizer in ("sgd", "nt_asgd")}


def test_a_model_has_its_own_epochs(runs: dict[str, dict[str, Any]], tiny_params: Params) -> None:
    assert tiny_params.train.max_epochs != EPOCHS
    for run in runs.values():
        assert run["epochs"] == EPOCHS
        assert run["rows"][-1]["tokens"] == run["rows"][-1]["total_tokens"] == run["tokens"]


def test_the_average_is_validated_from_the_trigger_on(runs: dict[str, dict[str, Any]]) -> None:
    sgd, averaged = ([row["valid_perplexity"] for row in runs[name]["history"]] for name in ("sgd", "nt_asgd"))
    trigger = next(check for check in range(EPOCHS) if stopped_falling(sgd[: check + 1], 1))
    assert trigger < EPOCHS - 1
    assert averaged[: trigger + 1] == sgd[: trigger + 1]
    assert all(a != b for a, b in zip(averaged[trigger + 1 :], sgd[trigger + 1 :], strict=True))
    assert min(averaged) < min(sgd)
    for key in ("train_perplexity", "grad_norm"):  # the steps are those of SGD
        assert [row[key] for row in runs["nt_asgd"]["history"]] == [row[key] for row in runs["sgd"]["history"]]


def test_the_weights_saved_are_those_validated(runs: dict[str, dict[str, Any]], tiny_ids: Path) -> None:
    for run in runs.values():
        nats, _ = score_split(load_model(run["folder"]), load_ids(tiny_ids)["valid"], "stateful", 2)
        assert math.exp(nats.astype(np.float64).mean()) == pytest.approx(run["valid_perplexity"], rel=1e-5)
