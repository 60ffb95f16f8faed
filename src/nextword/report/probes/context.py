"""Table of the use of context: what losing the far part of it costs."""

from __future__ import annotations

from typing import Any

from nextword.report.probes.cells import (
    flat_interval,
    interval_cell,
    left_out_notes,
    missing_cell,
    section,
    short,
    signed,
)
from nextword.report.probes.schema import Context, EffectiveLength, Interval, ProbeFile
from nextword.report.section import Section
from nextword.report.tables import INFINITE, Cell, Table, count, number

TREATMENTS = {"shuffled": "shuffled", "dropped_frequent": "frequent half dropped", "dropped_rare": "rare half dropped"}
"""What is done to the context beyond n tokens, besides cutting it off."""


def context_section(models: dict[str, ProbeFile]) -> Section:
    """Effective context length, and the price of less context."""
    return section("context", "context", _table(models), _records(models))


def context_sentence(models: dict[str, ProbeFile], names: tuple[str, ...]) -> str | None:
    """Effective context lengths of the models ``names``."""
    found = {name: c for name in names if name in models and (c := models[name].context) is not None}
    if not found:
        return None
    parts = [f"{name} {_effective(c).text}" for name, c in found.items()]
    tolerance = next(iter(found.values())).effective_length.tolerance
    return (
        f"Effective context length in tokens, first seed (loss within {100 * tolerance:g}% of that with all of it): "
        f"{'; '.join(parts)}."
    )


def treated_length(context: Context) -> int | None:
    """The middle one of the lengths beyond which the context was shuffled or thinned out."""
    lengths = [row.length for row in context.shuffled]
    return lengths[len(lengths) // 2] if lengths else None


def _table(models: dict[str, ProbeFile]) -> Table:
    found = {name: probe.context for name, probe in models.items() if probe.context is not None}
    lengths = sorted({row.length for context in found.values() for row in context.truncated})
    middle = next((length for c in found.values() if (length := treated_length(c)) is not None), None)
    rows = []
    for name, context in found.items():
        by_length = {row.length: row.increase for row in context.truncated}
        cells = [_change(by_length.get(length)) for length in lengths]
        if middle is not None:
            for treatment in TREATMENTS:
                treated = {row.length: row.increase for row in getattr(context, treatment)}
                cells.append(_change(treated.get(middle)))
        rows.append((Cell(name), interval_cell(context.document.nats, number), _effective(context), *cells))
    headings = ["model", "nats, whole document", "effective length, tokens", *(f"last {n} alone" for n in lengths)]
    if middle is not None:
        headings += [f"beyond {middle}: {text}" for text in TREATMENTS.values()]
    return Table("Use of context", tuple(headings), tuple(rows), _notes(models, middle))


def _change(found: Interval | None) -> Cell:
    return missing_cell() if found is None else interval_cell(found, signed)


def _effective(context: Context) -> Cell:
    found, longest = context.effective_length, max(context.lengths)
    low, high = (_tokens(limit, longest) for limit in (found.low, found.high))
    return Cell(_tokens(found.tokens, longest), f"[{low}, {high}]", number=True)


def _tokens(value: float | None, longest: int) -> str:
    return f">{longest}" if value is None else short(value)


def _notes(models: dict[str, ProbeFile], middle: int | None) -> tuple[str, ...]:
    found = [(probe, probe.context) for probe in models.values() if probe.context is not None]
    if not found:
        return ("No model here is read from left to right.",)
    probe, context = found[0]
    targets = sorted({c.num_targets for _, c in found})
    notes = [
        f"The same {' or '.join(map(count, targets))} random targets of {probe.split}, each at least "
        f"{max(context.lengths)} tokens into its document, under every condition; first seed. Changes are in nats a "
        "target; [low, high] is the 95% percentile interval of a paired bootstrap over targets. The other seeds, which "
        "claims are decided on too, are in the data files.",
        "Last n alone: the model starts anew n tokens before the target; against the whole document before it. "
        "Effective length: the number of tokens from which that loss is within "
        f"{context.effective_length.tolerance:.1%} of the loss with the whole document, between two lengths on a "
        "logarithmic scale (Khandelwal, He, Qi & Jurafsky 2018, section 3).",
    ]
    if middle is not None:
        notes.append(
            f"Beyond {middle}: of the last {max(context.lengths)} tokens those before the last {middle} are put in "
            "random order, or the half of them whose types are the more frequent (the rarer) in train is left out; "
            "against these tokens as they are (the same, section 4 and 5). Other lengths are in the data files. "
            f"{INFINITE}: a target of probability zero."
        )
    return (*notes, *left_out_notes(models, "context"))


def _records(models: dict[str, ProbeFile]) -> list[dict[str, Any]]:
    """One record a model, seed, treatment and length."""
    records: list[dict[str, Any]] = []
    for name, one in ((name, one) for name, probe in models.items() for one in probe.seeds):
        if (context := one.context) is None:
            continue
        head = {"name": name, "kind": models[name].kind, "seed": one.seed, "num_targets": context.num_targets}
        head |= flat_interval("document_nats", context.document.nats) | _flat_effective(context.effective_length)
        for treatment in ("truncated", *TREATMENTS):
            records += [
                head
                | {"treatment": treatment, "length": row.length}
                | flat_interval("nats", row.nats)
                | flat_interval("increase", row.increase)
                for row in getattr(context, treatment)
            ]
    return records


def _flat_effective(found: EffectiveLength) -> dict[str, Any]:
    keys = ("tokens", "low", "high")
    values = {key: getattr(found, key) for key in keys}
    return {f"effective_{key}": float("inf") if value is None else value for key, value in values.items()}
