"""What a GPU must do as a CPU does, and that a step of training does not wait for it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextword.config import ModelParams, Params
from nextword.evaluation.neural import evaluate_model
from nextword.models import MODELS, build_model
from nextword.models.cells import CELLS
from nextword.models.output import SoftmaxOutput
from nextword.models.scan import scan
from nextword.text.streams import Columns
from nextword.training.data import OnDevice, OnHost, place
from nextword.training.run import train_model
from nextword.training.worker import STOPPED, Job

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


def test_float16_reports_gradients_without_their_scale(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    history = {}
    for precision in ("float32", "float16"):
        settings = {"accelerator": "cuda", "precision": precision, "optimizer": "sgd", "clip_norm": 0.2}
        history[precision] = train(tiny_params, "lstm", tiny_ids, tmp_path / precision, **settings)["runs"][0][
            "history"
        ]
    for low, whole in zip(history["float16"], history["float32"], strict=True):
        assert low["grad_norm"] == pytest.approx(whole["grad_norm"], rel=0.2)
        assert low["clipped_share"] == pytest.approx(whole["clipped_share"], abs=0.1)


@pytest.mark.parametrize(
    ("learning_rate", "changes"),
    [(0.02, {"precision": "auto"}), (8.0, {"optimizer": "nt_asgd", "nonmonotone_interval": 1, "bptt": 20})],
)
def test_stopped_runs_go_on_to_the_same_bits(
    learning_rate: float, changes: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    constant = tiny_params.train.schedule.model_copy(update={"kind": "constant"})
    settings = {"max_epochs": 9, "checkpoint_seconds": 1e9, "clip_norm": 0.5, "schedule": constant, **changes}
    model = tiny_params.models["lstm"].model_copy(update={"dropout": 0.3, "learning_rate": learning_rate})
    train = tiny_params.train.model_copy(update=settings)
    params = tiny_params.model_copy(update={"train": train, "models": {"lstm": model}})
    weights = []
    for stops in ([], [2, 7]):  # after so many rows of progress, one an epoch at least
        job = Job(
            params=params, model="lstm", seed=0, ids=tiny_ids, folder=tmp_path / str(len(stops)), accelerator="cuda",
            fingerprint="same",
        )  # fmt: skip
        words = [sys.executable, "-m", "nextword.training.worker", str(job.write())]
        for rows in [*stops, None]:
            job.set_rows_aside()
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            while rows and process.poll() is None:
                if job.rows.exists() and job.rows.read_bytes().count(b"\n") >= rows:
                    process.terminate()
                    break
                time.sleep(0.01)
            output, _ = process.communicate(timeout=300)
            assert process.returncode == (STOPPED[signal.SIGTERM] if rows else 0), output
        weights.append((job.folder / "model" / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["lstm", "gru_reset_after", "rnn", "rnn_relu"])
def test_fused_runs_in_the_type_of_autocast(kind: str, low: torch.dtype) -> None:
    """Also without a warning about the layout of the weights, which would be an error here."""
    torch.manual_seed(0)
    cell = CELLS[kind](40, 64).cuda()
    cell.initialize(0.1)
    x, state = torch.randn(9, 5, 40, device="cuda"), cell.zero_state(5)
    exact, _ = scan(cell, x, state, "fused")
    slow, _ = scan(cell.double(), x.double(), cell.zero_state(5), "loop")
    assert (exact - slow).norm() / slow.norm() < 1e-5  # TF32 is off by some 1e-4
    cell.float()
    with torch.autocast("cuda", low):
        output, last = scan(cell, x, state, "fused")
    assert output.dtype == low and all(field.dtype == torch.float32 for field in last)
    assert (output - exact).norm() / exact.norm() < 0.03
    output.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in cell.parameters())


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_the_loss_of_low_types_is_rounded_once(low: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = SoftmaxOutput(5003, 32).cuda()
    torch.nn.init.normal_(layer.weight)
    hidden = torch.randn(70, 32, device="cuda").to(low).float()  # its products are exact but for their last rounding
    targets = torch.randint(5003, (70,), device="cuda")
    with torch.autocast("cuda", low):
        nats = layer.sum_nats(hidden, targets)
    (gradient,) = torch.autograd.grad(nats, [layer.bias])
    assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-3)  # each row of softmax - onehot sums to nothing
    exact = torch.nn.functional.cross_entropy(hidden @ layer.weight.T, targets, reduction="sum")
    assert float(nats) == pytest.approx(float(exact), rel=5e-3)


def test_ids_lie_on_the_device() -> None:
    columns = Columns(np.arange(1000, dtype=np.uint16), 4, 10)
    (placed,) = place([columns], torch.device("cuda"))
    assert isinstance(placed, OnDevice)
    for kind in (OnDevice, OnHost):
        tensors = kind(columns, torch.device("cuda"))
        for number, window in enumerate(columns):
            assert np.array_equal(tensors[number].tokens.cpu().numpy(), window)
    assert OnHost(columns, torch.device("cuda"))[0].tokens.is_pinned()


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


@pytest.mark.parametrize("engine", ["auto", "scan", "graph", "loop"])
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


@pytest.mark.parametrize("changes", [{}, {"weight_drop": 0.3}, {"num_layers": 2}])
def test_recorded_windows_train_as_the_steps_do(
    changes: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    """Windows of two lengths, each recorded once; the streams cut in two, so that states outlive a replay."""
    found = []
    for engine in ("scan", "graph"):
        model = tiny_params.models["gru"].model_copy(update={"engine": engine, **changes})
        params = tiny_params.model_copy(update={"models": {"gru": model}})
        settings = {"accelerator": "cuda", "precision": "float32", "accumulate": 2, "seeds": (0,)}
        (run,) = train(params, "gru", tiny_ids, tmp_path / engine, **settings)["runs"]
        assert run["engine"] == engine
        found.append(run["valid_perplexity"])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
