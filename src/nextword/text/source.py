"""What every source of text offers: documents, each a name and a stream of clean lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from nextword.text.dropped import Dropped

SPLITS = ("train", "valid", "test")


class Document(NamedTuple):
    """Lines that belong together; a split never cuts it and a model's state may be carried through it."""

    name: str
    lines: Iterable[str]
    """To be used up before the next document is asked for."""


class Source(Protocol):
    """Where text comes from. Everything that can be checked without reading the text is checked on creation."""

    splits: tuple[str, ...]
    """Splits of its own: all three, or some with ``train`` among them; the rest is split off ``train``."""

    def documents(self, split: str, dropped: Dropped) -> Iterator[Document]:
        """Stream the documents of one of its splits, in the same order each time."""

    def describe(self) -> dict[str, Any]:
        """What it is (name, version, digest), for the report."""
