r"""ARPA files, the format of SRILM and KenLM: log10 probabilities and back-off weights as text.

Words stand as they are in the vocabulary, with two exceptions: the id that ends a line is ``</s>``, and white space
inside a type (of a character or subword tokenizer) is escaped as ``\uXXXX``, since it separates the columns. Zero
probability is -99, as in SRILM. A name that ends in ``.gz`` is compressed.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from nextword.ngram.counts import FloatArray, IntArray
from nextword.ngram.model import NgramModel, Table

BOS, EOS = "<s>", "</s>"
ZERO = -99.0
_LN10 = math.log(10)
_ROWS = 1 << 16


def write_arpa(model: NgramModel, vocabulary: Sequence[str], path: Path) -> None:
    """Write a model as an ARPA file.

    Args:
        model: any smoothing.
        vocabulary: type of each id. KenLM takes the type ``<unk>`` for unknown words.
        path: file to write.

    Raises:
        ValueError: the vocabulary has another size than the model, or two types have one name in the file.
    """
    words = _names(vocabulary, model)
    with _open(path, "wt") as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {k}={len(table)}\n" for k, table in enumerate(model.tables, start=1))
        for k, table in enumerate(model.tables, start=1):
            file.write(f"\n\\{k}-grams:\n")
            for start in range(0, len(table), _ROWS):
                rows = slice(start, min(start + _ROWS, len(table)))
                columns = [words[column] for column in _words_of(model, k, np.arange(rows.start, rows.stop))]
                texts = map(" ".join, zip(*columns, strict=True))
                probs = _log10(np.minimum(table.log_prob[rows], 0))  # KenLM refuses 1e-17, a rounding above 0
                if k < model.order:
                    lines = zip(probs, texts, _log10(table.log_backoff[rows]), strict=True)
                    file.writelines(f"{p:.9g}\t{text}\t{b:.9g}\n" for p, text, b in lines)
                else:
                    file.writelines(f"{p:.9g}\t{text}\n" for p, text in zip(probs, texts, strict=True))
        file.write("\n\\end\\\n")


def read_arpa(path: Path, vocabulary: Sequence[str] | None = None, eos_id: int = 0) -> tuple[NgramModel, list[str]]:
    """Read an ARPA file written by this project, KenLM or SRILM.

    Args:
        path: the file.
        vocabulary: type of each id, to score ids of that vocabulary; the file must have the same types. None: ids
            are given here, ``</s>`` first, then the others as they come in the file.
        eos_id: the id that ends a line; only with ``vocabulary``.

    Returns:
        The model (smoothing "arpa"), and the type of each id.

    Raises:
        ValueError: not an ARPA file, an incomplete one, or one with another vocabulary.
    """
    with _open(path, "rt") as file:
        lines = (line.rstrip("\r\n") for line in file)
        sizes = _read_header(lines, path)
        sections = [_read_section(lines, k, size, len(sizes), path) for k, size in enumerate(sizes, start=1)]
    unigrams = sections[0][0]
    if len(set(unigrams)) < len(unigrams):
        raise ValueError(f"{path} lists a 1-gram twice; write it again")
    if vocabulary is None:
        eos_id = 0
        vocabulary = [EOS, *(_unescape(word) for word in unigrams if word not in (BOS, EOS))]
    index = {name: id for id, name in enumerate(_escape_all(vocabulary, eos_id))}
    _check_same(set(index), set(unigrams) - {BOS}, path)
    index[BOS] = len(vocabulary)
    return _build(sections, index, len(vocabulary), eos_id, path), list(vocabulary)


def _names(vocabulary: Sequence[str], model: NgramModel) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """Name of each symbol in the file, ``<s>`` last."""
    if len(vocabulary) != model.vocab_size:
        raise ValueError(
            f"the vocabulary has {len(vocabulary)} types and the model {model.vocab_size}; "
            "give the vocabulary the model was made with"
        )
    names = np.empty(model.vocab_size + 1, dtype=object)
    names[:] = [*_escape_all(vocabulary, model.eos_id), BOS]
    return names


def _escape_all(vocabulary: Sequence[str], eos_id: int) -> list[str]:
    names = [re.sub(r"\s", lambda m: f"\\u{ord(m[0]):04x}", word) for word in vocabulary]
    names[eos_id] = EOS
    seen = {BOS}
    for name in names:
        if name in seen or not name:
            raise ValueError(
                f"the vocabulary cannot be written as ARPA: {name!r} is empty, reserved or there twice; "
                f"rename that type ({BOS} and {EOS} mark the line's start and end)"
            )
        seen.add(name)
    return names


def _unescape(name: str) -> str:
    def space(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16))
        return char if char.isspace() else found[0]

    return re.sub(r"\\u([0-9a-f]{4})", space, name)


def _words_of(model: NgramModel, order: int, ranks: IntArray) -> list[IntArray]:
    """The words of k-grams, a column a word: from the last to the first through the contexts."""
    columns: list[IntArray] = []
    for k in range(order, 0, -1):
        ranks, words = np.divmod(model.tables[k - 1].codes[ranks], model.vocab_size + 1)
        columns.insert(0, words)
    return columns


def _log10(values: FloatArray) -> list[float]:
    scaled = values.astype(np.float64) / _LN10
    return np.where(np.isneginf(scaled), ZERO, scaled).tolist()  # type: ignore[no-any-return]


def _open(path: Path, mode: str) -> TextIO:
    if str(path).endswith(".gz"):
        return gzip.open(path, mode, encoding="utf-8", newline="\n")  # type: ignore[return-value]
    return open(path, mode, encoding="utf-8", newline="\n")  # type: ignore[return-value]


Section = tuple[list[str], list[float], list[float]]
"""N-grams of one order, as in the file: their words, one n-gram after the other; log10 probabilities; back-offs."""


def _read_header(lines: Iterator[str], path: Path) -> list[int]:
    for line in lines:
        if line == "\\data\\":
            break
    else:
        raise ValueError(f"{path} is not an ARPA file: it has no \\data\\ line")
    sizes: list[int] = []
    for line in lines:
        found = re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)\s*", line)
        if found is None or int(found[1]) != len(sizes) + 1:
            break
        sizes.append(int(found[2]))
    if not sizes:
        raise ValueError(f"{path} is not an ARPA file: no `ngram 1=...` after \\data\\")
    return sizes


def _read_section(lines: Iterator[str], order: int, size: int, max_order: int, path: Path) -> Section:
    """``p<TAB>w_1 ... w_k[<TAB>backoff]`` a line, after a heading that may have been read already."""
    words: list[str] = []
    probs: list[float] = []
    backoffs: list[float] = []
    body = (line for line in lines if line and line != f"\\{order}-grams:")
    for line in islice(body, size):
        columns = line.replace("\t", " ").split(" ")  # not at other white space, which may be in a word
        if "" in columns:
            columns = [column for column in columns if column]
        try:
            if not order + 1 <= len(columns) <= order + 2:
                raise ValueError
            probs.append(float(columns[0]))
            backoffs.append(float(columns[order + 1]) if len(columns) == order + 2 else 0.0)
        except ValueError:
            raise ValueError(f"{path}: not a {order}-gram of an ARPA file: {line!r}") from None
        words += columns[1 : order + 1]
    if len(probs) < size:
        raise ValueError(f"{path} ends after {len(probs)} of {size} {order}-grams; it was cut off, copy it again")
    return words, probs, backoffs


def _check_same(ours: set[str], theirs: set[str], path: Path) -> None:
    if ours == theirs:
        return
    missing, more = sorted(ours - theirs), sorted(theirs - ours)
    raise ValueError(
        f"{path} has another vocabulary: {len(missing)} types are not in the file ({', '.join(missing[:3])}), "
        f"{len(more)} of the file are not in the vocabulary ({', '.join(more[:3])}); "
        "use the vocabulary that the file was made with, or read it without one"
    )


def _build(sections: list[Section], index: dict[str, int], vocab_size: int, eos_id: int, path: Path) -> NgramModel:
    """Tables from the n-grams in any order."""
    base = vocab_size + 1
    tables: list[Table] = []
    for k, (words, probs, backoffs) in enumerate(sections, start=1):
        try:
            symbols = np.fromiter(map(index.__getitem__, words), np.int64, len(words)).reshape(-1, k).T
        except KeyError as error:
            raise ValueError(f"{path}: {error} of a {k}-gram is not among the 1-grams; write the file again") from None
        log_prob, log_backoff = _ln(probs), _ln(backoffs)
        contexts = np.zeros(len(probs), np.int64)
        if k > 1:
            contexts = _rank(tables, symbols[:-1], base)
            if (contexts < 0).any():
                first = " ".join(words[int(contexts.argmin()) * k :][:k])
                raise ValueError(f"{path}: the context of the {k}-gram {first!r} is not in the file; write it whole")
        codes = contexts * base + symbols[-1]
        if k == 1 and BOS not in words:
            codes, log_prob = np.append(codes, vocab_size), np.append(log_prob, -np.inf)
            log_backoff = np.append(log_backoff, 0.0)
        order = np.argsort(codes)
        if (np.diff(codes[order]) == 0).any():
            raise ValueError(f"{path} lists a {k}-gram twice; write it again")
        highest = k == len(sections)
        tables.append(Table(codes[order], log_prob[order], log_backoff[order][: 0 if highest else None]))
    tables[0].log_prob[vocab_size] = -np.inf  # some writers give <s> a probability; it is never predicted
    return NgramModel(tuple(tables), vocab_size, eos_id, "arpa")


def _ln(values: list[float]) -> FloatArray:
    log10 = np.array(values, dtype=np.float64)
    values_ln: FloatArray = np.where(log10 <= ZERO, -np.inf, log10 * _LN10)
    return values_ln


def _rank(tables: Sequence[Table], words: IntArray, base: int) -> IntArray:
    """Rank of n-grams given as columns of words, -1 where they are not in the table."""
    ranks: IntArray = words[0]
    for table, column in zip(tables[1:], words[1:], strict=False):
        wanted = ranks * base + column
        found = np.minimum(np.searchsorted(table.codes, wanted), max(len(table) - 1, 0))
        hit = (ranks >= 0) & (table.codes[found] == wanted) if len(table) else np.zeros(len(wanted), bool)
        ranks = np.where(hit, found.astype(np.int64), -1)
    return ranks
