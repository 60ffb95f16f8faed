"""Source `text`: reading, splitting, and every way in which the user's files can be wrong."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nextword.commands import texts
from nextword.config import CorpusParams
from nextword.text import prepare_corpus
from nextword.text.dropped import Dropped
from nextword.text.reading import CHUNK_BYTES, MAX_LINE_CHARACTERS, read_lines


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def params(split: dict[str, Any] | None = None, allow_outside: bool = False, **text: Any) -> CorpusParams:
    tree = {"source": "text", "text": text, "split": split or {}, "allow_outside": allow_outside}
    return CorpusParams.model_validate(tree)


def prepare(**text: Any) -> dict[str, Any]:
    return prepare_corpus(params(**text), Path("data/corpus"))


def read(split: str) -> list[str]:
    return Path(f"data/corpus/{split}.txt").read_text(encoding="utf-8").splitlines()


def test_own_splits(project: Path) -> None:
    for split in ("train", "valid", "test"):
        Path(f"{split}.txt").write_bytes(f"\ufeff  {split} one \r\n\r\n\r\nMore of {split}\rend".encode())
    report = prepare(train="train.txt", valid="valid.txt", test="test.txt")
    assert read("valid") == ["valid one", "More of valid", "end"]
    assert Path("data/corpus/valid.documents.tsv").read_text() == "0\t1\tvalid.txt#1\n1\t2\tvalid.txt#2\n"
    assert report["split"] == {"by": "source"}
    assert report["splits"]["valid"]["num_documents"] == 2
    assert report["splits"]["valid"]["num_bytes"] == Path("data/corpus/valid.txt").stat().st_size


def test_folder_is_split_by_file_whatever_its_order(project: Path) -> None:
    names = [f"{n}.txt" for n in range(40)]
    for folder, order in (("a", names), ("b", names[::-1])):
        Path(folder).mkdir()
        for name in order:
            Path(folder, name).write_text(f"text of {name}\n\nmore\n")
    one, two = prepare(path="a"), prepare(path="b")
    assert one["splits"] == two["splits"] and one["documents"] == two["documents"]
    assert {split: len(names) for split, names in one["documents"].items()} == {"train": 32, "valid": 4, "test": 4}
    assert len(read("train")) == 64
    assert one["document"] == "file"


@pytest.mark.parametrize(("documents", "num_documents"), [("blank_line", 4), ("line", 8)])
def test_documents_of_one_file(project: Path, documents: str, num_documents: int) -> None:
    Path("book.txt").write_text("a\nb\n\n\nc\nd\n \t\ne\nf\n\ng\nh")
    report = prepare(path="book.txt", documents=documents)
    assert sum(split["num_documents"] for split in report["splits"].values()) == num_documents
    assert sorted(read("train") + read("valid") + read("test")) == list("abcdefgh")


def test_few_documents_fill_every_split(project: Path) -> None:
    Path("book.txt").write_text("small\n\n" + "large " * 1000 + "\n\nmiddle sized\n")
    prepare(path="book.txt")
    assert read("train")[0].startswith("large")
    assert sorted(read("valid") + read("test")) == ["middle sized", "small"]


def test_long_line_is_cut(project: Path) -> None:
    Path("long.txt").write_text("word " * MAX_LINE_CHARACTERS)
    dropped = Dropped()
    lines = list(read_lines(Path("long.txt"), dropped))
    assert " ".join(lines) == ("word " * MAX_LINE_CHARACTERS).strip()
    assert len(lines) == 5 and max(map(len, lines)) <= MAX_LINE_CHARACTERS
    assert next(iter(dropped.report().values()))["count"] == 4


def test_long_line_without_space_is_cut(project: Path) -> None:
    Path("long.txt").write_text("é" * (2 * MAX_LINE_CHARACTERS + 1) + "\nb")
    assert list(map(len, read_lines(Path("long.txt"), Dropped()))) == [MAX_LINE_CHARACTERS] * 2 + [1, 1]


def test_line_end_and_character_across_chunks(project: Path) -> None:
    content = b"a" * (CHUNK_BYTES - 1) + "é".encode() + b"\n"
    content += b"b" * (2 * CHUNK_BYTES - 1 - len(content)) + b"\r\nend"
    Path("edge.txt").write_bytes(content)
    text = "".join(read_lines(Path("edge.txt"), Dropped()))
    assert text == content.decode().replace("\r", "").replace("\n", "")


def test_standard_input_is_read_as_a_file_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(content: bytes) -> list[str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        given = list(texts._lines("-"))
        Path("given.txt").write_bytes(content)
        assert given == list(texts._lines("given.txt"))
        return given

    assert lines("\ufeff one\r\n\rtwo ".encode()) == ["one", "", "two"]
    assert max(map(len, lines(b"word " * MAX_LINE_CHARACTERS))) <= MAX_LINE_CHARACTERS
    with pytest.raises(ValueError, match=r"standard input is not UTF-8: byte 0xe9 at offset 3; save it as UTF-8"):
        lines(b"caf\xe9\n")


@pytest.mark.parametrize("before", [b"", b"caf\xc3\xa9\n", b"x" * (CHUNK_BYTES - 1) + b"\xc3\xa9" + b"y" * CHUNK_BYTES])
def test_not_utf8_names_file_and_offset(project: Path, before: bytes) -> None:
    Path("latin.txt").write_bytes(before + b"\xe9t\xe9")
    with pytest.raises(ValueError, match=rf"latin\.txt is not UTF-8: byte 0xe9 at offset {len(before)};.*iconv"):
        prepare(path="latin.txt")


def test_truncated_character_at_the_end(project: Path) -> None:
    Path("cut.txt").write_bytes(b"abc\xc3")
    with pytest.raises(ValueError, match="byte 0xc3 at offset 3"):
        list(read_lines(Path("cut.txt"), Dropped()))


def test_error_keeps_what_was_there(project: Path) -> None:
    Path("good.txt").write_text("a\n\nb\n\nc\n")
    prepare(path="good.txt")
    before = {path: path.read_bytes() for path in Path("data/corpus").iterdir()}
    Path("bad.txt").write_bytes(b"a\n\nb\n\nc\n\n\xff")
    with pytest.raises(ValueError, match="offset 9"):
        prepare(path="bad.txt")
    with pytest.raises(ValueError, match="offset 9"):
        prepare(train="good.txt", valid="bad.txt", test="bad2.txt") if Path("bad2.txt").write_text("x") else None
    assert {path: path.read_bytes() for path in Path("data/corpus").iterdir()} == before
    assert [path.name for path in Path("data").iterdir()] == ["corpus"]


def test_missing(project: Path) -> None:
    with pytest.raises(ValueError, match=r"corpus\.text\.path: nowhere\.txt does not exist; give a UTF-8 text file"):
        prepare(path="nowhere.txt")
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"the folder empty holds no \*\.txt file"):
        prepare(path="empty")
    assert not Path("data").exists()


@pytest.mark.parametrize("content", ["", "\n \n\t\n"])
def test_empty(project: Path, content: str) -> None:
    Path("empty.txt").write_text(content)
    with pytest.raises(ValueError, match=r"empty\.txt holds no text"):
        prepare(path="empty.txt")


def test_too_few_documents(project: Path) -> None:
    Path("two.txt").write_text("a\n\nb\n")
    with pytest.raises(ValueError, match=r"has 2 document\(s\); a split by document needs at least 3"):
        prepare(path="two.txt")
    assert not Path("data").exists()


def test_same_file_in_two_splits(project: Path) -> None:
    Path("a.txt").write_text("a")
    Path("b.txt").write_text("b")
    with pytest.raises(ValueError, match=r"a\.txt is in train and in test"):
        prepare(train="a.txt", valid="b.txt", test="a.txt")


@pytest.mark.parametrize("way", ["../outside.txt", "link.txt", "folder"])
def test_outside_the_project(project: Path, way: str) -> None:
    outside = project.parent / "outside.txt"
    outside.write_text("a\n\nb\n\nc\n")
    Path("link.txt").symlink_to(outside)
    Path("folder").mkdir()
    for name in "123":
        Path("folder", f"{name}.txt").symlink_to(outside if name == "1" else project / f"{name}.txt")
        Path(f"{name}.txt").write_text("inside")
    with pytest.raises(ValueError, match=r"lies outside the project folder .*allow_outside: true"):
        prepare(path=way)
    assert prepare_corpus(params(path=way, allow_outside=True), Path("data/corpus"))["source"] == "text"


def test_a_name_that_is_not_utf8(project: Path) -> None:
    Path("folder").mkdir()
    try:
        Path(os.fsdecode(b"folder/caf\xe9.txt")).write_text("text")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match=r"corpus\.text\.path: .*'folder/caf\\udce9\.txt' is not UTF-8; rename it"):
        prepare(path="folder")


def test_foreign_folder_is_not_replaced(project: Path) -> None:
    Path("book.txt").write_text("a\n\nb\n\nc\n")
    with pytest.raises(ValueError, match=r"\. holds book\.txt, which was not made here"):
        prepare_corpus(params(path="book.txt"), Path("."))
    with pytest.raises(ValueError, match=r"book\.txt is a file"):
        prepare_corpus(params(path="book.txt"), Path("book.txt"))


def test_importing_is_cheap() -> None:
    code = "import sys, nextword.text; print({'datasets', 'matplotlib', 'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run(["python", "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
