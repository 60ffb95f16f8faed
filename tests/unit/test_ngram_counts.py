"""Counts of a text small enough to count by hand, and the errors of a wrong call."""

import numpy as np
import pytest

from nextword.ngram import count_ngrams
from nextword.ngram.counts import NgramCounts

# 0 <eos>, 1 a, 2 b, 3 c (never occurs); <s> is 4.
LINES = [[1, 2, 1, 0], [1, 2, 0], [0]]
IDS = np.array([id for line in LINES for id in line])


def by_words(counts: NgramCounts, order: int) -> dict[tuple[int, ...], int]:
    """The table of one order as a dict."""

    def words(k: int, rank: int) -> tuple[int, ...]:
        context, word = divmod(int(counts[k].codes[rank]), counts.vocab_size + 1)
        return ((*words(k - 1, context), word)) if k > 1 else (word,)

    return {words(order, rank): int(counts[order].counts[rank]) for rank in range(len(counts[order]))}


def naive(lines: list[list[int]], bos: int, order: int) -> dict[tuple[int, ...], int]:
    found: dict[tuple[int, ...], int] = {}
    for line in lines:
        padded = [bos, *line]
        for i in range(len(padded) - order + 1):
            ngram = tuple(padded[i : i + order])
            found[ngram] = found.get(ngram, 0) + 1
    return found


def test_counts_by_hand() -> None:
    counts = count_ngrams(IDS, eos_id=0, max_order=3, vocab_size=4)
    assert by_words(counts, 1) == {(0,): 3, (1,): 3, (2,): 2, (3,): 0, (4,): 0}
    assert by_words(counts, 2) == {(4, 1): 2, (4, 0): 1, (1, 2): 2, (2, 1): 1, (2, 0): 1, (1, 0): 1}
    assert by_words(counts, 3) == {(4, 1, 2): 2, (1, 2, 1): 1, (2, 1, 0): 1, (1, 2, 0): 1}
    # different words before: <eos> after a, b, <s>; a after <s>, b; b after a
    assert counts.continuation(1).tolist() == [3, 2, 1, 0, 0]
    # n-grams that start with <s> keep their count
    adjusted = dict(zip(by_words(counts, 2), counts.continuation(2).tolist(), strict=True))
    assert adjusted == {(4, 1): 2, (4, 0): 1, (1, 2): 1, (2, 1): 1, (2, 0): 1, (1, 0): 1}
    assert counts[3].first_bos == 3 and len(counts[3]) == 4


@pytest.mark.parametrize("vocab_size, dtype", [(4, np.uint8), (300, np.uint16), (70_000, np.int64)])
def test_counts_equal_a_dictionary(vocab_size: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lines = [[*np.minimum(rng.geometric(0.3, rng.integers(0, 9)), vocab_size - 1).tolist(), 0] for _ in range(200)]
    ids = np.array([id for line in lines for id in line], dtype=dtype)
    for slice_size in (1, 50, 1 << 17):  # groups are cut into many slices, few, one
        monkeypatch.setattr("nextword.ngram.counting._SLICE", slice_size)
        counts = count_ngrams(ids, eos_id=0, max_order=6, vocab_size=vocab_size)
        for order in range(1, 7):
            table = {ngram: count for ngram, count in by_words(counts, order).items() if count}
            expected = naive(lines, vocab_size, order)
            expected.pop((vocab_size,), None)
            assert table == expected
            assert (np.diff(counts[order].codes) > 0).all()


def test_suffixes_point_to_the_ngram_without_its_first_word() -> None:
    counts = count_ngrams(IDS, eos_id=0, max_order=3, vocab_size=4)
    for order in (2, 3):
        ngrams, lower = list(by_words(counts, order)), list(by_words(counts, order - 1))
        assert [lower[rank] for rank in counts[order].suffixes] == [ngram[1:] for ngram in ngrams]


def test_lines_shorter_than_the_order() -> None:
    counts = count_ngrams(np.array([1, 0, 0]), eos_id=0, max_order=5, vocab_size=2)
    assert [len(counts[order]) for order in range(1, 6)] == [3, 3, 1, 0, 0]


def test_ngram_that_lmplz_meets_last() -> None:
    # b appears last; before it stand only a; before a b stands <s> in both lines
    assert count_ngrams(IDS, 0, 3, 4).last_words == (4, 1, 2)
    assert count_ngrams(np.array([0, 0]), 0, 3, 1).last_words == (1, 0)


@pytest.mark.parametrize(
    "ids, arguments, message",
    [
        ([], {}, "training text is empty"),
        ([1, 0], {"max_order": 0}, "order 0 is below 1"),
        ([1, 4, 0], {}, "id 4 is not in the vocabulary of 4 ids"),
        ([1, -1, 0], {}, "id -1 is not in the vocabulary"),
        ([1, 2], {}, "the last id is 2, not eos_id 0"),
        ([1, 0], {"eos_id": 4}, "eos_id 4 is not in"),
        ([0.5, 0], {}, "1-D integer array"),
    ],
)
def test_errors(ids: list[int], arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_ngrams(
            np.array(ids, dtype=None if ids else int), **{"eos_id": 0, "max_order": 2, "vocab_size": 4} | arguments
        )
