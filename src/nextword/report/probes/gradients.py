"""Table of gradient flow: half-lives, the notes' bound, the path through the cell state."""

from __future__ import annotations

import math
from typing import Any

from nextword.report.collect import Reports
from nextword.report.finding import side_estimate
from nextword.report.probes.cells import (
    flat_half_life,
    half_life_cell,
    halving_cell,
    left_out_notes,
    missing_cell,
    section,
    short,
)
from nextword.report.probes.schema import Bound, Flow, Gradients, ProbeFile
from nextword.report.probes.seeds import figures, gradients_by_seed
from nextword.report.section import Section
from nextword.report.tables import Cell, Table, count, estimate_cell

HEADINGS = (
    "model",
    "half-life at the start",
    "half-life, trained",
    "halves in, at the start",
    "halves in, trained",
    "dc/dc halves in, at the start",
    "dc/dc halves in, trained",
    "dE/dW half-life, trained",
    "factor a token, at the start",
    "factor a token, trained",
    "bound holds",
    "β_W trained",
    "β_h trained",
)


def gradient_section(reports: Reports) -> Section:
    """Half-lives of the gradient of every recurrent model."""
    return section("gradients", "gradients", _table(reports), _records(reports.probes.models))


def gradient_sentences(models: dict[str, ProbeFile], names: tuple[str, ...]) -> list[str]:
    """Half-lives of the models ``names`` and whether the notes' bound holds everywhere."""
    halves, later = [], []
    for name in names:
        if name in models and (found := models[name].gradients) is not None:
            flows = (found.trained, found.initial)
            trained, start = (half_life_cell(flow.stack.half_life, flow.max_lag).text for flow in flows)
            halves.append(f"{name} {trained} ({start})")
            trained, start = (halving_cell(flow.stack.half_life).text for flow in flows)
            later.append(f"{name} {trained} ({start})")
    sentences = []
    if halves:
        sentences.append(
            f"Half-life of the gradient in tokens, first seed, trained (at the start): {', '.join(halves)}; after its "
            f"first step it halves in: {', '.join(later)}."
        )
    bounds = [bound for probe in models.values() for _, _, bound in _bounds(probe)]
    if bounds:
        checked, violations = sum(b.checked for b in bounds), sum(b.violations for b in bounds)
        verdict = "holds at all" if violations == 0 else f"is violated at {count(violations)} of"
        sentences.append(
            f"The bound (β_W β_h)^(t-k) on vanilla RNNs {verdict} {count(checked)} norms that were checked."
        )
    return sentences


def _bounds(probe: ProbeFile) -> list[tuple[str, int, Bound]]:
    """(weights, layer, bound) of all seeds."""
    return [
        (weights, layer.layer, layer.bound)
        for gradients in (seed.gradients for seed in probe.seeds)
        if gradients is not None
        for weights, flow in (("initial", gradients.initial), ("trained", gradients.trained))
        for layer in flow.layers
        if layer.bound is not None
    ]


def _table(reports: Reports) -> Table:
    rows = []
    models, confidence = reports.probes.models, reports.params.compare.confidence
    for name, probe in models.items():
        if probe.gradients is None:
            continue
        initial, trained = probe.gradients.initial, probe.gradients.trained
        flows, longest = (initial, trained), trained.max_lag
        cells = [flow.layers[-1].c for flow in flows]
        by_seed = gradients_by_seed(reports, name)
        rows.append((
            Cell(name, "" if len(trained.layers) == 1 else f"({len(trained.layers)} layers)"),
            *(half_life_cell(flow.stack.half_life, longest) for flow in flows),
            *(halving_cell(flow.stack.half_life) for flow in flows),
            *(halving_cell(None if norm is None else norm.half_life) for norm in cells),
            half_life_cell(trained.layers[-1].loss_by_weights.half_life, longest),
            *(_growth_cell(by_seed, weights, confidence) for weights in ("initial", "trained")),
            *_bound_cells(probe, trained),
        ))  # fmt: skip
    return Table("Gradient half-lives", HEADINGS, tuple(rows), _notes(models))


def _growth_cell(found: dict[int, Gradients], weights: str, confidence: float) -> Cell:
    """Mean over seeds with its t-interval."""
    values = figures(found, lambda one: (one.initial if weights == "initial" else one.trained).stack.growth)
    return estimate_cell(side_estimate(list(values.values()), "difference", confidence), short)


def _bound_cells(probe: ProbeFile, trained: Flow) -> tuple[Cell, ...]:
    bounds = _bounds(probe)
    if not bounds:
        return missing_cell(), missing_cell(), missing_cell()
    violations, checked = (sum(getattr(b, key) for *_, b in bounds) for key in ("violations", "checked"))
    of_first = [layer.bound for layer in trained.layers if layer.bound is not None]
    return (
        Cell("yes" if violations == 0 else "no", f"({count(violations)} of {count(checked)} above)", number=True),
        Cell(" / ".join(short(bound.beta_W) for bound in of_first), number=True),
        Cell(" / ".join(short(bound.beta_h) for bound in of_first), number=True),
    )


def _notes(models: dict[str, ProbeFile]) -> tuple[str, ...]:
    found = [probe for probe in models.values() if probe.gradients is not None]
    if not found:
        return ("No model here carries a state from left to right.",)
    flows = [probe.gradients.trained for probe in found if probe.gradients is not None]
    positions = sorted({flow.stack.positions for flow in flows})
    methods = sorted({flow.method for flow in flows})
    notes = [
        "Norms of d h_t / d S_k: h of the top layer after token t by all that the model remembers after token k (h, "
        f"or h and c, of every layer), on real text ({found[0].split}), {' or '.join(map(str, positions))} positions "
        f"t a model, lags t-k up to {max(flow.max_lag for flow in flows)}; spectral norm ({', '.join(methods)}), "
        "float64. At the start: the same weights as its training began with. First seed, but for factors and bounds; "
        "the others are in the data files.",
        "Half-life: the lag in tokens at which the median norm over positions has fallen to half of its value at lag "
        "0, which is 1. Halves in: tokens in which it halves on average after its first step, as from c to h the "
        "output gate and a tanh lie, which only the first step meets. [low, high]: 95% percentile interval over "
        "resampled positions; it says nothing of other seeds. A > stands before the longest lag that was measured.",
        "Factor a token: of the norm from one token to the next after the first step, by least squares; below 1 it "
        "falls, above 1 it grows. Mean over the finished seeds with its t-interval: what claims are decided on.",
        "dc/dc: d c_t / d c_k of the top layer, h_k held fixed. dE/dW: the part of the gradient of one token's loss "
        "that goes through the recurrent matrices k tokens before; its half-life is from its value at lag 0.",
        "Bound of the notes (Pascanu, Mikolov & Bengio 2013): ||d h_t / d h_k|| is at most (β_W β_h)^(t-k), where "
        "β_W is the spectral norm of W_hh and β_h the largest slope of the activation that was met. It is checked "
        "for h of each layer of a vanilla RNN, at every lag and position of all seeds, before and after training; "
        "layers are apart by /.",
    ]  # fmt: skip
    return (*notes, *left_out_notes(models, "gradients"))


def _records(models: dict[str, ProbeFile]) -> list[dict[str, Any]]:
    """One record a model, seed, weights and layer; figures of the whole stack stand with its top layer."""
    return [
        {"name": name, "kind": probe.kind, "seed": seed.seed, "weights": weights} | _layer(flow, place)
        for name, probe in models.items()
        for seed in probe.seeds
        if seed.gradients is not None
        for weights, flow in (("initial", seed.gradients.initial), ("trained", seed.gradients.trained))
        for place in range(len(flow.layers))
    ]


def _layer(flow: Flow, place: int) -> dict[str, Any]:
    layer = flow.layers[place]
    top = place == len(flow.layers) - 1
    norms = {"stack": flow.stack if top else None, "h": layer.h, "c": layer.c, "c_direct": layer.c_direct}
    record: dict[str, Any] = {"layer": layer.layer, "method": flow.method, "positions": flow.stack.positions}
    for key, norm in (norms | {"loss_by_weights": layer.loss_by_weights}).items():
        record |= flat_half_life(key, None if norm is None else norm.half_life)
        record[f"{key}_growth"] = None if norm is None else math.inf if norm.growth is None else norm.growth
    for key in ("beta_W", "beta_h", "holds", "violations", "checked", "largest_share"):
        record[key] = None if layer.bound is None else getattr(layer.bound, key)
    return record
