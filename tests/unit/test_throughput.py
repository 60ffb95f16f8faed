"""Throughput: counts agree with torch's, memory is measured, every point is timed, the tables show it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from statistics import median

import pytest
import torch
from probe_fixtures import encode
from probe_report_fixtures import throughput_report
from report_fixtures import make_params

from nextword.config import ModelParams, ThroughputParams, TrainParams
from nextword.models import build_model
from nextword.probes.capacity import networks
from nextword.probes.step_costs import allocated, bytes_per_token, counted_by_torch
from nextword.probes.throughput import peak_operations, throughput
from nextword.report.probes.networks import ThroughputFile
from nextword.report.probes.plots.networks import throughput_plots
from nextword.report.probes.throughput import geometric_mean, point_of, speedup, throughput_sections

TRAIN = TrainParams(batch_size=4, bptt=5, precision="float32", accelerator="cpu")
SMALL = ThroughputParams(
    embedding_size=16, hidden_size=16, batch_sizes=(1, 4), devices=(1,), seconds=0.02, repeats=2
)  # fmt: skip


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = " ".join(f"w{place % 30}" for place in range(200))
    return encode(tmp_path_factory.mktemp("throughput"), train=[text], valid=[text], test=[text]).folder


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "gru_reset_after", "lstm_peephole"])
@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"tie_weights": False, "hidden_size": 24}])
def test_torch_counts_the_operations_that_we_count(kind: str, settings: dict[str, object]) -> None:
    params = ModelParams.model_validate({"kind": kind, "embedding_size": 16, "hidden_size": 16, **settings})
    assert counted_by_torch(params, 40, 0) == build_model(params, 40, 0).operations_per_token()["total"]


def test_every_network_is_timed_at_every_point(ids: Path) -> None:
    done: list[tuple[int, int]] = []
    threads = torch.get_num_threads()
    found = throughput(ids, SMALL, TRAIN, lambda *count: done.append(count))
    assert torch.get_num_threads() == threads
    assert done == [(i, 16) for i in range(1, 17)]
    names = list(networks(16, 16))
    places = [(p["network"], p["batch_size"], p["devices"]) for p in found["points"]]
    assert places == [(name, batch, 1) for batch in (1, 4) for name in names]
    for point in found["points"]:
        assert len(point["tokens_per_second"]) == 2 and min(point["tokens_per_second"]) > 0
        operations = 3 * found["networks"][point["network"]]["operations_per_token"]["counted"]
        speed = operations * median(point["tokens_per_second"])
        assert point["share_of_peak"] == pytest.approx(speed / found["peak_operations_per_second"][1])
    for row in found["networks"].values():
        assert row["operations_per_token"]["torch"] == row["operations_per_token"]["counted"]
    costs = found["networks"]
    assert costs["lstm"]["bytes_per_token"] > costs["gru_reset_after"]["bytes_per_token"]
    assert costs["lstm"]["step_memory_bytes"] > costs["gru_reset_after"]["step_memory_bytes"]
    ThroughputFile.model_validate(json.loads(json.dumps(found, allow_nan=False)))


def test_memory_and_bytes_are_the_same_each_time(ids: Path) -> None:
    first, second = (throughput(ids, SMALL, TRAIN)["networks"] for _ in range(2))
    assert first == second


def test_memory_is_what_is_held_and_the_most_that_was() -> None:
    before = torch.ones(1_000)

    def run() -> torch.Tensor:
        nonlocal before
        before = torch.zeros(2)  # what was held before and is freed does not count
        passing = torch.ones(3_000)
        return passing[:500].clone()

    held, most = allocated(run, "cpu")
    assert held == 500 * 4 + 2 * 4
    assert most == 3_500 * 4 + 2 * 4


def test_what_is_said_on_standard_error_still_arrives(capfd: pytest.CaptureFixture[str]) -> None:
    allocated(lambda: torch.ones(3), "cpu")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_bytes_are_as_the_formula_says() -> None:
    assert bytes_per_token(100, 50, 30, torch.bfloat16, 10) == (100 * (4 + 32) + 100 + 4 * 30) / 10


def test_the_peak_is_that_of_a_matrix_product() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert 1e8 < peak_operations("cpu", torch.float32, 0.01) < 1e13
    finally:
        torch.set_num_threads(threads)


def test_more_devices_than_there_are_is_an_error(ids: Path) -> None:
    with pytest.raises(ValueError, match=r"throughput.devices asks for 4096.*so many cores"):
        throughput(ids, SMALL.model_copy(update={"devices": (1, 4096)}), TRAIN)


def test_tables_show_the_figures_of_the_report() -> None:
    params = make_params(("lstm",), throughput=ThroughputParams(batch_sizes=(1, 16)))
    found = ThroughputFile.model_validate(throughput_report(params))
    speed, costs = throughput_sections(found)
    assert len(speed.records) == 16
    row = next(r for r in speed.records if (r["network"], r["devices"], r["batch_size"]) == ("lstm", 2, 16))
    here = point_of(found, "lstm", 16, 2)
    assert here is not None
    assert row["tokens_per_second"] == pytest.approx(math.prod(here.tokens_per_second) ** (1 / 3))
    assert row["tokens_per_second_low"] < row["tokens_per_second"] < row["tokens_per_second_high"]
    assert row["steps_per_second"] == pytest.approx(row["tokens_per_second"] / 16 / 35)
    assert row["speedup_by_batch"] == pytest.approx(16**0.4)
    assert row["speedup_by_devices"] == pytest.approx(2**0.5)
    assert [r["step_memory_bytes"] for r in costs.records] == [n.step_memory_bytes for n in found.networks.values()]
    first = next(r for r in speed.records if (r["devices"], r["batch_size"]) == (1, 1))
    assert first["speedup_by_batch"] is None and first["speedup_by_devices"] is None  # against itself
    assert speedup(point_of(found, "lstm", 3, 1), point_of(found, "lstm", 1, 1)) is None
    assert all(len(row) == len(speed.table.headings) for row in speed.table.rows)


def test_intervals_of_speeds_are_positive() -> None:
    found = geometric_mean([100.0, 1_000.0, 10_000.0])
    assert found.mean == pytest.approx(1_000.0)
    assert found.low is not None and found.high is not None
    assert found.low > 0 and found.low * found.high == pytest.approx(1e6)
    assert geometric_mean([7.0]).low is None


def test_the_plot_has_a_line_for_each_network_and_number_of_devices() -> None:
    params = make_params(("lstm",), throughput=ThroughputParams(batch_sizes=(1, 16)))
    (plot,) = throughput_plots(ThroughputFile.model_validate(throughput_report(params)))
    axes = plot.figure.axes[0]
    assert len(axes.containers) == 8
    assert len(axes.get_legend().get_texts()) == 4  # type: ignore[union-attr]
