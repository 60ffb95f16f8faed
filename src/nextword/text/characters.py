"""Lines to ids for kinds ``char`` and ``byte``: one look-up in a table for each character or byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nextword.text.normalizing import normalized
from nextword.text.tokenizer import EOS_ID, UNK, UNK_CHARACTER, UNK_ID

NUM_CODES = 0x110000


class CharacterEncoder:
    """Ids of the characters of the normalised lines."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._table = np.full(NUM_CODES, UNK_ID, dtype=np.uint32)
        for token, index in tokenizer.get_vocab().items():
            if len(token) == 1:
                self._table[ord(token)] = index
        self._table[ord("\n")] = EOS_ID

    def __call__(self, lines: list[str]) -> npt.NDArray[np.uint32]:
        """Ids of the lines, ``<eos>`` after each."""
        text = normalized(self._tokenizer, [line.replace(UNK, UNK_CHARACTER) for line in lines])
        return self._table[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]


class ByteEncoder:
    """Ids of the UTF-8 bytes of the normalised lines: the value of the byte plus one."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, lines: list[str]) -> npt.NDArray[np.uint32]:
        """Ids of the lines, ``<eos>`` after each."""
        content = np.frombuffer(normalized(self._tokenizer, lines).encode(), dtype=np.uint8)
        return np.where(content == ord("\n"), EOS_ID, content.astype(np.uint32) + 1).astype(np.uint32)
