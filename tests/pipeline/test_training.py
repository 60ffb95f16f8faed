"""Training runs from ids to trained models: results, interruptions, divergence, failures, devices."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nextword.config import ModelParams, Params
from nextword.evaluation.neural import evaluate_model, head, score_split
from nextword.evaluation.rule import Scorer, describe
from nextword.models import build_model
from nextword.models.cells import GRU
from nextword.models.scan import resolve_engine
from nextword.text.ids import load_ids
from nextword.training.artifacts import load_description, load_model
from nextword.training.placement import Devices, devices_per_run, find_devices, rounds
from nextword.training.run import finish, train_model
from nextword.training.worker import Job


def train(params: Params, name: str, ids: Path, root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    report = train_model(params, name, ids, root / "models" / name, root / "work", lambda job, row: rows.append(row))
    return report, rows


def with_train(params: Params, **changes: Any) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_ids: Path, tiny_params: Params) -> dict[str, Any]:
    """Two seeds of a GRU, trained by real worker processes."""
    root = tmp_path_factory.mktemp("trained")
    report, rows = train(tiny_params, "gru", tiny_ids, root)
    return {"root": root, "report": report, "rows": rows}


def test_report_holds_what_was_run(trained: dict[str, Any], tiny_ids: Path) -> None:
    engine = resolve_engine(GRU, "auto")
    report = trained["report"]
    tokens = load_ids(tiny_ids)["train"].num_tokens
    assert [run["seed"] for run in report["runs"]] == [0, 1]
    for run in report["runs"]:
        assert run["status"] == "finished" and run["epochs"] == 2 and run["engine"] == engine
        assert run["tokens"] == 2 * (tokens // 4) * 4
        assert run["steps"] == 2 * -(-(tokens // 4) // 7)
        assert run["history"][1]["valid_perplexity"] < run["history"][0]["valid_perplexity"]
        assert run["valid_perplexity"] == min(row["valid_perplexity"] for row in run["history"])
        assert 0 <= run["clipped_share"] <= 1
    json.dumps(report, allow_nan=False)
    assert sum("valid_perplexity" in row for row in trained["rows"]) == 4
    assert report["num_parameters"]["recurrent"] == 3 * 8 * (8 + 8 + 1)


def test_valid_perplexity_of_training_is_the_stateful_one(trained: dict[str, Any], tiny_ids: Path) -> None:
    valid = load_ids(tiny_ids)["valid"]
    for run in trained["report"]["runs"]:
        model = load_model(trained["root"] / "models" / "gru" / f"seed-{run['seed']}")
        nats, _ = score_split(model, valid, "stateful", 2)
        assert math.exp(nats.astype(np.float64).mean()) == pytest.approx(run["valid_perplexity"], rel=1e-5)


def test_finished_runs_are_not_repeated(trained: dict[str, Any], tiny_ids: Path, tiny_params: Params) -> None:
    again, rows = train(tiny_params, "gru", tiny_ids, trained["root"])
    assert rows == [] and again == trained["report"]
    changed = with_train(tiny_params, max_epochs=1)
    report, rows = train(changed, "gru", tiny_ids, trained["root"])
    assert len(rows) >= 2 and all(run["epochs"] == 1 for run in report["runs"])


def test_same_seed_same_weights(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    params = with_train(tiny_params, max_epochs=1)
    for name in ("one", "two"):
        train(params, "nnlm", tiny_ids, tmp_path / name)
    a, b = (load_model(tmp_path / name / "models" / "nnlm" / "seed-3") for name in ("one", "two"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("protocol", ["stateful", "reset"])
def test_no_figure_depends_on_the_evaluation_batch(trained: dict[str, Any], tiny_ids: Path, protocol: Any) -> None:
    corpus = load_ids(tiny_ids)
    model = load_model(trained["root"] / "models" / "gru" / "seed-0").double()
    results = [score_split(model, corpus["test"], protocol, batch)[0] for batch in (1, 7, 64)]
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-6)


@pytest.mark.parametrize("protocol", ["stateful", "reset"])
def test_scores_equal_a_walk_word_by_word(trained: dict[str, Any], tiny_ids: Path, protocol: Any) -> None:
    split = head(load_ids(tiny_ids)["test"], 200)
    model = load_model(trained["root"] / "models" / "gru" / "seed-0").double()
    nats, ranks = score_split(model, split, protocol, 5)
    anew = set((split.document_starts if protocol == "stateful" else split.line_starts).tolist())
    with torch.inference_mode():
        for place, word in enumerate(split.ids.tolist()):
            if place in anew:
                state = model.initial_state(1)
            distribution = model.next_log_prob(state)[0]
            assert -distribution[word].item() == pytest.approx(float(nats[place]), rel=1e-5)
            assert int((distribution > distribution[word]).sum()) == ranks[place]
            _, state = model.score(torch.tensor([[word]]), state)


def test_evaluate_model_writes_nats_and_metrics(
    trained: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    models = trained["root"] / "models" / "gru"
    report = evaluate_model(tiny_params, "gru", tiny_ids, models, tmp_path, lambda seed, result: None)
    corpus = load_ids(tiny_ids)
    for run in report["runs"]:
        for name, protocols in run["splits"].items():
            for protocol, metrics in protocols.items():
                nats = np.load(tmp_path / f"seed-{run['seed']}.{name}.{protocol}.npy")
                assert metrics["num_targets"] == len(nats)
                assert metrics["perplexity"] == pytest.approx(math.exp(nats.astype(np.float64).mean()), rel=1e-9)
                assert 0 <= metrics["top1_accuracy"] <= metrics["top5_accuracy"] <= 1
                assert sum(row["num_targets"] for row in metrics["by_frequency"]) == len(nats)
                assert sum(row["num_targets"] for row in metrics["by_position"]) == len(nats)
        assert run["splits"]["test"]["reset"]["num_targets"] == corpus["test"].num_tokens
        assert run["splits"]["train_sample"]["reset"]["num_targets"] >= 500


def test_another_tokenizer_is_refused(
    trained: dict[str, Any], tiny_ids: Path, tiny_params: Params, tmp_path: Path
) -> None:
    folder = tmp_path / "seed-0"
    folder.mkdir()
    for file in (trained["root"] / "models" / "gru" / "seed-0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"tokenizer_sha256": "0"}))
    with pytest.raises(ValueError, match="another tokenizer"):
        evaluate_model(tiny_params, "gru", tiny_ids, tmp_path, tmp_path / "nats", lambda seed, result: None)


def test_description_names_what_was_trained(trained: dict[str, Any], tiny_params: Params) -> None:
    description = load_description(trained["root"] / "models" / "gru" / "seed-1")
    assert (description.name, description.seed, description.params) == ("gru", 1, tiny_params.models["gru"])
    with pytest.raises(ValueError, match="holds no trained model"):
        load_description(trained["root"])


def test_divergence_is_a_result(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    model = tiny_params.models["lstm"].model_copy(update={"learning_rate": 1e38, "seeds": (0,)})
    params = with_train(tiny_params, optimizer="sgd", clip_norm=None).model_copy(update={"models": {"lstm": model}})
    report, _ = train(params, "lstm", tiny_ids, tmp_path)
    (run,) = report["runs"]
    assert run["status"] == "diverged"
    assert run["diverged_at"]["step"] == run["steps"] >= 1
    json.dumps(report, allow_nan=False)
    weights = load_model(tmp_path / "models" / "lstm" / "seed-0").parameters()
    assert all(torch.isfinite(weight).all() for weight in weights)


def test_a_state_that_overflows_has_an_infinite_perplexity(trained: dict[str, Any], tiny_ids: Path) -> None:
    """A model whose state grows without bound is scored as what it is; no stage ends on it."""
    corpus = load_ids(tiny_ids)
    model = build_model(ModelParams(kind="rnn_relu", embedding_size=4, hidden_size=4), corpus.vocab_size, corpus.eos_id)
    with torch.no_grad():
        for cell in model.stack.cells:
            cell.weight_hh.copy_(20 * torch.eye(4))
            cell.bias.fill_(1.0)
    nats, _ = score_split(model, corpus["valid"], "stateful", 3)
    assert np.isinf(nats).any() and not np.isnan(nats).any()
    metrics = Scorer(corpus, corpus["valid"]).summarize(nats)
    assert metrics["perplexity"] is None
    assert metrics["num_infinite"] == np.isinf(nats).sum()
    assert describe({"stateful": metrics, "reset": {"perplexity": 83.591}}) == "stateful infinite, reset 83.59"


def test_early_stopping_and_plateau(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    """Weights that do not move give no better valid loss: the run stops after the epochs of its patience."""
    model = tiny_params.models["lstm"].model_copy(update={"learning_rate": 1e-30, "seeds": (0,)})
    schedule = tiny_params.train.schedule.model_copy(update={"kind": "plateau"})
    params = with_train(tiny_params, max_epochs=6, early_stopping_patience=2, schedule=schedule, optimizer="sgd")
    report, _ = train(params.model_copy(update={"models": {"lstm": model}}), "lstm", tiny_ids, tmp_path)
    (run,) = report["runs"]
    assert (run["epochs"], run["best_epoch"], run["status"]) == (3, 1, "finished")
    assert run["history"][0]["learning_rate"] == 1e-30


def test_one_failing_run_does_not_stop_the_others(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    blocked = tmp_path / "work" / "lstm" / "seed-1" / "model"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where a folder must be")
    with pytest.raises(RuntimeError, match=r"1 of 2 runs of lstm failed(.|\n)*lstm seed 1 ended with status 1"):
        train(tiny_params, "lstm", tiny_ids, tmp_path)
    assert (tmp_path / "work" / "lstm" / "seed-0" / "result.json").exists()
    blocked.unlink()
    report, rows = train(tiny_params, "lstm", tiny_ids, tmp_path)
    assert len(report["runs"]) == 2 and len({row["step"] for row in rows}) >= 1
    finish("lstm", report, tmp_path / "report.json", tmp_path / "work")
    assert not (tmp_path / "work" / "lstm").exists()


def test_two_processes_equal_one(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    """DDP over two CPU processes with the same global batch gives the losses of one process."""
    params = with_train(tiny_params, seeds=(0,))
    one, _ = train(params, "lstm", tiny_ids, tmp_path / "one")
    two_params = with_train(params, devices_per_run=2)
    job = Job(
        params=two_params, model="lstm", seed=0, ids=tiny_ids, folder=tmp_path / "two", accelerator="cpu", devices=2,
        threads=1, fingerprint="",
    )  # fmt: skip
    (tmp_path / "job.json").write_text(job.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-m", "nextword.training.worker", str(tmp_path / "job.json")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    two = json.loads(job.result.read_text())
    assert two["tokens"] == one["runs"][0]["tokens"]
    for a, b in zip(one["runs"][0]["history"], two["history"], strict=True):
        assert b["train_perplexity"] == pytest.approx(a["train_perplexity"], rel=1e-4)
        assert b["valid_perplexity"] == pytest.approx(a["valid_perplexity"], rel=1e-4)


def test_placement() -> None:
    params = Params(models={"m": {"kind": "rnn"}}).train  # type: ignore[dict-item]
    cpu = Devices("cpu", (0, 1), 2)
    assert [[slot.cores for slot in group] for group in rounds(3, params, cpu)] == [[(0,), (1,)], [(0, 1)]]
    gpus = Devices("cuda", tuple(range(8)), 4)
    assert [[slot.gpus for slot in group] for group in rounds(5, params, gpus)] == [[(0,), (1,), (2,), (3,)], [(0,)]]
    pair = params.model_copy(update={"devices_per_run": 2})
    assert [[slot.gpus for slot in group] for group in rounds(3, pair, gpus)] == [[(0, 1), (2, 3)], [(0, 1)]]
    everything = params.model_copy(update={"devices_per_run": "all"})
    assert devices_per_run(everything, gpus) == 4
    with pytest.raises(ValueError, match="this machine has 2"):
        devices_per_run(params.model_copy(update={"devices_per_run": 4}), cpu)
    with pytest.raises(ValueError, match="batch_size 20 does not divide by 3 devices"):
        devices_per_run(everything, Devices("cuda", (0,), 3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="no GPU was found"):
        find_devices("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_float16_without_a_gpu_is_refused(tiny_ids: Path, tiny_params: Params, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.precision is float16, which only GPUs train in"):
        train(with_train(tiny_params, precision="float16"), "lstm", tiny_ids, tmp_path)
    assert not any(tmp_path.rglob("log.txt"))
