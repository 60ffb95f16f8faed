"""The user's text files as encoded splits, read as the stages `prepare` and `encode` read a corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from nextword.serving.vocabulary import Vocabulary
from nextword.text.dropped import Dropped
from nextword.text.files import cut_documents
from nextword.text.ids import Split, smallest_dtype
from nextword.text.normalizing import normalized
from nextword.text.reading import read_lines

Separator = Literal["file", "blank_line", "line"]
SEPARATORS: tuple[Separator, ...] = get_args(Separator)
LINES_A_BATCH, CHARACTERS_A_BATCH = 4096, 1 << 20


def read_split(path: Path, vocabulary: Vocabulary, separator: Separator | None = None) -> Split:
    """Encode a text file. White space around lines and blank lines are left out, as from every corpus.

    Args:
        path: a UTF-8 file.
        vocabulary: makes the ids.
        separator: what separates documents: nothing (the file is one), blank lines, or every line end. None takes what
            lies beside a file that stage `prepare` wrote (``NAME.documents.tsv``), and blank lines for other files.

    Returns:
        The split; ``num_words`` is 0: it is not known.

    Raises:
        ValueError: the file is missing, is not UTF-8 or holds no text.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file; give a UTF-8 text file")
    sizes: list[int] = []
    ids = [np.empty(0, dtype=smallest_dtype(vocabulary.vocab_size))]
    num_bytes = 0
    for lines in in_batches(_lines(path, separator, sizes)):
        ids.append(vocabulary.encode_lines(lines))
        num_bytes += len(normalized(vocabulary.tokenizer, lines).encode())
    everything = np.concatenate(ids)
    if not len(everything):
        raise ValueError(f"{path} holds no text; give a file with some")
    line_starts = np.concatenate([[0], np.flatnonzero(everything == vocabulary.eos_id) + 1]).astype(np.int64)
    return Split(
        name=path.name,
        eos_id=vocabulary.eos_id,
        ids=everything,
        document_starts=line_starts[np.cumsum([0, *sizes])],
        num_lines=len(line_starts) - 1,
        num_words=0,
        num_bytes=num_bytes,
        num_oov=0 if vocabulary.unk_id is None else int(np.count_nonzero(everything == vocabulary.unk_id)),
        sha256=hashlib.sha256(everything.tobytes()).hexdigest(),
    )


def in_batches(lines: Iterator[str]) -> Iterator[list[str]]:
    """Lines in groups that are encoded and scored together: of ``LINES_A_BATCH``, of fewer where they are long."""
    batch, size = list[str](), 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) == LINES_A_BATCH or size >= CHARACTERS_A_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _lines(path: Path, separator: Separator | None, sizes: list[int]) -> Iterator[str]:
    """Lines that are not blank; appends the number of lines of each document to ``sizes``."""
    lines = read_lines(path, Dropped())
    beside = path.with_name(f"{path.stem}.documents.tsv")
    if separator is None and beside.is_file():
        sizes += [int(row.split("\t")[1]) for row in beside.read_text(encoding="utf-8").splitlines()]
        written = [line for line in lines if line]
        if sum(sizes) != len(written):
            raise ValueError(
                f"{path} has {len(written)} lines, {beside.name} beside it tells of {sum(sizes)}; "
                "say what separates documents (--documents), or run `dvc repro prepare`"
            )
        yield from written
    elif separator == "file":
        sizes.append(0)
        for line in lines:
            if line:
                sizes[-1] += 1
                yield line
    else:
        for document in cut_documents(path.name, lines, separator or "blank_line"):
            sizes.append(0)
            for line in document.lines:
                sizes[-1] += 1
                yield line
