"""KenLM: its discounts and perplexities on Penn Treebank, its reading of our ARPA files, our reading of its files."""

import gzip
from functools import cache
from pathlib import Path

import kenlm
import numpy as np
import pytest

from nextword.ngram import NgramCounts, NgramModel, count_ngrams, estimate, read_arpa, write_arpa

LN10 = np.log(10)

# Printed by lmplz (D1 D2 D3+ by order), Penn Treebank with its <unk> renamed.
DISCOUNTS = [
    [0.25656, 0.82888, 1.26492],
    [0.727802, 1.09876, 1.4713],
    [0.868879, 1.25462, 1.44822],
    [0.942828, 1.38314, 1.43173],
    [0.959671, 1.3879, 1.24171],
]
TYPES = [10_002, 264_990, 586_558, 717_733, 737_952]

# A 3-gram model in the format of lmplz. "c b", the end of the 3-gram "b c b", is not listed, as after pruning.
KENLM_ARPA = """\\data\\
ngram 1=6
ngram 2=5
ngram 3=3

\\1-grams:
-1.2\t<unk>\t0
0\t<s>\t-0.31
-0.8\t</s>\t0
-0.5\ta\t-0.22
-0.7\tb\t-0.12
-0.9\tc\t-0.05

\\2-grams:
-0.3\t<s> a\t-0.11
-0.4\ta b\t-0.2
-0.45\tb </s>\t0
-0.62\tb a\t-0.33
-0.55\tb c\t0

\\3-grams:
-0.15\t<s> a b
-0.25\ta b a
-0.17\tb c b

\\end\\
"""


@cache
def penn_treebank(folder: Path) -> tuple[NgramCounts, list[str], list[list[int]]]:
    """Counts, vocabulary and test lines; type 1 is KenLM's own <unk>, which never occurs."""
    index = {"</s>": 0, "<unk>": 1}

    def lines(split: str) -> list[list[int]]:
        text = (folder / f"ptb.{split}.txt").read_text(encoding="utf-8").replace("<unk>", "<UNK>")
        return [[index.setdefault(word, len(index)) for word in [*line.split(), "</s>"]] for line in text.splitlines()]

    train, test = lines("train"), lines("test")
    ids = np.array([id for line in train for id in line])
    return count_ngrams(ids, 0, 5, len(index)), list(index), test


def test_modified_kneser_ney_is_lmplz(ptb: Path) -> None:
    counts, _, lines = penn_treebank(ptb)
    test = np.array([id for line in lines for id in line])
    assert [len(level) for level in counts.orders] == TYPES
    for order, perplexity in ((3, 148.2815), (5, 141.1862)):
        model = estimate(counts, "modified_kneser_ney", order)
        assert np.exp(model.score_ids(test).mean()) == pytest.approx(perplexity, rel=1e-6)
        assert model.notes == ()
    np.testing.assert_allclose(model.parameters["discounts"], DISCOUNTS, atol=1e-5)


def test_kenlm_scores_our_arpa_as_we_do(ptb: Path, tmp_path: Path) -> None:
    """log10 of each test line, to 1e-4."""
    counts, vocabulary, lines = penn_treebank(ptb)
    model = estimate(counts, "modified_kneser_ney", 3)
    write_arpa(model, vocabulary, tmp_path / "model.arpa")
    theirs = kenlm.Model(str(tmp_path / "model.arpa"))
    ours = -model.score_ids(np.array([id for line in lines for id in line])) / LN10
    ends = np.cumsum([len(line) for line in lines])
    by_line = np.add.reduceat(ours, np.concatenate([[0], ends[:-1]]))
    scored = [theirs.score(" ".join(vocabulary[id] for id in line[:-1])) for line in lines]
    np.testing.assert_allclose(by_line, scored, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "smoothing", ["modified_kneser_ney", "katz", "jelinek_mercer", "add_k", "absolute_discounting"]
)
def test_every_smoothing_survives_arpa(smoothing: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = rng.geometric(0.15, 4000).clip(max=19)
    ids[rng.random(4000) < 0.1] = 0
    ids[-1] = 0
    vocabulary = ["<eos>", "<unk>", *(f"w{i}" for i in range(2, 20)), "never"]
    model = estimate(count_ngrams(ids[:3000], 0, 4, 21) if ids[2999] == 0 else count_ngrams(
        np.append(ids[:3000], 0), 0, 4, 21), smoothing, 4, held_out=ids[3000:])  # fmt: skip
    write_arpa(model, vocabulary, tmp_path / "model.arpa")
    theirs = kenlm.Model(str(tmp_path / "model.arpa"))
    back, same = read_arpa(tmp_path / "model.arpa")
    assert same == ["</s>", *vocabulary[1:]]
    np.testing.assert_allclose(back.score_ids(ids), model.score_ids(ids), rtol=1e-8)
    for line in np.split(ids, np.flatnonzero(ids == 0) + 1)[:-1]:
        words = " ".join(vocabulary[id] for id in line[:-1])
        assert theirs.score(words) == pytest.approx(-model.score_ids(line).sum() / LN10, abs=1e-4)


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_we_read_a_kenlm_file_as_kenlm_does(name: str, tmp_path: Path) -> None:
    path, plain = tmp_path / name, tmp_path / "plain.arpa"
    path.write_bytes(gzip.compress(KENLM_ARPA.encode()) if name.endswith("gz") else KENLM_ARPA.encode())
    plain.write_text(KENLM_ARPA, encoding="utf-8")
    model, vocabulary = read_arpa(path)
    assert vocabulary == ["</s>", "<unk>", "a", "b", "c"]
    theirs = kenlm.Model(str(plain))
    rng = np.random.default_rng(0)
    for length in [0, 1, 2, 3, 5, 8, 12] * 20:
        line = np.append(rng.integers(1, 5, length), 0)
        expected = [score for score, _, _ in theirs.full_scores(" ".join(vocabulary[id] for id in line[:-1]))]
        np.testing.assert_allclose(-model.score_ids(line) / LN10, expected, atol=1e-5)


def test_reading_with_a_given_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(KENLM_ARPA, encoding="utf-8")
    default, _ = read_arpa(path)
    model, vocabulary = read_arpa(path, ["c", "a", "<eos>", "b", "<unk>"], eos_id=2)
    assert vocabulary[2] == "<eos>" and model.eos_id == 2
    np.testing.assert_allclose(model.score_ids(np.array([1, 3, 0, 2])), default.score_ids(np.array([2, 3, 4, 0])))
    with pytest.raises(ValueError, match=r"2 types are not in the file \(d, e\), 1 of the file are not .* \(c\)"):
        read_arpa(path, ["<eos>", "a", "b", "d", "e", "<unk>"])


def test_types_with_white_space(tmp_path: Path) -> None:
    model = estimate(count_ngrams(np.array([1, 2, 3, 0, 2, 1, 0]), 0, 2, 4), "kneser_ney", 2)
    write_arpa(model, ["<eos>", " ", "\\", "\u00a0x"], tmp_path / "model.arpa")
    back, vocabulary = read_arpa(tmp_path / "model.arpa")
    assert vocabulary == ["</s>", " ", "\\", "\u00a0x"]
    np.testing.assert_allclose(back.score_ids(np.array([1, 3, 0])), model.score_ids(np.array([1, 3, 0])), rtol=1e-8)
    assert isinstance(back, NgramModel)


def test_mle_zeros_survive_arpa(tmp_path: Path) -> None:
    model = estimate(count_ngrams(np.array([1, 2, 0, 2, 1, 0]), 0, 3, 3), "mle", 3)
    write_arpa(model, ["<eos>", "a", "b"], tmp_path / "model.arpa")
    back, _ = read_arpa(tmp_path / "model.arpa")
    for line in ([1, 2, 0], [1, 1, 0], [2, 2, 2, 0], [0]):
        np.testing.assert_allclose(back.score_ids(np.array(line)), model.score_ids(np.array(line)), atol=1e-8)


@pytest.mark.parametrize(
    "change, message",
    [
        (("\\data\\", "data"), "not an ARPA file"),
        (("ngram 3=3", "ngram 3=4"), "ends after|not a 3-gram"),
        (("-0.4\ta b", "x\ta b"), "not a 2-gram"),
        (("-0.4\ta b", "-0.4\ta d"), "'d' of a 2-gram is not among the 1-grams"),
        (("-0.4\ta b", "-0.4\tb a"), "lists a 2-gram twice"),
        (("ngram 1=6", "ngram one"), "no `ngram 1="),
        (("b c b", "c a b"), "context of the 3-gram 'c a b' is not in the file"),
    ],
)
def test_damaged_files(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(KENLM_ARPA.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_arpa(path)


@pytest.mark.parametrize("vocabulary", [["</s>", "<s>", "b"], ["</s>", "a", "a"], ["</s>", "", "b"], ["</s>", "a"]])
def test_vocabularies_that_cannot_be_written(vocabulary: list[str], tmp_path: Path) -> None:
    model = estimate(count_ngrams(np.array([1, 2, 0]), 0, 2, 3), "kneser_ney", 2)
    with pytest.raises(ValueError, match="vocabulary"):
        write_arpa(model, vocabulary, tmp_path / "model.arpa")
