"""UTF-8 text as a stream of lines: any line ends, bounded memory whatever the length of text or line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nextword.text.dropped import Dropped

CHUNK_BYTES = 1 << 20
MAX_LINE_CHARACTERS = 100_000
"""Longer lines are cut at white space, so that a file without line ends streams too."""


def read_lines(path: Path, dropped: Dropped) -> Iterator[str]:
    """As :func:`decode_lines`, of a file."""
    with path.open("rb") as file:
        yield from decode_lines(file, str(path), dropped)


def decode_lines(file: BinaryIO, name: str, dropped: Dropped) -> Iterator[str]:
    """Yield the lines of UTF-8 text without the white space around them; blank lines are yielded as ``""``.

    Line ends may be LF, CRLF or CR; a byte order mark is skipped. A line of more than ``MAX_LINE_CHARACTERS`` is
    yielded in several pieces, cut at white space where there is some.

    Args:
        file: open for reading, at its start.
        name: by which messages call it.
        dropped: told of each line that is cut.

    Raises:
        ValueError: a byte is not UTF-8; the message has its offset in the file.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    offset, rest = 0, ""
    while True:
        chunk = file.read(CHUNK_BYTES)
        num_pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            place = offset - num_pending + error.start
            raise ValueError(
                f"{name} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {place}; "
                f"save it as UTF-8, e.g. `iconv -f latin1 -t utf-8 IN > OUT`"
            ) from None
        text = newlines.decode(text, final=not chunk)
        text = text.removeprefix("\ufeff") if offset == 0 else text
        offset += len(chunk)
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield from cut_line(line, dropped)
        *pieces, rest = _cut(rest, dropped)
        yield from pieces
        if not chunk:
            break
    if rest.strip():
        yield rest.strip()


def with_line_feeds(text: str) -> str:
    """The text with the line ends that :func:`decode_lines` knows as LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cut_line(line: str, dropped: Dropped) -> list[str]:
    """The line without the white space around it, in pieces of at most ``MAX_LINE_CHARACTERS``."""
    if len(line) <= MAX_LINE_CHARACTERS:
        return [line.strip()]
    *pieces, rest = _cut(line, dropped)
    return [*pieces, rest.strip()]


def _cut(line: str, dropped: Dropped) -> list[str]:
    """Pieces of at most ``MAX_LINE_CHARACTERS``; the last one may still grow and keeps its white space."""
    pieces = []
    while len(line) > MAX_LINE_CHARACTERS:
        end = line.rfind(" ", 1, MAX_LINE_CHARACTERS) + 1 or MAX_LINE_CHARACTERS
        dropped.add(f"line end missing after {MAX_LINE_CHARACTERS:,} characters: cut here", line[end - 20 : end + 20])
        pieces.append(line[:end].strip())
        line = line[end:]
    return [piece for piece in pieces if piece] + [line]
