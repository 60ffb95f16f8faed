"""The NNLM's window: a language whose order is known, equal tokens, the same figures from any number of processes."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from probe_fixtures import encode

from nextword.config import ModelParams, ScheduleParams, TrainParams
from nextword.config.probes import WindowParams
from nextword.models import build_model
from nextword.probes import window
from nextword.probes.intervals import by_document, ratio_interval
from nextword.probes.window import nnlm_window

SIZE = {"embedding_size": 16, "hidden_size": 24, "learning_rate": 0.02}
TRAIN = TrainParams(batch_size=8, bptt=16, precision="float32", schedule=ScheduleParams(kind="constant"))


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each word is that two before it or the one after that, evenly: one word back says nothing, two all but a bit."""
    rng = random.Random(0)

    def document() -> str:
        words = [rng.randrange(8), rng.randrange(8)]
        while len(words) < 400:
            words.append((words[-2] + rng.randrange(2)) % 8)
        return " ".join(f"w{word}" for word in words)

    documents = {split: [document() for _ in range(n)] for split, n in (("train", 45), ("valid", 5), ("test", 1))}
    return encode(tmp_path_factory.mktemp("window"), **documents).folder


def test_the_window_that_is_needed_is_found(ids: Path) -> None:
    done: list[tuple[int, int]] = []
    params = WindowParams(windows=(2, 1, 3), references=("gru",), train_tokens=16_000, seeds=(0, 1), **SIZE)
    report = nnlm_window(ids, params, TRAIN, 1, lambda *count: done.append(count))
    assert done == [(i, 8) for i in range(1, 9)]
    assert report["train_tokens"] == 16_000
    assert report["num_documents"] == 5 and report["num_targets"] == 5 * 401
    one, two, three, gru = report["models"]
    assert [row["name"] for row in report["models"]] == ["window 1", "window 2", "window 3", "gru"]
    assert [row["window"] for row in report["models"]] == [1, 2, 3, None]
    assert one["nats"]["mean"] > math.log(8) - 0.05
    assert two["nats"]["mean"] == pytest.approx(math.log(2), abs=0.15)
    assert two["change"]["high"] < -1 and abs(three["change"]["mean"]) < 0.1
    assert one["change"] is None
    assert two["change"]["mean"] == pytest.approx(two["nats"]["mean"] - one["nats"]["mean"])
    assert gru["change"]["mean"] == pytest.approx(gru["nats"]["mean"] - three["nats"]["mean"])
    for row in report["models"]:
        assert row["perplexity"]["mean"] == pytest.approx(math.exp(row["nats"]["mean"]))
        assert row["perplexity"]["low"] < row["perplexity"]["mean"] < row["perplexity"]["high"]
        assert row["over_seeds"]["count"] == 2 and [run["seed"] for run in row["runs"]] == [0, 1]
        assert row["over_seeds"]["mean"] == pytest.approx(row["nats"]["mean"])
        assert len({run["perplexity"] for run in row["runs"]}) == 2
    # each word more of window costs E x H weights
    hidden = [row["parameters"]["recurrent"] for row in (one, two, three)]
    assert np.diff(hidden).tolist() == [16 * 24, 16 * 24]
    json.dumps(report, allow_nan=False)


def test_processes_change_nothing(ids: Path) -> None:
    params = WindowParams(windows=(1, 2), references=(), train_tokens=800, **SIZE)
    reports = [nnlm_window(ids, params, TRAIN, workers) for workers in (1, 2)]
    for report in reports:
        for row in report["models"]:
            for run in row["runs"]:
                assert run.pop("seconds") > 0
    assert reports[0] == reports[1]


def test_a_training_that_diverges_is_a_result(ids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(params: ModelParams, vocab_size: int, eos_id: int) -> torch.nn.Module:
        model = build_model(params, vocab_size, eos_id)
        if params.window == 2:
            torch.nn.init.constant_(model.output.bias, math.inf)
        return model

    monkeypatch.setattr(window, "build_model", overflowing)
    params = WindowParams(windows=(1, 2, 3), references=(), train_tokens=800, **SIZE)
    report = nnlm_window(ids, params, TRAIN)
    one, two, three = report["models"]
    assert [row["runs"][0]["diverged_at"] for row in (one, two, three)] == [None, 0, None]
    assert two["runs"][0]["perplexity"] is None and two["over_seeds"] is None
    assert two["perplexity"] == {"mean": None, "low": None, "high": None}
    assert three["perplexity"]["mean"] is not None


def test_unknown_reference(ids: Path) -> None:
    with pytest.raises(ValueError, match="unknown kind 'transformer'"):
        nnlm_window(ids, WindowParams(references=("transformer",)), TRAIN)


def test_interval_over_documents_by_hand() -> None:
    sums, sizes = np.array([2.0, 9.0, 0.0, 4.0]), np.array([1, 3, 0, 2])
    found = ratio_interval(sums, sizes)
    assert (found.mean, found.count) == (2.5, 3)  # a document without tokens is none
    # residuals -0.5, 1.5, -1: variance of the ratio 3/2 * 3.5 / 36; t(2) quantile 4.302653
    half = 4.302653 * math.sqrt(1.5 * 3.5) / 6
    assert (found.low, found.high) == (pytest.approx(2.5 - half), pytest.approx(2.5 + half))
    assert ratio_interval(np.array([3.0]), np.array([2])).low is None
    infinite = ratio_interval(np.array([math.inf, 1.0]), np.array([2, 1]))
    assert (infinite.mean, infinite.low, infinite.high) == (math.inf, None, None)


def test_interval_over_documents_covers() -> None:
    """Documents with a level of their own: nine intervals of ten hold the truth where 90% are asked for."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        sizes = rng.integers(50, 150, size=8)
        found = ratio_interval(sizes * rng.normal(5.0, 1.0, size=8), sizes, confidence=0.9)
        assert found.low is not None and found.high is not None
        inside += found.low < 5.0 < found.high
    assert 0.87 < inside / 2000 < 0.92


def test_totals_by_document() -> None:
    starts = np.array([0, 2, 2, 5])
    assert by_document(np.array([1, 2, 3, 4, 5]), starts).tolist() == [3.0, 0.0, 12.0]
