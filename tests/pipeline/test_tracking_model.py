"""A trained model through MLflow and back: logged, registered, loaded by name, raw text in."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from nextword.config import ModelParams, TrackingParams
from nextword.models import build_model
from nextword.tracking import ensure_store, stage_run
from nextword.training.artifacts import ModelDescription, save_model

WORDS = ["<eos>", "<unk>", "we", "the", "people"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a tiny model and its tokenizer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    torch.manual_seed(0)
    params = ModelParams(kind="gru", embedding_size=8, hidden_size=8)
    description = ModelDescription("gru", params, len(WORDS), 0, "abc", 0)
    save_model(build_model(params, len(WORDS), 0), description, Path("models/gru/seed-0"))
    Path("data/ids").mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save("data/ids/tokenizer.json")
    meta = {"kind": "word", "vocab_size": len(WORDS), "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "abc"}
    Path("data/ids/meta.json").write_text(json.dumps(meta))
    return tmp_path


def test_model_through_the_registry(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stage_run(TrackingParams(), "train@gru", {}, Path("reports/runs/train/gru.json")) as run:
        names = [run.log_model("gru", Path("models/gru/seed-0"), Path("data/ids")) for _ in range(2)]
        unregistered = run.log_model("draft", Path("models/gru/seed-0"), Path("data/ids"), register=False)
    assert names == ["models:/gru/1", "models:/gru/2"]
    assert unregistered is not None and unregistered.startswith("models:/m-")
    store = ensure_store()
    client = store.client()
    assert len(client.get_run(run.run_id).outputs.model_outputs) == 3
    assert client.get_model_version("gru", "2").run_id == run.run_id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
        model = mlflow.pyfunc.load_model("models:/gru/2")
        scores = model.predict({"text": ["we the people", "the zebra\nwe"]})
        words = model.predict({"text": ["we"] * 3}, params={"mode": "continue", "max_tokens": 5, "seed": 1})
        with pytest.raises(ValueError, match="mode is 'sing'; allowed"):
            model.predict({"text": ["we"]}, params={"mode": "sing"})
        for null in (None, math.nan):
            with pytest.raises(ValueError, match="row 2 of text is null; give a string"):
                model.predict({"text": ["we", null]})
        with pytest.raises(ValueError, match="row 1 of text is list; give a string"):
            model.predict(pd.DataFrame({"text": [[["we"]]]}))
        assert len(model.predict({"text": []})) == 0
        assert len(model.predict({"text": []}, params={"mode": "continue"})) == 0
    assert list(scores["num_tokens"]) == [4, 5]
    for row in scores.to_dict("records"):
        assert row["perplexity"] == pytest.approx(math.exp(-row["log_prob_nats"] / row["num_tokens"]))
        assert 1 < row["perplexity"] < 20
    assert [len(text) > 0 for text in words["continuation"]] == [True] * 3


def test_a_bidirectional_model_scores_and_continues_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = ModelParams(kind="lstm", bidirectional=True, embedding_size=8, hidden_size=8)
    model, folder = build_model(params, len(WORDS), 0).eval(), Path("models/bilstm/seed-0")
    save_model(model, ModelDescription("bilstm", params, len(WORDS), 0, "abc", 0), folder)
    with stage_run(TrackingParams(), "train@bilstm", {}, Path("reports/runs/train/bilstm.json")) as run:
        name = run.log_model("bilstm", folder, Path("data/ids"))
    assert name == "models:/bilstm/1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

        monkeypatch.setenv("MLFLOW_TRACKING_URI", ensure_store().uri)
        served = mlflow.pyfunc.load_model(name)
        scores = served.predict({"text": ["we the people", "we"]})
        with pytest.raises(ValueError, match="cannot continue a text"):
            served.predict({"text": ["we"]}, params={"mode": "continue"})
    tokens = torch.tensor([[2], [3], [4], [0]])
    with torch.inference_mode():
        expected = float(model.score(tokens, model.initial_state(1))[0].sum())
    assert scores["log_prob_nats"][0] == pytest.approx(expected, rel=1e-5)


def test_a_model_of_another_tokenizer(trained: Path) -> None:
    from nextword.serving import load_text_model

    meta = json.loads(Path("data/ids/meta.json").read_text()) | {"tokenizer_sha256": "other"}
    Path("data/ids/meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="trained with tokenizer abc"):
        load_text_model(Path("models/gru/seed-0"), Path("data/ids"))
