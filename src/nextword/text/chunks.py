"""Lines as chunks: a chunk is a word with the space before it, the largest piece that every tokenizer treats alone.

All pre-tokenizers here cut a line before each space, so the ids of a line are those of its chunks end to end. Running
text repeats its chunks: the tokenizer is asked for each new one, a dictionary for the rest. This is several times
faster than handing whole lines to `tokenizers`, with the same ids.
"""

from __future__ import annotations

import re
from itertools import chain

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nextword.text.tokenizer import EOS_ID, UNK_ID

LINE_END = ""
"""Stands for the end of a line among chunks."""
MAX_KNOWN = 300_000

# GPT-2's pattern, which byte-level BPE uses, joins a run of white space except for one last space.
_RUN_OF_SPACE = re.compile(r"[^\S \n]|   ")


def split_chunks(lines: list[str], keep_runs_of_space: bool = False) -> list[str]:
    """Chunks of all lines, ``LINE_END`` after each line.

    Args:
        lines: not empty, without white space at their ends.
        keep_runs_of_space: leave a line whole that has white space other than one or two spaces at a time.

    >>> split_chunks(["a bc", "d"])
    ['a', ' bc', '', 'd', '']
    """
    text = "\n\n".join(lines) + "\n"
    if not keep_runs_of_space or not _RUN_OF_SPACE.search(text):
        return text.replace(" ", "\n ").split("\n")
    whole = [[line] if _RUN_OF_SPACE.search(line) else line.replace(" ", "\n ").split("\n") for line in lines]
    return [chunk for chunks in whole for chunk in (*chunks, LINE_END)]


def plain_word(chunk: str) -> str | None:
    """The word in a chunk of ASCII letters and digits, which is one word to every rule; None for other chunks."""
    word = chunk.removeprefix(" ")
    return word if word.isascii() and word.isalnum() else None


class ChunkEncoder:
    """Lines to ids through a dictionary of chunks, which starts anew when it holds more than ``MAX_KNOWN``."""

    def __init__(self, tokenizer: Tokenizer, keep_runs_of_space: bool = False) -> None:
        self._tokenizer = tokenizer
        self._keep_runs_of_space = keep_runs_of_space
        self._known: dict[str, tuple[int, ...]] = {LINE_END: (EOS_ID,)}

    def __call__(self, lines: list[str]) -> npt.NDArray[np.uint32]:
        """Ids of the lines, ``<eos>`` after each."""
        if not lines:
            return np.empty(0, dtype=np.uint32)
        chunks = split_chunks(lines, self._keep_runs_of_space)
        if len(self._known) > MAX_KNOWN:
            self._known = {LINE_END: (EOS_ID,)}
        known = self._known
        self._learn([chunk for chunk in set(chunks) if chunk not in known])
        return np.fromiter(chain.from_iterable(map(known.__getitem__, chunks)), dtype=np.uint32)

    def _learn(self, new: list[str]) -> None:
        for chunk, encoding in zip(new, self._tokenizer.encode_batch_fast(new), strict=True):
            self._known[chunk] = tuple(encoding.ids)


class WordEncoder(ChunkEncoder):
    """For kind ``word``: looks plain words up in the vocabulary itself and asks the tokenizer for the rest."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self._vocabulary = tokenizer.get_vocab()
        self._lower = tokenizer.normalizer.normalize_str("A") == "a"

    def _learn(self, new: list[str]) -> None:
        others = []
        for chunk in new:
            if plain := plain_word(chunk):
                self._known[chunk] = (self._vocabulary.get(plain.lower() if self._lower else plain, UNK_ID),)
            else:
                others.append(chunk)
        super()._learn(others)
