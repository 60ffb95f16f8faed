"""A bidirectional model from ids to figures: trained by the same worker, scored under both protocols."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nextword.config import ModelParams, Params
from nextword.evaluation.neural import evaluate_model, score_split
from nextword.serving import Sampling, load_text_model
from nextword.text.ids import load_ids
from nextword.training.artifacts import load_model
from nextword.training.run import train_model


@pytest.fixture(scope="module")
def params(tiny_params: Params) -> Params:
    model = ModelParams(
        kind="gru", bidirectional=True, embedding_size=8, hidden_size=8, num_layers=2, connection="residual",
        dropout=0.1, dropout_embedding=0.1, weight_drop=0.1, variational=True, activation_penalty=0.1, seeds=(0,),
        learning_rate=0.02,
    )  # fmt: skip
    return tiny_params.model_copy(update={"models": {"bigru": model}})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_ids: Path, params: Params) -> Path:
    root = tmp_path_factory.mktemp("trained")
    report = train_model(params, "bigru", tiny_ids, root / "models", root / "work", lambda job, row: None)
    (run,) = report["runs"]
    assert (run["status"], run["epochs"]) == ("finished", 2)
    assert run["history"][1]["valid_perplexity"] < run["history"][0]["valid_perplexity"]
    # No document of valid is longer than a window of validation, so that this is the figure of the evaluation too.
    valid = load_ids(tiny_ids)["valid"]
    assert np.diff(valid.document_starts).max() <= 256
    nats, _ = score_split(load_model(root / "models" / "seed-0"), valid, "stateful", 2)
    assert math.exp(nats.astype(np.float64).mean()) == pytest.approx(run["valid_perplexity"], rel=1e-5)
    return root / "models"


def test_report_is_that_of_any_model(models: Path, tiny_ids: Path, params: Params, tmp_path: Path) -> None:
    report = evaluate_model(params, "bigru", tiny_ids, models, tmp_path, lambda seed, result: None)
    splits = report["runs"][0]["splits"]
    assert (report["kind"], set(splits)) == ("gru", {"train_sample", "valid", "test"})
    for name, protocols in splits.items():
        for protocol, metrics in protocols.items():
            nats = np.load(tmp_path / f"seed-0.{name}.{protocol}.npy")
            assert metrics["num_targets"] == len(nats)
            assert metrics["perplexity"] == pytest.approx(math.exp(nats.astype(np.float64).mean()), rel=1e-9)
    assert splits["test"]["stateful"]["nats"] != splits["test"]["reset"]["nats"]


def test_whole_texts_are_scored_and_none_continued(models: Path, tiny_ids: Path) -> None:
    """The score of a text is that of its tokens, each from all the others, whatever stands beside it."""
    text_model = load_text_model(models / "seed-0", tiny_ids)
    texts = ["the cat sees a dog .\n" * n + "the bird" for n in (0, 1, 40)]
    for text, score in zip(texts, text_model.score(texts), strict=True):
        tokens = torch.tensor(text_model.vocabulary.encode_lines(text.split("\n")).tolist())[:, None]
        model = load_model(models / "seed-0")
        with torch.inference_mode():
            hidden_NE, _ = model.hidden(tokens, model.initial_state(1))
            expected = float(model.output.log_prob(hidden_NE).double().gather(1, tokens).sum())
        assert score.num_tokens == len(tokens)
        assert score.log_prob_nats == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="cannot continue a text"):
        text_model.continuations(["the cat"], Sampling(max_tokens=3))
