"""Ids on disk: the figures of Penn Treebank, the file formats, the six kinds of tokenizer, the statistics."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from nextword.config import CorpusParams, TokenizerParams
from nextword.text import coverage_figure, describe_ids, encode_corpus, load_ids, prepare_corpus

KINDS = ("word", "bpe", "unigram", "wordpiece", "char", "byte")
TRAIN = """The cat's hat -- it sat. "Don't!" 'tis <unk> and <unk>
the end of THE first
a literal <eos> here, tabs\tand   spaces  too

Ein Käse für 東京 — naïve cafe\u0301

la la la la la
"""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for split, text in (("train", TRAIN * 3), ("valid", "The dog sat.\n\nJe ne sais pas"), ("test", "the cat <unk>")):
        Path(f"{split}.txt").write_text(text, encoding="utf-8")
    own = {"train": "train.txt", "valid": "valid.txt", "test": "test.txt"}
    prepare_corpus(CorpusParams.model_validate({"source": "text", "text": own}), tmp_path / "corpus")
    return tmp_path / "corpus"


def tokenizer_params(kind: str, **more: Any) -> TokenizerParams:
    size = {"word": None, "char": None, "byte": None, "bpe": 300, "unigram": 80, "wordpiece": 120}[kind]
    return TokenizerParams.model_validate({"kind": kind, "vocab_size": size, **more})


def test_penn_treebank(ptb: Path, tmp_path: Path) -> None:
    own = {split: str(ptb / f"ptb.{split}.txt") for split in ("train", "valid", "test")}
    tree = {"source": "text", "text": own, "allow_outside": True}
    prepare_corpus(CorpusParams.model_validate(tree), tmp_path / "corpus")
    params = TokenizerParams(kind="word", vocab_size=None, lowercase=False, pre_tokenizer="whitespace")
    report = encode_corpus(params, tmp_path / "corpus", tmp_path / "ids")
    encoded = load_ids(tmp_path / "ids")
    assert [encoded[split].num_tokens for split in ("train", "valid", "test")] == [929_589, 73_760, 82_430]
    assert encoded.vocab_size == 10_000 == report["splits"]["train"]["num_types"]
    assert encoded["test"].ids.dtype == np.uint16
    text = (ptb / "ptb.test.txt").read_text()
    assert encoded["test"].num_oov == text.split().count("<unk>") == 4794
    assert encoded.decode(encoded["test"].ids[:100]) in " ".join(text.split(" ")).replace(" \n ", "\n")
    assert encoded["train"].num_documents == 1


@pytest.mark.parametrize("kind", KINDS)
def test_files(corpus: Path, tmp_path: Path, kind: str) -> None:
    report = encode_corpus(tokenizer_params(kind), corpus, tmp_path / "ids")
    encoded = load_ids(tmp_path / "ids")
    meta = json.loads((tmp_path / "ids" / "meta.json").read_text())
    content = (tmp_path / "ids" / "tokenizer.json").read_bytes()
    assert meta["tokenizer_sha256"] == hashlib.sha256(content).hexdigest() == encoded.tokenizer_sha256
    assert encoded.eos_id == 0 and encoded.vocabulary[0] == "<eos>"
    assert encoded.unk_id == (None if kind in ("bpe", "byte") else 1)
    assert encoded.unk_id is None or encoded.vocabulary[1] == "<unk>"
    assert len(set(encoded.vocabulary)) == encoded.vocab_size
    tokenizer = Tokenizer.from_file(str(tmp_path / "ids" / "tokenizer.json"))
    for name in ("train", "valid", "test"):
        split = encoded[name]
        lines = (corpus / f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        by_library = [token for line in lines for token in (*tokenizer.encode(line).ids, 0)]
        assert split.ids.tolist() == by_library == encoded.encode("\n".join(lines)).tolist()
        assert isinstance(split.ids, np.memmap) and split.ids.ndim == 1
        assert split.num_lines == len(lines) == len(split.line_starts) - 1
        assert split.line_starts[-1] == split.num_tokens
        rows = (corpus / f"{name}.documents.tsv").read_text().splitlines()
        first_lines = [int(row.split("\t")[0]) for row in rows]
        assert split.document_starts.tolist() == [*split.line_starts[first_lines], split.num_tokens]
        normal = [tokenizer.normalizer.normalize_str(line) for line in lines]
        assert split.num_bytes == sum(len(line.encode()) + 1 for line in normal)
        assert split.sha256 == hashlib.sha256(split.ids.tobytes()).hexdigest() == meta["splits"][name]["sha256"]
        assert split.num_oov == (0 if encoded.unk_id is None else np.count_nonzero(split.ids == 1))
        assert report["splits"][name]["num_tokens"] == split.num_tokens
    assert "OOV" in describe_ids(report)
    json.dumps(report, allow_nan=False)


def test_sizes_that_compare_tokenizers_are_the_same_for_all(corpus: Path, tmp_path: Path) -> None:
    sizes = set()
    for kind in KINDS:
        encode_corpus(tokenizer_params(kind), corpus, tmp_path / "ids")
        encoded = load_ids(tmp_path / "ids")
        sizes.add(tuple((encoded[s].num_words, encoded[s].num_bytes) for s in ("train", "valid", "test")))
    assert len(sizes) == 1
    assert encoded["test"].num_words == 4


@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "char", "byte"])
def test_same_text_same_files(corpus: Path, tmp_path: Path, kind: str) -> None:
    one, two = (encode_corpus(tokenizer_params(kind), corpus, tmp_path / name) for name in ("one", "two"))
    assert one == two


def test_word_vocabulary_is_of_train_by_frequency(corpus: Path, tmp_path: Path) -> None:
    encode_corpus(tokenizer_params("word", vocab_size=4), corpus, tmp_path / "ids")
    encoded = load_ids(tmp_path / "ids")
    assert encoded.vocabulary == ["<eos>", "<unk>", "la", "the"]
    assert encoded["test"].ids.tolist() == [3, 1, 1, 0]
    assert encoded.decode([3, 1, 0, 2, 0]) == "the <unk>\nla"


def test_words_and_punctuation(corpus: Path, tmp_path: Path) -> None:
    encode_corpus(tokenizer_params("word"), corpus, tmp_path / "ids")
    encoded = load_ids(tmp_path / "ids")
    line = encoded.decode(encoded["train"].ids[: encoded["train"].line_starts[1]])
    assert line == "the cat's hat -- it sat . \" don't ! \" ' tis <unk> and <unk>"
    assert "dog" not in encoded.vocabulary and "café" in encoded.vocabulary


def test_literal_eos_ends_no_line(corpus: Path, tmp_path: Path) -> None:
    params = tokenizer_params("word", pre_tokenizer="whitespace")
    encode_corpus(params, corpus, tmp_path / "ids")
    encoded = load_ids(tmp_path / "ids")
    assert encoded.encode("a <eos> <eos>").tolist()[1:] == [1, 1, 0]


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("byte", 100, "needs 257 .* give at least 257"),
        ("bpe", 100, "needs 257 .* give at least 257"),
        ("wordpiece", 10, r"vocab_size 10 is too small for kind `wordpiece`"),
        ("unigram", 10, "vocab_size 10"),
    ],
)
def test_vocabulary_too_small(corpus: Path, tmp_path: Path, kind: str, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_corpus(tokenizer_params(kind, vocab_size=size), corpus, tmp_path / "ids")
    assert not (tmp_path / "ids").exists()


def test_missing_and_incomplete(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ids has no meta\.json, .* run `dvc repro encode`"):
        load_ids(tmp_path / "ids")
    encode_corpus(tokenizer_params("word"), corpus, tmp_path / "ids")
    ids = tmp_path / "ids" / "train.npy"
    ids.write_bytes(ids.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"train\.npy holds 0 ids, meta.json says"):
        load_ids(tmp_path / "ids")
    with pytest.raises(ValueError, match="no split 'dev'; there are train, valid, test"):
        encode_corpus(tokenizer_params("word"), corpus, tmp_path / "ids")
        load_ids(tmp_path / "ids")["dev"]
    (corpus / "test.txt").unlink()
    with pytest.raises(ValueError, match=r"test\.txt not found; run `dvc repro prepare`"):
        encode_corpus(tokenizer_params("word"), corpus, tmp_path / "ids")


def test_decode_names_ids_out_of_range(corpus: Path, tmp_path: Path) -> None:
    encode_corpus(tokenizer_params("word", vocab_size=4), corpus, tmp_path / "ids")
    with pytest.raises(ValueError, match="ids from 0 to 4; allowed: 0 to 3"):
        load_ids(tmp_path / "ids").decode([0, 4])


def test_coverage_by_hand(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split, text in (("train", "a a a a b b c\n"), ("valid", "a b x x\n"), ("test", "c <unk>\n")):
        (corpus / f"{split}.txt").write_text(text)
        (corpus / f"{split}.documents.tsv").write_text("0\t1\tdocument\n")
    report = encode_corpus(tokenizer_params("word", vocab_size=4), corpus, tmp_path / "ids")
    assert report["coverage"] == [
        {"num_types": 1, "train": 4 / 7, "valid": 0.25, "test": 0.0},
        {"num_types": 2, "train": 6 / 7, "valid": 0.5, "test": 0.0},
        {"num_types": 3, "train": 1.0, "valid": 0.5, "test": 0.5},
    ]
    assert report["zipf"] == [{"rank": 1, "count": 4}, {"rank": 2, "count": 2}, {"rank": 3, "count": 1}]
    assert report["num_types"] == 3 and report["num_types_kept"] == 2 and report["num_singletons"] == 1
    assert [report["splits"][s]["oov_rate"] for s in ("train", "valid", "test")] == [1 / 7, 0.5, 1.0]


@pytest.mark.parametrize("kind", ["word", "byte"])
def test_coverage_figure(corpus: Path, tmp_path: Path, kind: str) -> None:
    figure = coverage_figure(encode_corpus(tokenizer_params(kind), corpus, tmp_path / "ids"))
    figure.savefig(tmp_path / "coverage.svg")
    assert len(figure.axes) == 2
