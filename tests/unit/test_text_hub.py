"""Source `hub`, on datasets that lie on disk; nothing here uses the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nextword.config import CorpusParams
from nextword.text import prepare_corpus
from nextword.text.dropped import Dropped
from nextword.text.reading import MAX_LINE_CHARACTERS, read_lines

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    for split, number in (("train", 30), ("validation", 3), ("test", 3)):
        lines = [json.dumps({"body": f"{split} row {n}\n second line ", "label": n}) for n in range(number)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


def prepare(folder: Path, out: Path, **hub: Any) -> dict[str, Any]:
    tree = {"source": "hub", "hub": {"name": str(folder), "text_column": "body", **hub}}
    return prepare_corpus(CorpusParams.model_validate(tree), out)


def test_own_splits(rows: Path, tmp_path: Path) -> None:
    report = prepare(rows, tmp_path / "out")
    assert report["splits"]["train"]["num_documents"] == 30 and report["splits"]["train"]["num_lines"] == 60
    assert (tmp_path / "out" / "valid.txt").read_text().splitlines()[:2] == ["validation row 0", "second line"]
    assert (tmp_path / "out" / "valid.documents.tsv").read_text().splitlines()[1] == "2\t2\tvalid#2"


def test_a_split_as_one_document(rows: Path, tmp_path: Path) -> None:
    report = prepare(rows, tmp_path / "out", documents="split")
    assert report["splits"]["train"]["num_documents"] == 1 and report["splits"]["train"]["num_lines"] == 60


def test_split_by_document(rows: Path, tmp_path: Path) -> None:
    report = prepare(rows, tmp_path / "out", valid=None, test=None)
    assert report["split"]["split_off_train"] == ["valid", "test"]
    assert {s: split["num_documents"] for s, split in report["splits"].items()} == {"train": 24, "valid": 3, "test": 3}


def test_only_valid_is_split_off(rows: Path, tmp_path: Path) -> None:
    report = prepare(rows, tmp_path / "out", valid=None)
    assert report["split"]["split_off_train"] == ["valid"]
    assert {s: split["num_documents"] for s, split in report["splits"].items()} == {"train": 27, "valid": 3, "test": 3}


def test_long_lines_are_cut_as_those_of_files_are(rows: Path, tmp_path: Path) -> None:
    (rows / "test.jsonl").write_text(json.dumps({"body": "word " * MAX_LINE_CHARACTERS, "label": 0}))
    report = prepare(rows, tmp_path / "out")
    assert report["splits"]["test"]["num_lines"] == 5
    assert next(iter(report["dropped"].values()))["count"] == 4
    written = (tmp_path / "out" / "test.txt").read_text().splitlines()
    assert list(read_lines(tmp_path / "out" / "test.txt", Dropped())) == written


def test_wrong_column_and_split(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no column 'text'; it has body, label"):
        prepare(rows, tmp_path / "out", text_column="text")
    with pytest.raises(ValueError, match="holds int, not text"):
        prepare(rows, tmp_path / "out", text_column="label")
    with pytest.raises(ValueError, match=r"no split .dev.; it has train, validation, test: .* null to split it off"):
        prepare(rows, tmp_path / "out", valid="dev")
    assert not (tmp_path / "out").exists()


def test_offline_names_the_alternatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'nobody/nothing'.* could not be loaded(.|\n)*`sotu`.*`text`"):
        prepare(Path("nobody/nothing"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
