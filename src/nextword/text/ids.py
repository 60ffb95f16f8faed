"""Encoded corpora on disk: one array of ids a split, opened as a memory map.

A folder holds, for each of train, valid and test, ``NAME.npy`` (ids, 1-D, smallest unsigned type, ``<eos>`` after each
line) and ``NAME.documents.npy`` (int64, where each document starts, and the end), and for all of them
``tokenizer.json``, ``vocabulary.json`` and ``meta.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nextword.paths import IDS
from nextword.text.source import SPLITS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OF_SPLIT = [f"{split}{suffix}" for split in SPLITS for suffix in (".npy", ".documents.npy")]
IDS_FILES = frozenset([*_OF_SPLIT, "tokenizer.json", "vocabulary.json", "meta.json"])

Ids = npt.NDArray[np.unsignedinteger[Any]]

COUNTED_IDS = 1 << 20
"""Ids that are counted at a time."""


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds ids below ``vocab_size``."""
    return np.min_scalar_type(vocab_size - 1)


class IdsWriter:
    """Writes a 1-D ``.npy`` file piece by piece.

    The header is written at the start and again, with the length, at the end; NumPy pads it for that purpose.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.num_tokens = 0
        self._dtype = dtype
        self._file = path.open("wb")
        self._data_start = self._write_header()

    def append(self, ids: Ids) -> bytes:
        """Append ids; returns the bytes written."""
        content = ids.astype(self._dtype).tobytes()
        self._file.write(content)
        self.num_tokens += len(ids)
        return content

    def __enter__(self) -> IdsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.seek(0)
        data_start = self._write_header()
        self._file.close()
        assert data_start == self._data_start, "the header grew into the data"

    def _write_header(self) -> int:
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.num_tokens,)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


@dataclass(frozen=True)
class Split:
    """One split as ids. ``ids`` is read from disk as it is used."""

    name: str
    eos_id: int
    ids: Ids
    """(num_tokens,), memory-mapped; each line ends with ``eos_id``."""
    document_starts: npt.NDArray[np.int64]
    """(num_documents + 1,) offsets into ``ids``; the last is ``num_tokens``."""
    num_lines: int
    num_words: int
    """Words and punctuation marks, and one end of line each: the same for every tokenizer."""
    num_bytes: int
    """UTF-8 bytes of the normalised lines, with one line end each."""
    num_oov: int
    """Tokens that are ``<unk>``."""
    sha256: str
    """Digest of the ids as stored."""

    @property
    def num_tokens(self) -> int:
        """Ids in all, ``<eos>`` included."""
        return len(self.ids)

    @property
    def num_documents(self) -> int:
        """Documents in all."""
        return len(self.document_starts) - 1

    @cached_property
    def line_starts(self) -> npt.NDArray[np.int64]:
        """(num_lines + 1,) offsets at which the lines start; the last is ``num_tokens``."""
        ends = np.flatnonzero(self.ids == self.eos_id) + 1
        return np.concatenate([np.zeros(1, dtype=np.int64), ends.astype(np.int64)])


@dataclass(frozen=True)
class EncodedCorpus:
    """An encoded corpus: its splits and the tokenizer that made them."""

    folder: Path
    kind: str
    vocab_size: int
    eos_id: int
    unk_id: int | None
    """None where the tokenizer can write every text."""
    tokenizer_sha256: str
    splits: dict[str, Split]

    def __getitem__(self, split: str) -> Split:
        """One of train, valid and test."""
        if split not in self.splits:
            raise ValueError(f"no split {split!r}; there are {', '.join(self.splits)}")
        return self.splits[split]

    @cached_property
    def vocabulary(self) -> list[str]:
        """Types by id."""
        types = json.loads((self.folder / "vocabulary.json").read_text(encoding="utf-8"))
        assert isinstance(types, list) and len(types) == self.vocab_size
        return types

    @cached_property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """Occurrences in train by type, (vocab_size,); the ids are read piece by piece."""
        ids, counts = self["train"].ids, np.zeros(self.vocab_size, np.int64)
        for start in range(0, len(ids), COUNTED_IDS):
            counts += np.bincount(ids[start : start + COUNTED_IDS], minlength=self.vocab_size)
        return counts

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers` object."""
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))

    def encode(self, text: str) -> Ids:
        """Ids of raw text, ``<eos>`` after each of its lines. A line end at the very end of it starts no new line."""
        lines = text.removesuffix("\n").split("\n") if text else []
        ids = [token for one in self.tokenizer.encode_batch_fast(lines) for token in (*one.ids, self.eos_id)]
        return np.array(ids, dtype=smallest_dtype(self.vocab_size))

    def decode(self, ids: npt.ArrayLike) -> str:
        """Text of ids, a line end for each ``<eos>`` but the last. Inverse of :meth:`encode` for bpe and byte.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        array = np.asarray(ids, dtype=np.int64)
        if array.size and not (array.min() >= 0 and array.max() < self.vocab_size):
            raise ValueError(f"ids from {array.min()} to {array.max()}; allowed: 0 to {self.vocab_size - 1}")
        ends = np.flatnonzero(array == self.eos_id)
        lines = [piece[piece != self.eos_id].tolist() for piece in np.split(array, ends + 1)]
        if array.size and array[-1] == self.eos_id:
            lines.pop()
        return "\n".join(self.tokenizer.decode_batch(lines, skip_special_tokens=False))


def load_ids(folder: Path = IDS) -> EncodedCorpus:
    """Open what stage `encode` wrote. Ids are memory-mapped, so this takes no time and no memory.

    Raises:
        ValueError: the folder or a file in it is missing, or a file is cut short.
    """
    missing = sorted(name for name in IDS_FILES if not (folder / name).exists())
    if missing:
        raise ValueError(f"{folder} has no {', '.join(missing)}; run `dvc repro encode` to make them")
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    splits = {}
    for name in SPLITS:
        sizes = meta["splits"][name]
        starts = np.load(folder / f"{name}.documents.npy")
        try:
            ids = np.load(folder / f"{name}.npy", mmap_mode="r")
        except ValueError:
            ids = np.empty(0, dtype=np.uint8)
        if len(ids) != sizes["num_tokens"] or starts[-1] != sizes["num_tokens"]:
            raise ValueError(
                f"{folder / name}.npy holds {len(ids)} ids, meta.json says {sizes['num_tokens']}; "
                f"run `dvc repro --force encode`"
            )
        counts = {key: sizes[key] for key in ("num_lines", "num_words", "num_bytes", "num_oov", "sha256")}
        splits[name] = Split(name=name, eos_id=meta["eos_id"], ids=ids, document_starts=starts, **counts)
    keys = ("kind", "vocab_size", "eos_id", "unk_id", "tokenizer_sha256")
    return EncodedCorpus(folder=folder, splits=splits, **{key: meta[key] for key in keys})
