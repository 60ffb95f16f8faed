"""Cells and CSV fields that the tables of the probes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nextword.report.probes.schema import HalfLife, Interval, ProbeFile, Proportion
from nextword.report.section import Section
from nextword.report.tables import DASH, INFINITE, Cell, Table, interval, number, percent

Form = Callable[[float | None], str]
Row = tuple[Cell | None, ...]


def short(value: float | None) -> str:
    """Three significant digits."""
    return number(value, 3)


def signed(value: float | None) -> str:
    """Two decimals with a sign, none on 0.00; ``None`` is infinite."""
    if value is None:
        return INFINITE
    return f"{value:+.2f}" if round(value, 2) else "0.00"


def section(chapter: str, name: str, table: Table, records: list[dict[str, Any]]) -> Section:
    """A section whose JSON file has the notes of the table and the records."""
    tree = {"title": table.caption, "notes": list(table.notes), "rows": records}
    return Section(name, table, records, tree, chapter)


def missing_cell() -> Cell:
    """Where there is nothing to show."""
    return Cell(DASH, number=True)


def interval_cell(found: Interval | None, form: Form = short) -> Cell:
    """A mean, infinite where it is None, with its interval below."""
    if found is None:
        return missing_cell()
    if found.mean is None:
        return Cell(INFINITE, number=True)
    return Cell(form(found.mean), interval(found.low, found.high, form), number=True)


def proportion_cell(found: Proportion) -> Cell:
    """``2 of 3`` with Wilson's interval below."""
    return Cell(f"{found.count} of {found.of}", interval(found.low, found.high, percent), number=True)


def half_life_cell(found: HalfLife | None, longest: int) -> Cell:
    """Tokens, or what happens instead within the longest lag."""
    if found is None:
        return missing_cell()
    if found.tokens is None:
        doubles = f"(doubles in {short(found.doubling_tokens)})" if found.status == "grows" else ""
        return Cell("grows" if found.status == "grows" else f">{longest}", doubles, number=True)
    return Cell(short(found.tokens), _limits(found.low, found.high, f">{longest}"), number=True)


def halving_cell(found: HalfLife | None) -> Cell:
    """Tokens in which the norm halves after its first step."""
    if found is None:
        return missing_cell()
    if found.halving_tokens is None:
        return Cell("no fall", number=True)
    return Cell(short(found.halving_tokens), _limits(found.halving_low, found.halving_high, INFINITE), number=True)


def _limits(low: float | None, high: float | None, beyond: str) -> str:
    low_text, high_text = (beyond if limit is None else short(limit) for limit in (low, high))
    return f"[{low_text}, {high_text}]"


def flat_half_life(name: str, found: HalfLife | None) -> dict[str, Any]:
    """CSV fields of a half-life."""
    keys = ("status", "tokens", "low", "high", "doubling_tokens", "halving_tokens", "halving_low", "halving_high")
    return {f"{name}_{key}": None if found is None else getattr(found, key) for key in keys}


def flat_interval(name: str, found: Interval | None) -> dict[str, Any]:
    """CSV fields of an interval; an infinite mean is ``inf``."""
    if found is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    mean = float("inf") if found.mean is None else found.mean
    return {name: mean, f"{name}_low": found.low, f"{name}_high": found.high}


def flat_proportion(name: str, found: Proportion) -> dict[str, Any]:
    """CSV fields of a share of runs."""
    fields = {f"{name}_{key}": getattr(found, key) for key in ("count", "of", "low", "high")}
    return {name: found.rate} | fields


def left_out_notes(models: Mapping[str, ProbeFile], part: str) -> list[str]:
    """Which models lack a part of the probe, for each reason."""
    reasons = {name: probe.left_out[part] for name, probe in models.items() if part in probe.left_out}
    return [
        f"Left out: {', '.join(name for name, why in reasons.items() if why == reason)} ({reason})."
        for reason in dict.fromkeys(reasons.values())
    ]
