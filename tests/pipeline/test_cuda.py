"""What a GPU must do as a CPU does, and that a step of training does not wait for it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nextword.config import ModelParams, Params
from nextword.evaluation.neural import evaluate_model
from nextword.models import MODELS, build_model
from nextword.training.run import train_model
from nextword.training.worker import Job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Counts the waits of the steps after the third, validation apart; a row of progress may wait, so none is written.
WATCHED = """
import sys, warnings, torch
from nextword.training import fit, module, worker
fit.ROW_SECONDS = 1e9
step, valid = module.LanguageModelModule.training_step, module.LanguageModelModule.on_validation_epoch_start
def watched_step(self, tokens, index):
    torch.cuda.set_sync_debug_mode("warn" if index > 2 else "default")
    return step(self, tokens, index)
def unwatched(self):
    torch.cuda.set_sync_debug_mode("default")
    valid(self)
module.LanguageModelModule.training_step = watched_step
module.LanguageModelModule.on_validation_epoch_start = unwatched
warnings.simplefilter("always")
sys.exit(worker.main(sys.argv[1:2]))
"""


def train(params: Params, name: str, ids: Path, root: Path, **settings: Any) -> dict[str, Any]:
    params = params.model_copy(update={"train": params.train.model_copy(update=settings)})
    return train_model(params, name, ids, root / "models" / name, root / "work", lambda job, row: None)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_training_equals_that_of_a_cpu(name: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    of = {
        device: train(tiny_params, name, tiny_ids, tmp_path / device, accelerator=device, precision="float32")
        for device in ("cpu", "cuda")
    }
    for a, b in zip(of["cpu"]["runs"], of["cuda"]["runs"], strict=True):
        assert b["valid_perplexity"] == pytest.approx(a["valid_perplexity"], rel=1e-3)
        assert b["device"] != "cpu" and b["steps"] == a["steps"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains(precision: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    report = train(tiny_params, "lstm", tiny_ids, tmp_path, accelerator="cuda", precision=precision)
    whole = train(tiny_params, "lstm", tiny_ids, tmp_path / "whole", accelerator="cuda", precision="float32")
    for run, exact in zip(report["runs"], whole["runs"], strict=True):
        assert run["status"] == "finished" and run["precision"] == precision
        assert run["valid_perplexity"] == pytest.approx(exact["valid_perplexity"], rel=0.05)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_no_step_waits_for_the_device(name: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    settings = tiny_params.train.model_copy(update={"max_epochs": 1, "checkpoint_seconds": 1e9})
    params = tiny_params.model_copy(update={"train": settings})
    job = Job(
        params=params, model=name, seed=0, ids=tiny_ids, folder=tmp_path, accelerator="cuda", fingerprint="same"
    )  # fmt: skip
    words = [sys.executable, "-c", WATCHED, str(job.write())]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(job.result.read_text())["steps"] > 10
    assert "synchronizing CUDA operation" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_evaluation_gives_the_same_nats(name: str, tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    train(tiny_params, name, tiny_ids, tmp_path, accelerator="cpu")
    perplexities = []
    for device in ("cpu", "cuda"):
        settings = tiny_params.train.model_copy(update={"accelerator": device})
        params, nats = tiny_params.model_copy(update={"train": settings}), tmp_path / f"nats-{device}"
        report = evaluate_model(params, name, tiny_ids, tmp_path / "models" / name, nats, lambda seed, result: None)
        perplexities.append([run["splits"]["test"]["stateful"]["perplexity"] for run in report["runs"]])
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-5)


@pytest.mark.parametrize("engine", ["auto", "scan", "loop"])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "nnlm"])
def test_every_cell_has_the_gradient_of_a_cpu(kind: str, engine: Any) -> None:
    tokens = torch.randint(23, (11, 4), generator=torch.Generator().manual_seed(1))
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        params = ModelParams(kind=kind, embedding_size=7, hidden_size=7, init_scale=0.6, engine=engine)
        model = build_model(params, 23, 0).double().to(device)
        nats, _, _ = model.training_loss(tokens.to(device), model.initial_state(4))
        nats.backward()
        found.append([nats.detach().cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    for cpu, cuda in zip(*found, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-9, atol=1e-9)
