"""Stage `prepare`: from a source of text to clean lines in train, valid and test."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from nextword.config import CorpusParams
from nextword.text.dropped import Dropped
from nextword.text.output import replaced_folder
from nextword.text.source import SPLITS, Document, Source
from nextword.text.splitting import assign_documents, order_key

CORPUS_FILES = frozenset(f"{split}{suffix}" for split in SPLITS for suffix in (".txt", ".documents.tsv"))
MAX_LISTED_DOCUMENTS = 500
"""A report lists the documents of each split up to this number in all."""


def open_source(params: CorpusParams) -> Source:
    """The source that ``corpus.source`` names, checked but not yet read."""
    if params.source == "sotu":
        from nextword.text.sotu import Sotu

        return Sotu(params.sotu)
    if params.source == "text":
        from nextword.text.files import TextFiles

        return TextFiles(params.text, params.allow_outside)
    from nextword.text.hub import Hub

    return Hub(params.hub)


def prepare_corpus(params: CorpusParams, out: Path) -> dict[str, Any]:
    """Read, clean and split the corpus; write ``{train,valid,test}.txt`` and ``.documents.tsv`` under ``out``.

    The text is streamed: once where the source has all its splits, twice where train is split by document (first for
    the sizes). What ``out`` held is replaced when everything is written, and stays as it was on any error.

    Args:
        params: section ``corpus`` of params.yaml.
        out: folder to write, e.g. ``data/corpus``.

    Returns:
        The report: the source, the sizes of each split, how it was split and what was dropped.

    Raises:
        ValueError: a file is missing, empty or not UTF-8, there are too few documents, or a split has no text.
    """
    source = open_source(params)
    to_split = [split for split in SPLITS if split not in source.splits]
    labels = _split_train(source, params, to_split) if to_split else None
    dropped = Dropped()
    with replaced_folder(out, CORPUS_FILES) as folder:
        writers = {split: _SplitWriter(folder, split) for split in SPLITS}
        try:
            for own in source.splits:
                for number, document in enumerate(_documents(source, own, dropped, f"write {own}")):
                    split = SPLITS[labels[number]] if labels is not None and own == "train" else own
                    writers[split].write(document)
        finally:
            for writer in writers.values():
                writer.close()
        for split, writer in writers.items():
            if not writer.num_lines:
                raise ValueError(f"the {split} split has no text; give it some, or a larger share in corpus.split")
    report = source.describe()
    if to_split:
        shares = {"valid": params.split.valid, "test": params.split.test, "seed": params.split.seed}
        report["split"] = {"by": "document", "split_off_train": to_split, **shares}
    else:
        report["split"] = {"by": "source"}
    report["splits"] = {split: writer.report() for split, writer in writers.items()}
    if sum(len(writer.names) for writer in writers.values()) <= MAX_LISTED_DOCUMENTS:
        report["documents"] = {split: writer.names for split, writer in writers.items()}
    report["dropped"] = dropped.report()
    return report


def describe_corpus(report: dict[str, Any]) -> str:
    """The report of :func:`prepare_corpus` as text for the terminal."""
    lines = [f"corpus from {report['source']}, one {report['line']} a line"]
    for split, sizes in report["splits"].items():
        lines.append(
            f"  {split:5}  {sizes['num_documents']:>8,} documents  {sizes['num_lines']:>10,} lines  "
            f"{sizes['num_bytes']:>13,} bytes"
        )
    for rule, entry in report["dropped"].items():
        lines.append(f"  dropped {entry['count']:,} x {rule} ({entry['characters']:,} characters)")
        lines.extend(f"      {example}" for example in entry["examples"][:3])
    return "\n".join(lines)


def _documents(source: Source, split: str, dropped: Dropped, task: str) -> Iterator[Document]:
    yield from tqdm(source.documents(split, dropped), desc=task, unit=" documents", disable=None)


def _split_train(source: Source, params: CorpusParams, to_split: list[str]) -> npt.NDArray[np.uint8]:
    """Label of each document of train: index into ``SPLITS``. Reads the whole text once."""
    keys, sizes = array("Q"), array("q")
    for document in _documents(source, "train", Dropped(), "measure"):
        sizes.append(sum(len(line.encode()) + 1 for line in document.lines if line))
        keys.append(order_key(document.name, params.split.seed))
    return assign_documents(
        np.frombuffer(keys, dtype=np.uint64),
        np.frombuffer(sizes, dtype=np.int64),
        valid=params.split.valid if "valid" in to_split else 0.0,
        test=params.split.test if "test" in to_split else 0.0,
    )


class _SplitWriter:
    """Appends documents to ``NAME.txt`` and their places to ``NAME.documents.tsv``."""

    def __init__(self, folder: Path, split: str) -> None:
        self._text = (folder / f"{split}.txt").open("wb")
        self._documents = (folder / f"{split}.documents.tsv").open("w", encoding="utf-8", newline="\n")
        self._sha256 = hashlib.sha256()
        self.num_lines = self.num_bytes = self.num_documents = 0
        self.names: list[str] = []

    def write(self, document: Document) -> None:
        first = self.num_lines
        for line in document.lines:
            if line:
                content = line.encode() + b"\n"
                self._text.write(content)
                self._sha256.update(content)
                self.num_lines += 1
                self.num_bytes += len(content)
        if self.num_lines > first:
            name = " ".join(document.name.split())
            self._documents.write(f"{first}\t{self.num_lines - first}\t{name}\n")
            self.num_documents += 1
            if len(self.names) <= MAX_LISTED_DOCUMENTS:
                self.names.append(name)

    def close(self) -> None:
        self._text.close()
        self._documents.close()

    def report(self) -> dict[str, Any]:
        return {
            "num_documents": self.num_documents,
            "num_lines": self.num_lines,
            "num_bytes": self.num_bytes,
            "sha256": self._sha256.hexdigest(),
        }
