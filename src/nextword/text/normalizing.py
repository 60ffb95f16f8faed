"""Normalisation of whole batches: NFC and lower case as the tokenizer does them, fast where the text is ASCII."""

from __future__ import annotations

from tokenizers import Tokenizer


def normalized(tokenizer: Tokenizer, lines: list[str]) -> str:
    """The lines as ``tokenizer.normalizer`` leaves them, each with a line end.

    ASCII is in NFC already, so there lower case is all there is to do.
    """
    normalize = tokenizer.normalizer.normalize_str
    lower = normalize("A") == "a"
    text = "\n".join([*lines, ""])
    if not text.isascii():
        text = "\n".join([line if line.isascii() else normalize(line) for line in lines] + [""])
    return _lower_ascii(text) if lower else text


def _lower_ascii(text: str) -> str:
    """Lower case of the ASCII letters alone; the others have been lowered by the tokenizer's own rule."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
