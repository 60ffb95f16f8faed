"""Table of exploding gradients: what diverges at which scale, with clipping and without."""

from __future__ import annotations

import math
from statistics import median, median_high
from typing import Any

from nextword.report.probes.cells import flat_interval, interval_cell, proportion_cell, section, short
from nextword.report.probes.experiments import ExplodingFile, ExplodingSetting
from nextword.report.section import Section
from nextword.report.tables import DASH, INFINITE, Cell, Table, number

KINDS = {"rnn": "tanh", "rnn_relu": "ReLU"}
"""Name of the activation by kind."""
HEADINGS = (
    "network",
    "scale",
    "clipping",
    "diverged",
    "first non-finite step",
    "gradient norm before it",
    "largest gradient norm",
    "final loss, nats",
)


def exploding_section(report: ExplodingFile) -> Section:
    """What happens at each scale of the recurrent matrix."""
    return section("gradients", "exploding", _table(report), _records(report))


def exploding_sentence(report: ExplodingFile) -> str:
    """Shares of runs that diverged, over all scales."""
    parts = []
    for kind, label in KINDS.items():
        shares = []
        for clipped, way in ((False, "without clipping"), (True, "with it")):
            found = [s.diverged for s in report.settings if s.kind == kind and s.clipped == clipped]
            if found:
                shares.append(f"{sum(s.count for s in found)} of {sum(s.of for s in found)} {way}")
        if shares:
            parts.append(f"{label} {' and '.join(shares)}")
    return f"Runs that diverged, over all scales of the recurrent matrix: {'; '.join(parts)}."


def _table(report: ExplodingFile) -> Table:
    settings = report.settings
    kinds = [setting.kind for setting in settings]
    body: list[tuple[Cell | None, ...]] = []
    for place, setting in enumerate(settings):
        kind = Cell(KINDS.get(setting.kind, setting.kind), bold=True, rows=kinds.count(setting.kind))
        body.append((
            kind if setting.kind not in kinds[:place] else None,
            Cell(f"{setting.scale:g}", number=True),
            Cell(f"at {report.clip_norm:g}" if setting.clipped else "none"),
            proportion_cell(setting.diverged),
            _seeds(setting, "first_non_finite", "{:,.0f}".format),
            _seeds(setting, "grad_norm_before"),
            _largest(setting),
            _final(setting),
        ))  # fmt: skip
    return Table("Exploding gradients", HEADINGS, tuple(body), _notes(report))


def _seeds(setting: ExplodingSetting, field: str, form: Any = short) -> Cell:
    """The median over the runs that have a value, and the values of all."""
    values = [value for run in setting.runs if (value := getattr(run, field)) is not None]
    if not values:
        return Cell(DASH, number=True)
    return Cell(form(median(values)), f"({', '.join(map(form, values))})" if len(values) > 1 else "", number=True)


def _largest(setting: ExplodingSetting) -> Cell:
    values = [run.largest_grad_norm for run in setting.runs if run.largest_grad_norm is not None]
    return Cell(short(max(values)) if values else DASH, number=True)


def _final(setting: ExplodingSetting) -> Cell:
    """The mean with its interval; where a seed diverged, whose loss would be the whole of it, the median and all."""
    if setting.diverged.count == 0:
        return interval_cell(setting.final_loss, number)
    losses = [math.inf if run.final_loss is None else run.final_loss for run in setting.runs]
    under = f"({', '.join(map(short, losses))})" if len(losses) > 1 else ""
    return Cell(short(median_high(losses)), under, number=True)


def _notes(report: ExplodingFile) -> tuple[str, ...]:
    runs = len(report.settings[0].runs) if report.settings else 0
    return (
        f"Language models with H = E = {report.hidden_size} on the training text, plain SGD with learning rate "
        f"{report.learning_rate:g}, {report.steps} updates of {report.batch_size} streams by {report.bptt} tokens, "
        f"{runs} seed(s) a setting. Scale: the recurrent matrix starts as an orthogonal one times this.",
        "A run ends at the first loss or gradient norm that is infinite or not a number, before the update. It has "
        "diverged where that happened or its final loss is above 1.5 times ln V, that of equal probabilities "
        f"({number(report.uniform_loss)} nats): the notes' loss that becomes NaN or very large. Shares of runs have "
        "Wilson's 95% interval (Wilson 1927).",
        "Step (from 0) and norm before it: median over the seeds that met a value that is not finite, then each of "
        "them. Norms are before clipping (Pascanu, Mikolov & Bengio 2013, algorithm 1), the largest one is of all "
        "updates and seeds. Final loss: of the last updates, mean over seeds with the 95% t-interval; where a seed "
        f"diverged the median (the upper one of two) and the loss of each, {INFINITE} where it was not finite.",
        "A loss can grow as its states do, not as its gradients do: clipping bounds the latter alone.",
    )


def _records(report: ExplodingFile) -> list[dict[str, Any]]:
    """One record a run, with the figures of its setting."""
    records = []
    for setting in report.settings:
        head = {"kind": setting.kind, "scale": setting.scale, "clipped": str(setting.clipped).lower()}
        share = {f"diverged_{key}": getattr(setting.diverged, key) for key in ("count", "of", "rate", "low", "high")}
        share |= flat_interval("final_loss_mean", setting.final_loss)
        records += [head | run.model_dump(exclude={"diverged", "losses", "grad_norms"}) | share for run in setting.runs]
    return records
