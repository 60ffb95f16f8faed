"""Tokenizers of six kinds, all as `tokenizers` objects whose file ``tokenizer.json`` holds everything they do.

Normalisation (NFC, lower case where wanted) is part of the tokenizer, so raw text encoded later gives the same ids.
``<eos>`` has id 0 in every vocabulary and ends a line; it is never the outcome of text. ``<unk>`` has id 1 in the
kinds that can meet unknown text; ``bpe`` and ``byte`` work on bytes and know everything.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from nextword.config import TokenizerParams
from nextword.text.normalizing import normalized

Read = Callable[[], Iterable[list[str]]]

EOS, UNK = "<eos>", "<unk>"
EOS_ID, UNK_ID = 0, 1
BYTE_LEVEL = ("bpe", "byte")
UNK_CHARACTER = "\U0010ffff"
"""Stands for a literal ``<unk>`` where text is handled by the character. Unicode assigns no character to it."""
NUM_BYTES = 256

# Words keep inner apostrophes (don't, nation's); a run of one mark (--, ...) is one token.
_WORD_OR_PUNCTUATION = Regex(r"\w+(?:['\u2019]\w+)*|([^\w\s])\1*")


def unk_id_of(kind: str) -> int | None:
    """Id of ``<unk>``; None where every text can be written."""
    return None if kind in BYTE_LEVEL else UNK_ID


def train_tokenizer(params: TokenizerParams, read: Read) -> Tokenizer:
    """Learn the pieces of kind ``bpe``, ``unigram`` or ``wordpiece`` from the lines of train; ``byte`` needs none.

    Args:
        params: section ``tokenizer`` of params.yaml.
        read: gives batches of lines of train, anew at each call.

    Raises:
        ValueError: ``vocab_size`` is too small for the alphabet of the text.
    """
    learn = {"byte": _byte, "bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}
    return learn[params.kind](params, read)


def lookup_tokenizer(params: TokenizerParams, types: list[str]) -> Tokenizer:
    """The tokenizer of kind ``word`` or ``char`` that knows ``types``, in the order of their ids from 2 on."""
    vocabulary = {token: index for index, token in enumerate([EOS, UNK, *types])}
    if params.kind == "char":
        # BPE without merges: it cuts its input into characters and looks each one up.
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNK, fuse_unk=False, cache_capacity=0))
        tokenizer.normalizer = _normalizer(params)
        tokenizer.decoder = decoders.Fuse()
    else:
        tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNK))
        if params.pre_tokenizer == "whitespace":
            tokenizer.normalizer = _normalizer(params, _NO_EOS)
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            tokenizer.normalizer = _normalizer(params)
            tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORD_OR_PUNCTUATION, behavior="removed", invert=True)
    return _with_unk(tokenizer)


def vocabulary_of(tokenizer: Tokenizer) -> list[str]:
    """Types by id."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(vocabulary, key=vocabulary.__getitem__)


def word_cutter(params: TokenizerParams) -> Tokenizer:
    """A tokenizer that gives one id (always ``<unk>``) for each unit into which kind ``word`` cuts a line."""
    return lookup_tokenizer(params.model_copy(update={"kind": "word"}), [])


def _normalizer(params: TokenizerParams, *more: normalizers.Normalizer) -> normalizers.Normalizer:
    lowercase = [normalizers.Lowercase()] if params.lowercase else []
    return normalizers.Sequence([normalizers.NFC(), *lowercase, *more])


def _with_unk(tokenizer: Tokenizer) -> Tokenizer:
    """Let a literal ``<unk>`` in the text (as in Penn Treebank) be the unknown word."""
    tokenizer.add_special_tokens([AddedToken(UNK, normalized=False, special=True)])
    return tokenizer


# A literal `<eos>` in the text must not end the line, so it is read as an unknown word.
_NO_EOS = normalizers.Replace(EOS, UNK)


def _byte(params: TokenizerParams, read: Read) -> Tokenizer:
    _at_least(params, NUM_BYTES + 1, "one for each byte and <eos>")
    return _byte_level(params, _byte_characters(), merges=[], use_regex=False)


def _bpe(params: TokenizerParams, read: Read) -> Tokenizer:
    _at_least(params, NUM_BYTES + 1, "one for each byte and <eos>")
    assert params.vocab_size is not None
    tokenizer = _byte_level(params, [], merges=[], use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=params.vocab_size - 1,  # <eos> is added below, so that no merge can lead to it
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(read(), trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    return _byte_level(params, vocabulary_of(tokenizer), merges=merges, use_regex=True)


def _byte_characters() -> list[str]:
    """The character by which ByteLevel writes each byte, in the order of the bytes (GPT-2's ``bytes_to_unicode``)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(NUM_BYTES, 2 * NUM_BYTES))
    characters = [chr(byte if byte in printable else next(others)) for byte in range(NUM_BYTES)]
    assert set(characters) == set(pre_tokenizers.ByteLevel.alphabet())
    return characters


def _byte_level(params: TokenizerParams, types: list[str], merges: list[Any], use_regex: bool) -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate([EOS, *types])}
    capacity = 10_000 if use_regex else 0  # without the regex a whole line is one entry of the cache
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, cache_capacity=capacity))
    tokenizer.normalizer = _normalizer(params)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _unigram(params: TokenizerParams, read: Read) -> Tokenizer:
    # The one kind whose training does not repeat to the bit: the trainer adds floats in the order of a hash table.
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = _normalizer(params, _NO_EOS)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    assert params.vocab_size is not None
    trainer = trainers.UnigramTrainer(
        vocab_size=params.vocab_size, special_tokens=[EOS, UNK], unk_token=UNK, show_progress=False
    )
    return _with_unk(_trained(tokenizer, trainer, params, read))


def _wordpiece(params: TokenizerParams, read: Read) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocab={EOS: EOS_ID, UNK: UNK_ID}, unk_token=UNK))
    tokenizer.normalizer = _normalizer(params)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    assert params.vocab_size is not None
    # The trainer numbers the characters inside words (`##a`) in the random order of a hash table, and breaks ties
    # between merges by these numbers. Given as special tokens they have a fixed order, and so has the outcome.
    characters = sorted(set[str]().union(*(normalized(tokenizer, batch) for batch in read())) - {*string.whitespace})
    inside = [c for c in characters if len(tokenizer.pre_tokenizer.pre_tokenize_str(f"a{c}a")) == 1]
    trainer = trainers.WordPieceTrainer(
        vocab_size=params.vocab_size,
        special_tokens=[EOS, UNK, *(f"##{c}" for c in inside)],
        initial_alphabet=characters,
        show_progress=False,
    )
    return _with_unk(_trained(tokenizer, trainer, params, read))


def _trained(tokenizer: Tokenizer, trainer: Any, params: TokenizerParams, read: Read) -> Tokenizer:
    try:
        tokenizer.train_from_iterator(read(), trainer)
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(
            f"tokenizer `{params.kind}` could not be trained with vocab_size {params.vocab_size}: {error}; "
            f"give a vocab_size above the number of distinct characters, or more text"
        ) from error
    _at_least(params, tokenizer.get_vocab_size(), "the alphabet of the text and two special tokens")
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []  # the trainer lets a literal `<eos>` in the text be the end of a line
    return Tokenizer.from_str(json.dumps(content))


def _at_least(params: TokenizerParams, needed: int, why: str) -> None:
    if params.vocab_size is not None and params.vocab_size < needed:
        raise ValueError(
            f"tokenizer.vocab_size {params.vocab_size} is too small for kind `{params.kind}`, "
            f"which needs {needed} ({why}); give at least {needed}"
        )
