"""A table with its data files, and the chapters into which the report is divided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextword.report.tables import Table

CHAPTERS: dict[str, str] = {
    "comparison": "GRU against LSTM",
    "claims": "Claims of the notes",
    "models": "All models",
    "variants": "Variants",
    "training": "Training",
    "ngrams": "n-grams and windows",
    "gradients": "Gradients",
    "memory": "Memory",
    "context": "Context",
    "embeddings": "Embeddings",
}
"""Title of each chapter by its name, in the order of the page. One that has neither table nor plot is left out."""


@dataclass(frozen=True)
class Section:
    """A table, and the files NAME.json, NAME.csv and NAME.md that are made with it."""

    name: str
    table: Table
    records: list[dict[str, Any]]
    tree: dict[str, Any]
    chapter: str = "variants"
    """Key of :data:`CHAPTERS`."""
    sources: tuple[str, ...] = ()
    """Stages from which it came, as :func:`nextword.report.provenance.stages_of` reads them."""
