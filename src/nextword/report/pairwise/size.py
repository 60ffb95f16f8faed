"""Gates, parameters and computation: numbers that are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from nextword.report.claims import COMPUTE, GATES, PARAMETERS
from nextword.report.collect import Neural
from nextword.report.finding import Claim, Finding, Side
from nextword.report.pairwise.pair import Pair, hidden_parameters_of, logarithms
from nextword.report.tables import DASH, number


def size_findings(pair: Pair) -> Iterator[Finding]:
    """Gates, parameters, operations, bytes moved and memory."""
    sides = pair.lstm, pair.gru
    train = pair.stages("train")

    def finding(key: str, claim: Claim, measured: str, value: Callable[[Neural], int | None]) -> Iterator[Finding]:
        values = value(sides[0]), value(sides[1])
        return pair.count(key, claim, measured, values, *train, follows=claim != GATES)

    def hidden(model: Neural) -> int:
        return hidden_parameters_of(pair.reports, model)

    yield from finding("gates", GATES, "gates of the cell", _gates)
    yield from finding(
        "parameters_recurrent",
        PARAMETERS,
        "parameters of the recurrent layers",
        lambda model: model.train.num_parameters.recurrent,
    )
    if any(hidden(model) != model.train.num_parameters.recurrent for model in pair.compared):
        measured = "parameters, all but embedding and output layer (with the projection after the recurrent layers)"
        yield from finding("parameters_hidden", PARAMETERS, measured, hidden)
    yield from finding(
        "parameters_total", PARAMETERS, "parameters, total", lambda model: model.train.num_parameters.total
    )
    yield from finding(
        "operations_recurrent",
        COMPUTE,
        "operations a token, recurrent layers (forward, counted)",
        lambda model: model.train.operations_per_token.recurrent,
    )
    yield from finding(
        "operations_total",
        COMPUTE,
        "operations a token, total (forward, counted)",
        lambda model: model.train.operations_per_token.total,
    )
    yield from _experiment(pair)
    for memory in pair.by_seed(
        "peak_memory", COMPUTE, "peak memory, of the training process",
        lambda model: logarithms(model, "peak_memory_bytes"), "higher", "ratio", *train,
    ):  # fmt: skip
        yield replace(memory, form=_megabytes)


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{number(value / 1e6)} MB"


def _gates(model: Neural) -> int | None:
    from nextword.models.cells import CELLS  # brings torch

    candidates = {"g", "n", "h"}  # row blocks that are not gates but what is written
    cell = CELLS.get(model.train.kind)
    return None if cell is None else sum(gate not in candidates for gate in cell.gates)


def _experiment(pair: Pair) -> Iterator[Finding]:
    """What was counted in stage ``throughput``, on networks of one size there."""
    found = pair.reports.probes.throughput
    if any(name not in found.networks for name in pair.networks):
        return
    sides = [found.networks[name] for name in pair.networks]
    size = f"GRU of hidden size {sides[1].hidden_size}"
    step = f"at batch size {found.batch_size}, {size}"

    def finding(key: str, measured: str, values: list[float], follows: bool = False) -> Iterator[Finding]:
        for one in pair.count(key, COMPUTE, measured, (values[0], values[1]), "throughput", follows=follows):
            yield replace(one, a=Side(pair.networks[0], one.a.value), b=Side(pair.networks[1], one.b.value))

    counter = f"operations a token, total (forward, torch's counter), {size}"
    yield from finding("operations_torch", counter, [side.operations_per_token.torch for side in sides], follows=True)
    yield from finding("bytes_moved", f"bytes moved a token, {step}", [side.bytes_per_token for side in sides])
    memory = [float(side.step_memory_bytes) for side in sides]
    yield from finding("step_memory", f"bytes kept by a training step, {step}", memory)
