"""A model with adaptive softmax through training, evaluation and use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextword.config import ModelParams, Params, load_params
from nextword.evaluation.neural import evaluate_model
from nextword.text.ids import load_ids
from nextword.training.artifacts import load_model
from nextword.training.run import train_model

CUTOFFS = (4, 17)
"""The last cluster holds <unk>'s neighbours at the end: few of its words are in any one window."""


@pytest.fixture(scope="module")
def params(tiny_params: Params) -> Params:
    keys = {"embedding_size": 8, "hidden_size": 8, "learning_rate": 0.02, "seeds": (0,), "tie_weights": False}
    return tiny_params.model_copy(
        update={"models": {"large": ModelParams(kind="lstm", adaptive_softmax=CUTOFFS, **keys)}}
    )


def train(params: Params, ids: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    params = params.model_copy(update={"train": params.train.model_copy(update=changes)})
    report = train_model(params, "large", ids, folder / "models", folder / "work", lambda job, row: None)
    run: dict[str, Any] = report["runs"][0]
    return run


@pytest.fixture(scope="module")
def trained(params: Params, tiny_ids: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("adaptive")
    return folder / "models", train(params, tiny_ids, folder)


def test_learns_and_is_evaluated(
    trained: tuple[Path, dict[str, Any]], params: Params, tiny_ids: Path, tmp_path: Path
) -> None:
    models, run = trained
    corpus = load_ids(tiny_ids)
    assert run["valid_perplexity"] < 0.8 * corpus.vocab_size
    report = evaluate_model(params, "large", tiny_ids, models, tmp_path, lambda seed, result: None)
    stateful = report["runs"][0]["splits"]["valid"]["stateful"]
    assert stateful["perplexity"] == pytest.approx(run["valid_perplexity"], rel=1e-5)
    assert 0 < stateful["top1_accuracy"] < stateful["top5_accuracy"] < 1
    model = load_model(models / "seed-0").double()
    ids = torch.from_numpy(corpus["test"].ids[:40].astype(np.int64))[:, None]
    with torch.inference_mode():
        scored, ranks, _ = model.score_and_rank(ids, model.initial_state(1))
        state = model.initial_state(1)
        for t, word in enumerate(ids[:, 0].tolist()):
            distribution = model.next_log_prob(state)[0]
            assert distribution.exp().sum().item() == pytest.approx(1, abs=1e-12)
            assert distribution[word].item() == pytest.approx(scored[t, 0].item(), abs=1e-12)
            assert int((distribution > distribution[word]).sum()) == int(ranks[t, 0])
            _, state = model.score(ids[t : t + 1], state)


def test_two_processes_equal_one(
    trained: tuple[Path, dict[str, Any]], params: Params, tiny_ids: Path, tmp_path: Path
) -> None:
    """Also where a process has no target in some cluster."""
    corpus = load_ids(tiny_ids)
    assert 0 < corpus.train_counts[CUTOFFS[1] :].sum() < corpus["train"].num_tokens / 8
    alone, together = trained[1], train(params, tiny_ids, tmp_path, devices_per_run=2)
    assert together["num_devices"] == 2 and together["steps"] == alone["steps"]
    for row, other in zip(together["history"], alone["history"], strict=True):
        for key in ("train_perplexity", "valid_perplexity"):
            assert row[key] == pytest.approx(other[key], rel=1e-5)


def test_read_from_yaml_and_back(tmp_path: Path) -> None:
    file, text = tmp_path / "params.yaml", "models:\n  large: {kind: gru, tie_weights: false, adaptive_softmax: %s}\n"
    file.write_text(text % "[2000, 20000]")
    params = load_params(file)
    assert params.models["large"].adaptive_softmax == (2000, 20000)
    assert Params.model_validate_json(params.model_dump_json()) == params
    for bad, message in (("5", "got 5"), ("[]", r"got \[\]"), ("[0, 5]", "got 0"), ("[9, 5]", "must rise")):
        file.write_text(text % bad)
        with pytest.raises(ValueError, match=rf"models\.large.*{message}"):
            load_params(file)
