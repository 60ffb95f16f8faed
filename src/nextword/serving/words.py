"""What the embeddings of a trained model say of single words."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nextword.serving.text_model import TextModel

RULES = {"add": "3CosAdd", "mul": "3CosMul"}


def neighbours(model: TextModel, words: Sequence[str], count: int) -> dict[str, list[dict[str, Any]]]:
    """The types nearest to each word by cosine: ``{word: [{"word", "cosine"}]}``.

    Raises:
        ValueError: a word is not in the vocabulary, the model has no embeddings, or ``count`` is below 1.
    """
    from nextword.probes.embeddings import WordSpace

    if count < 1:
        raise ValueError(f"count is {count}; give at least 1")
    space = WordSpace(model.backend.embeddings(), model.vocabulary)
    types = find_words(model, words)
    return {word: space.neighbours(types[word], count) for word in words}


def analogy(model: TextModel, a: str, b: str, c: str) -> dict[str, str]:
    """The answer to ``a : b = c : ?`` by rule (Levy & Goldberg 2014), never a, b or c.

    Raises:
        ValueError: a word is not in the vocabulary, or the model has no embeddings.
    """
    from nextword.probes.embeddings import WordSpace, answer

    space = WordSpace(model.backend.embeddings(), model.vocabulary)
    types = find_words(model, (a, b, c))
    question = np.array([[types[a], types[b], types[c]]], dtype=np.int64)
    found = answer(space, question)
    return {name: model.vocabulary.vocabulary[found[rule][0]] for rule, name in RULES.items()}


def find_words(model: TextModel, words: Sequence[str]) -> dict[str, int]:
    """The type of each word.

    Raises:
        ValueError: a word is unknown, or the tokenizer cuts it into several types.
    """
    vocabulary = model.vocabulary
    nameless = (vocabulary.eos_id, vocabulary.unk_id)
    found: dict[str, int] = {}
    for word in words:
        ids = vocabulary.tokenizer.encode(word, add_special_tokens=False).ids
        if len(ids) > 1:
            pieces = " ".join(vocabulary.vocabulary[i] for i in ids)
            raise ValueError(f"{word!r} is no single type of this vocabulary but {len(ids)}: {pieces}")
        if not ids or ids[0] in nameless:
            close = difflib.get_close_matches(word.lower(), vocabulary.vocabulary, n=3)
            hint = f"; near it are {', '.join(close)}" if close else ""
            raise ValueError(f"{word!r} is not in the vocabulary of {vocabulary.vocab_size:,} types{hint}")
        found[word] = ids[0]
    return found
