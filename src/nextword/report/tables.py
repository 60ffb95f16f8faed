"""Tables as Markdown and CSV, and numbers as text."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextword.evaluation.statistics import Difference, Estimate

DASH = "–"  # noqa: RUF001 (an en dash is meant)
INFINITE = "∞"
TIMES = "\N{MULTIPLICATION SIGN}"
LONG = 40
"""Characters from which a text is given the room of a paragraph."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and how it stands."""

    text: str
    under: str = ""
    """A second, smaller line: an interval, a remark. In Markdown it follows the text."""
    bold: bool = False
    number: bool = False
    rows: int = 1
    """Rows it spans in HTML; Markdown repeats it."""
    tone: str = ""
    """CSS class: a verdict."""

    @property
    def style(self) -> str:
        """CSS classes."""
        kind = "number" if self.number else "text long" if max(len(self.text), len(self.under)) >= LONG else "text"
        return f"{kind} {self.tone}".strip()


@dataclass(frozen=True)
class Table:
    """A table ready to be written: caption, headings, rows of as many cells, notes below."""

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell | None, ...], ...]
    """None where a cell above spans this row."""
    notes: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        columns = range(len(self.headings))
        return tuple(any(cell.number for row in self.rows if (cell := row[i]) is not None) for i in columns)

    @property
    def spanned(self) -> bool:
        """Whether a cell spans rows."""
        return any(cell is not None and cell.rows > 1 for row in self.rows for cell in row)


def markdown(table: Table, level: int = 2) -> str:
    """The table as GitHub-flavoured Markdown under a heading of ``level``."""
    lines = ["#" * level + " " + table.caption, ""]
    if table.rows:
        lines += [_row(table.headings), _row(["---:" if right else "---" for right in table.numeric])]
        above: list[Cell] = []
        for row in table.rows:
            above = [cell if cell is not None else above[i] for i, cell in enumerate(row)]
            lines.append(_row([_markdown_cell(cell) for cell in above]))
        lines.append("")
    lines += [f"- {_escape(note)}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = _escape(cell.text)
    bold = f"**{text}**" if cell.bold and text else text
    return f"{bold} {_escape(cell.under)}".rstrip()


def _escape(text: str) -> str:
    for character in "\\|*<`":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write records of equal keys with LF line ends; None is an empty field, infinity is ``inf``, no record no line."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if not records:
            return
        writer = csv.DictWriter(file, list(records[0]), lineterminator="\n", extrasaction="raise")
        writer.writeheader()
        writer.writerows(records)


def finite(tree: Any) -> Any:
    """A copy of ``tree`` as JSON can hold it: numbers that are not finite are None, tuples are lists."""
    if isinstance(tree, Mapping):
        return {str(key): finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [finite(value) for value in tree]
    if isinstance(tree, float) and not math.isfinite(tree):
        return None
    return tree


def flat_estimate(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """CSV fields ``name``, ``name_low`` and ``name_high``."""
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def exp(value: float) -> float:
    """E to the power of ``value``; infinite where that is beyond a float."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def number(value: float | None, digits: int = 4) -> str:
    """``digits`` significant digits, thousands apart: ``1,234,567``, ``58.93``, ``0.01230``; huge ones ``3.553e51``.

    >>> number(1234567.0), number(58.9312), number(0.0123), number(3.5533e51), number(None)
    ('1,234,567', '58.93', '0.01230', '3.553e51', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return INFINITE if value > 0 else f"-{INFINITE}"
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # after rounding: 999.96 is 1,000
    if exponent >= 12:
        return f"{value:.{digits - 1}e}".replace("e+", "e")
    decimals = digits - 1 - exponent
    return f"{value:,.{max(decimals, 0)}f}"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return DASH if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share in per cent with one decimal."""
    return DASH if value is None else f"{100 * value:.1f}%"


def interval(low: float | None, high: float | None, form: Any = number) -> str:
    """``[low, high]``, or nothing where there is no interval."""
    return "" if low is None or high is None else f"[{form(low)}, {form(high)}]"


def ratio_parts(gap: Difference) -> tuple[str, str]:
    """A difference of logarithms as a factor with its interval: ``x0.9500``, ``[0.9300, 0.9700]``."""
    low, high = (None if limit is None else exp(limit) for limit in (gap.low, gap.high))
    return f"{TIMES}{number(exp(gap.mean))}", interval(low, high)


def seeds_cell(seeds: Sequence[int], diverged: Sequence[int]) -> Cell:
    """How many seeds stand behind a figure."""
    if not diverged:
        return Cell(count(len(seeds)) if seeds else DASH)
    return Cell(f"{len(seeds) - len(diverged)} of {len(seeds)}", f"(diverged: {', '.join(map(str, diverged))})")


def estimate_cell(estimate: Estimate | None, form: Any = number, *, bold: bool = False, rows: int = 1) -> Cell:
    """The mean with its interval below."""
    if estimate is None:
        return Cell(DASH, number=True, rows=rows)
    return Cell(form(estimate.mean), interval(estimate.low, estimate.high, form), bold, number=True, rows=rows)


def estimate_text(estimate: Estimate | None, form: Any = number) -> str:
    """``mean [low, high]``; the mean alone where there is no interval."""
    if estimate is None:
        return DASH
    return f"{form(estimate.mean)} {interval(estimate.low, estimate.high, form)}".rstrip()
