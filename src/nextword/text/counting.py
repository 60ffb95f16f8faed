"""Counts of words and characters in a stream of lines, by the rules of the tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from nextword.config import TokenizerParams
from nextword.text.chunks import plain_word, split_chunks
from nextword.text.normalizing import normalized
from nextword.text.tokenizer import EOS, UNK, UNK_CHARACTER, lookup_tokenizer

MAX_CHUNKS = 300_000


@dataclass(frozen=True)
class TypeCounts:
    """How often the types of train occur in each split."""

    types: list[str]
    """Types of train without special tokens, the most frequent first, ties in order of code points."""
    by_rank: dict[str, npt.NDArray[np.int64]]
    """For each split (num_types,): occurrences of each of ``types``."""
    totals: dict[str, int]
    """Tokens of each split, those unknown to train included, ends of lines not."""


def count_types(params: TokenizerParams, splits: dict[str, Iterable[list[str]]]) -> TypeCounts:
    """Count all types of kind ``word`` or ``char``. A literal ``<unk>`` in the text is a token but not a type.

    Args:
        params: section ``tokenizer`` of params.yaml.
        splits: batches of lines of each split, train first; each is read once.
    """
    count = count_words if params.kind == "word" else count_characters
    tokenizer = lookup_tokenizer(params, [])
    types: list[str] = []
    by_rank, totals = {}, {}
    for split, batches in splits.items():
        counts = count(tokenizer, batches)
        totals[split] = counts.total()
        if split == "train":
            types = sorted(counts.keys() - {EOS, UNK})
            types.sort(key=counts.__getitem__, reverse=True)  # stable
        by_rank[split] = np.fromiter(map(counts.__getitem__, types), dtype=np.int64, count=len(types))
    return TypeCounts(types, by_rank, totals)


def count_words(tokenizer: Tokenizer, batches: Iterable[list[str]]) -> Counter[str]:
    """How often each word or punctuation mark occurs, as the normalizer and pre-tokenizer of ``tokenizer`` cut them.

    Chunks are counted first and cut into words once for all their occurrences; at most ``MAX_CHUNKS`` and one
    batch of them are held.
    """
    words: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for batch in batches:
        chunks.update(split_chunks(batch))
        if len(chunks) > MAX_CHUNKS:
            _cut_into_words(tokenizer, chunks, words)
    _cut_into_words(tokenizer, chunks, words)
    return words


def _cut_into_words(tokenizer: Tokenizer, chunks: Counter[str], words: Counter[str]) -> None:
    normalize, cut = tokenizer.normalizer.normalize_str, tokenizer.pre_tokenizer.pre_tokenize_str
    lower = normalize("A") == "a"
    for chunk, count in chunks.items():
        if plain := plain_word(chunk):
            words[plain.lower() if lower else plain] += count
            continue
        for index, part in enumerate(chunk.split(UNK)):
            if index:
                words[UNK] += count
            if part:
                for word, _ in cut(normalize(part)):
                    words[word] += count
    chunks.clear()


def count_characters(tokenizer: Tokenizer, batches: Iterable[list[str]]) -> Counter[str]:
    """How often each character of the normalised lines occurs; a literal ``<unk>`` is one."""
    counts = np.zeros(0x110000, dtype=np.int64)
    for batch in batches:
        text = normalized(tokenizer, [line.replace(UNK, UNK_CHARACTER) for line in batch])
        found = np.bincount(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32))
        counts[: len(found)] += found
    counts[ord("\n")] = 0  # ends each line and is in none
    found_codes = np.flatnonzero(counts)
    characters = Counter({chr(code): int(counts[code]) for code in found_codes})
    if UNK_CHARACTER in characters:
        characters[UNK] = characters.pop(UNK_CHARACTER)
    return characters
