"""The tokenizer of a trained model: text to ids and back, without the corpus that it was made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from nextword.text.ids import EncodedCorpus, Ids, smallest_dtype
from nextword.text.tokenizer import vocabulary_of

REQUIRED = ("tokenizer.json", "meta.json")


class Vocabulary(EncodedCorpus):
    """An encoded corpus without splits: what goes with a model that is sent elsewhere."""

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Open ``tokenizer.json`` and ``meta.json`` of what stage `encode` wrote.

        Raises:
            ValueError: one of them is missing.
        """
        missing = [name for name in REQUIRED if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{folder} has no {' and no '.join(missing)}; run the stage `encode` (`dvc repro encode`)")
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        keys = ("kind", "vocab_size", "eos_id", "unk_id", "tokenizer_sha256")
        return cls(folder=folder, splits={}, **{key: meta[key] for key in keys})

    @cached_property
    def vocabulary(self) -> list[str]:
        """Types by id."""
        return vocabulary_of(self.tokenizer)

    def encode_lines(self, lines: Sequence[str]) -> Ids:
        """Ids of the lines, ``<eos>`` after each."""
        encoded = self.tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        ids = chain.from_iterable((*one.ids, self.eos_id) for one in encoded)
        return np.fromiter(ids, dtype=smallest_dtype(self.vocab_size))

    def decode_open(self, ids: Sequence[int]) -> str:
        """Text of ids, a line end for each ``<eos>``."""
        lines: list[list[int]] = [[]]
        for token in ids:
            if token == self.eos_id:
                lines.append([])
            else:
                lines[-1].append(token)
        return "\n".join(self.tokenizer.decode_batch(lines, skip_special_tokens=False))
