"""Source ``text``: the user's own UTF-8 files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from nextword.config import TextSource
from nextword.text.dropped import Dropped
from nextword.text.reading import read_lines
from nextword.text.source import SPLITS, Document


class TextFiles:
    """Files or folders of ``*.txt``, with the user's own splits or one to be split by document.

    In a folder each file is one document; ``documents`` says what separates the documents inside a single file.

    Raises:
        ValueError: a path is missing, outside the project folder, or holds no text file.
    """

    def __init__(self, params: TextSource, allow_outside: bool) -> None:
        if params.path is not None:
            given = {"train": ("corpus.text.path", params.path)}
        else:
            own = {"train": params.train, "valid": params.valid, "test": params.test}
            given = {split: (f"corpus.text.{split}", path) for split, path in own.items() if path is not None}
        self.splits = tuple(split for split in SPLITS if split in given)
        self._separator = params.documents
        self._roots = {split: Path(path) for split, (_, path) in given.items()}
        self._files = {split: _text_files(key, Path(path), allow_outside) for split, (key, path) in given.items()}
        owner: dict[Path, str] = {}
        for split, files in self._files.items():
            for file in files:
                other = owner.setdefault(file.resolve(), split)
                if other != split:
                    raise ValueError(f"{file} is in {other} and in {split}; give each split its own files")

    def documents(self, split: str, dropped: Dropped) -> Iterator[Document]:
        """Stream the documents, files in order of their names."""
        root = self._roots[split]
        for file in self._files[split]:
            lines = read_lines(file, dropped)
            first = next((line for line in lines if line), None)
            if first is None:
                raise ValueError(f"{file} holds no text; remove it, or fill it")
            lines = chain([first], lines)
            if root.is_dir() or self._separator == "file":
                yield Document(file.relative_to(root).as_posix() if root.is_dir() else file.name, lines)
            else:
                yield from cut_documents(file.name, lines, self._separator)

    def describe(self) -> dict[str, Any]:
        """The paths as given."""
        return {
            "source": "text",
            "paths": {split: str(path) for split, path in self._roots.items()},
            "num_files": {split: len(files) for split, files in self._files.items()},
            "line": "line",
            "document": "file" if any(root.is_dir() for root in self._roots.values()) else self._separator,
        }


def cut_documents(name: str, lines: Iterator[str], separator: Literal["blank_line", "line"]) -> Iterator[Document]:
    """Cut a stream of lines into documents ``name#1``, ``name#2``, ... at blank lines or at every line.

    >>> [(name, list(lines)) for name, lines in cut_documents("a", iter(["x", "y", "", "", "z"]), "blank_line")]
    [('a#1', ['x', 'y']), ('a#2', ['z'])]
    """
    number = 0
    for first in lines:
        if first:
            number += 1
            rest = iter(lines.__next__, "") if separator == "blank_line" else iter(())
            yield Document(f"{name}#{number}", chain([first], rest))


def _text_files(key: str, path: Path, allow_outside: bool) -> list[Path]:
    if not path.exists():
        raise ValueError(f"{key}: {path} does not exist; give a UTF-8 text file or a folder of *.txt files")
    files = sorted(path.rglob("*.txt"), key=lambda file: file.relative_to(path).as_posix()) if path.is_dir() else [path]
    files = [file for file in files if not file.is_dir()]
    if not files:
        raise ValueError(f"{key}: the folder {path} holds no *.txt file; give each document a name that ends in .txt")
    project = Path.cwd().resolve()
    for file in [path, *files]:
        if not _is_utf8(str(file)):
            raise ValueError(f"{key}: the name of the file {str(file)!a} is not UTF-8; rename it")
        if not allow_outside and not file.resolve().is_relative_to(project):
            raise ValueError(
                f"{key}: {file} lies outside the project folder {project}; "
                f"copy it into the project, or set corpus.allow_outside: true"
            )
        if not file.exists():
            raise ValueError(f"{key}: {file} is a link to a file that does not exist; mend or remove it")
    return files


def _is_utf8(name: str) -> bool:
    """Whether a name of the file system is text: other bytes in it are lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
