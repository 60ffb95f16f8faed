"""Table of the NNLM's fixed window."""

from __future__ import annotations

from typing import Any

from nextword.report.probes.cells import flat_interval, interval_cell, missing_cell, section
from nextword.report.probes.experiments import WindowFile, WindowModel
from nextword.report.section import Section
from nextword.report.tables import Cell, Table, count, number


def window_section(report: WindowFile) -> Section:
    """What each word more of the window costs and gives."""
    return section("ngrams", "window", _table(report), _records(report))


def window_models(report: WindowFile) -> list[WindowModel]:
    """The NNLMs, windows ascending."""
    return [model for model in report.models if model.window is not None]


def _table(report: WindowFile) -> Table:
    rows = tuple(
        (
            Cell(model.name),
            interval_cell(model.perplexity, number),
            missing_cell() if model.change is None else interval_cell(model.change, _change),
            Cell(count(model.parameters.total), number=True),
            Cell(count(model.operations_per_token.total), number=True),
        )
        for model in report.models
    )
    headings = ("model", "valid perplexity", "change, nats a target", "parameters", "operations a token")
    return Table("NNLM: perplexity against window", headings, rows, _notes(report))


def _change(value: float | None) -> str:
    return "∞" if value is None else f"{value:+.3f}"


def _notes(report: WindowFile) -> tuple[str, ...]:
    notes = [
        "NNLM (Bengio, Ducharme, Vincent & Jauvin 2003) with every window trained on the same "
        f"{count(report.train_tokens)} tokens once, scored on {count(report.num_targets)} targets of valid, stateful. "
        f"[low, high]: 95% t-interval over the {count(report.num_documents)} documents of valid, after the mean over "
        "seeds.",
        "Change: against the next smaller window, paired by document. Operations: of the matrix products, forward.",
    ]
    if others := [model.name for model in report.models if model.window is None]:
        notes.append(
            f"Without a window, trained on the same tokens: {', '.join(others)}; change against the largest window."
        )
    return tuple(notes)


def _records(report: WindowFile) -> list[dict[str, Any]]:
    return [
        {"name": model.name, "kind": model.kind, "window": model.window}
        | flat_interval("perplexity", model.perplexity)
        | flat_interval("change", model.change)
        | flat_interval("nats_over_seeds", model.over_seeds)
        | {"parameters": model.parameters.total, "operations_per_token": model.operations_per_token.total}
        for model in report.models
    ]
