"""Capacity: bits of random text are counted rightly, memory of real text and overfitting are seen, runs are paired."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probe_fixtures import encode
from probe_report_fixtures import capacity_report
from report_fixtures import make_params

from nextword.config import CapacityParams, ModelParams, TrainParams
from nextword.models import build_model
from nextword.models.sizes import hidden_parameters
from nextword.probes import capacity as module
from nextword.probes.capacity import capacity, column_nats, networks
from nextword.report.probes.capacity import bits_of, capacity_sections, most_bits
from nextword.report.probes.networks import CapacityFile
from nextword.report.probes.plots.networks import capacity_plots

TRAIN = TrainParams(precision="float32")
SMALL = CapacityParams(
    embedding_size=16, hidden_size=16, learning_rates=(0.02, 0.05), random_vocabulary=8, random_tokens=(60, 120),
    random_epochs=60, train_tokens=(400, 1_600), seen_tokens=12_000, seeds=(0, 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words are independent: what is learned of train beyond their frequencies is learned by heart."""
    rng = random.Random(0)
    document = " ".join(f"w{rng.randrange(12)}" for _ in range(399))
    texts = [document, *(" ".join(f"w{rng.randrange(12)}" for _ in range(399)) for _ in range(4))]
    return encode(tmp_path_factory.mktemp("capacity"), train=texts, valid=texts[:0:-1], test=texts[1:2]).folder


@pytest.fixture(scope="module")
def report(ids: Path) -> dict[str, Any]:
    done: list[tuple[int, int]] = []
    found = capacity(ids, SMALL, TRAIN, 1, lambda *count: done.append(count))
    assert done == [(i, 8) for i in range(1, 9)]
    return found


def test_the_matched_lstm_has_the_parameters_of_the_gru() -> None:
    found = networks(64, 64)
    assert list(found) == ["lstm", "gru", "gru_reset_after", "lstm_matched"]
    sizes = {name: hidden_parameters(model) for name, model in found.items()}
    assert sizes["lstm_matched"] == pytest.approx(sizes["gru"], rel=0.01)
    assert sizes["lstm"] > 1.3 * sizes["gru"] and found["lstm_matched"].hidden_size < 64
    assert all(model.dropout == 0 and model.tie_weights for model in found.values())


def test_bits_are_those_of_a_code_with_the_trained_network() -> None:
    """Uniform probabilities save nothing; a network that knows every word saves all of them."""
    model = build_model(ModelParams(kind="lstm", embedding_size=8, hidden_size=8), 8, 0)
    text = np.tile(np.arange(8, dtype=np.uint8), 50)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        assert column_nats(model, text, 4) == pytest.approx(math.log(8))
        model.output.bias[3] = 1e4
        assert column_nats(model, np.full(100, 3, np.uint8), 5) == pytest.approx(0.0)
        model.output.bias.fill_(math.nan)
        assert column_nats(model, text, 4) == math.inf


def test_random_text_is_memorised_and_bounded_by_its_length(report: dict[str, Any]) -> None:
    text = report["random"]
    assert len(text["runs"]) == 4 * 2 * 2
    for run in text["runs"]:
        assert 0.3 * run["tokens"] * 3 < run["bits"] <= run["tokens"] * 3
        size = report["networks"][run["network"]]["num_parameters"]
        assert run["bits_per_parameter"] == pytest.approx(run["bits"] / size)
    # every seed and length of a network runs at the rate that was chosen once
    assert all(len({run["learning_rate"] for run in text["runs"] if run["network"] == name}) == 1
               for name in report["networks"])  # fmt: skip


def test_without_training_nothing_is_memorised(ids: Path) -> None:
    params = SMALL.model_copy(update={"learning_rates": (1e-9,), "random_epochs": 2, "seen_tokens": 400})
    found = capacity(ids, params.model_copy(update={"train_tokens": (400,), "seeds": (0,)}), TRAIN)
    assert all(0 <= run["bits"] < 0.02 * 3 * run["tokens"] for run in found["random"]["runs"])
    assert all(abs(run["gap"]) < 0.1 and run["passes"] == 1 for run in found["real"]["runs"])


def test_small_parts_are_learned_by_heart_and_valid_gets_worse(report: dict[str, Any]) -> None:
    runs = {(run["network"], run["seed"], run["tokens"]): run for run in report["real"]["runs"]}
    assert len(runs) == 4 * 2 * 2
    for name in report["networks"]:
        for seed in SMALL.seeds:
            small, large = runs[name, seed, 400], runs[name, seed, 1_600]
            assert small["gap"] == small["valid_nats"] - small["train_nats"] > large["gap"]
            assert small["best_valid_nats"] <= small["valid_nats"]
            assert (small["passes"], large["passes"]) == (30, 7)
            assert 1 <= small["best_pass"] < small["passes"]
    json.dumps(report, allow_nan=False)


def test_processes_change_nothing(ids: Path, report: dict[str, Any]) -> None:
    params = SMALL.model_copy(update={"random_epochs": 1, "seen_tokens": 400, "train_tokens": (400,), "seeds": (0,)})
    assert capacity(ids, params, TRAIN, 2) == capacity(ids, params, TRAIN, 1)


def test_a_divergence_is_a_result(ids: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(*arguments: Any) -> torch.nn.Module:
        model = build_model(*arguments)
        with torch.no_grad():
            model.output.bias[1:].fill_(math.inf)
        return model

    # the sizes are counted from it too, on the device where nothing is held
    monkeypatch.setattr(module, "build_model", overflowing)
    found = capacity(ids, SMALL.model_copy(update={"seeds": (0,), "train_tokens": (400,)}), TRAIN)
    assert all(run["bits"] == 0 for run in found["random"]["runs"])
    for run in found["real"]["runs"]:
        assert (run["train_nats"], run["valid_nats"], run["gap"], run["best_pass"], run["passes"]) == (
            None, None, None, None, 0,
        )  # fmt: skip
    sections = capacity_sections(CapacityFile.model_validate(found))
    assert "(1 diverged)" in sections[1].table.rows[0][1].under  # type: ignore[union-attr]
    json.dumps(found, allow_nan=False)


def test_tables_show_the_figures_of_the_report() -> None:
    params = make_params(("lstm",))
    found = CapacityFile.model_validate(capacity_report(params))
    capacity_table, overfitting = capacity_sections(found)
    shortest, longest = params.capacity.random_tokens
    assert most_bits(found, "gru") == bits_of(found, "gru", longest) and shortest < longest
    assert f"{found.networks['gru'].num_parameters:,}" in {cell.text for cell in capacity_table.table.rows[1] if cell}
    gru = next(record for record in capacity_table.records if record["network"] == "gru")
    bits = [most / found.networks["gru"].hidden_parameters for most in most_bits(found, "gru").values()]
    assert gru["bits_per_hidden_parameter"] == pytest.approx(sum(bits) / 2)
    assert gru["bits_per_hidden_parameter_low"] < min(bits) < max(bits) < gru["bits_per_hidden_parameter_high"]
    assert gru[f"bits_{shortest}"] == pytest.approx(sum(bits_of(found, "gru", shortest).values()) / 2)
    size = params.capacity.train_tokens[1]
    row = next(r for r in overfitting.records if (r["network"], r["tokens"]) == ("lstm", size))
    gaps = [run.gap for run in found.real.runs if (run.network, run.tokens) == ("lstm", size)]
    assert row["gap"] == pytest.approx(sum(gaps) / 2)  # type: ignore[arg-type]
    assert [len(row) for row in overfitting.table.rows] == [len(overfitting.table.headings)] * 12


def test_plots_are_drawn() -> None:
    found = CapacityFile.model_validate(capacity_report(make_params(("lstm",))))
    bits, gap = capacity_plots(found)
    labels = [text.get_text() for text in bits.figure.axes[0].get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels[0] == "all of the text" and len(labels) == 5
    lines = [
        line
        for line in gap.figure.axes[0].get_lines()
        if len(np.asarray(line.get_xdata())) == 3 and line.get_linestyle() == "-"
    ]
    sizes = list(found.real.sizes)
    assert len(lines) == 4 and all(list(np.asarray(line.get_xdata())) == sizes for line in lines)
    means = [
        sum(run.gap or 0 for run in found.real.runs if (run.network, run.tokens) == ("lstm", n)) / 2 for n in sizes
    ]
    assert list(np.asarray(lines[0].get_ydata())) == pytest.approx(means)
