"""Text: round trips, and the fast ways to ids against the `tokenizers` library's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nextword.config import TokenizerParams
from nextword.text.characters import ByteEncoder, CharacterEncoder
from nextword.text.chunks import ChunkEncoder, WordEncoder
from nextword.text.counting import count_types
from nextword.text.splitting import assign_documents, order_key
from nextword.text.tokenizer import lookup_tokenizer, train_tokenizer

SAMPLE = [
    "The state of the Union -- it's strong.",
    "Ça, où? 東京 and <unk> news",
    "we don't   know \t yet <eos> it",
] * 5

lines = (
    st.text(alphabet=st.one_of(st.sampled_from(" \t'aAbeé\u0301İßΣ-.—東\U0010ffff"), st.characters(codec="utf-8")))
    | st.lists(st.sampled_from(["The", "don't", "<unk>", "<eos>", " ", "\t", "it's--", "x<unk>y", "1,000"])).map(
        " ".join
    )
).map(lambda text: text.replace("\n", " ").replace("\r", " ").strip())


def build(kind: str, lowercase: bool, pre_tokenizer: str = "words_and_punctuation") -> Tokenizer:
    size = {"bpe": 300, "unigram": 60, "wordpiece": 90}.get(kind)
    params = TokenizerParams.model_validate(
        {"kind": kind, "vocab_size": size, "lowercase": lowercase, "pre_tokenizer": pre_tokenizer}
    )
    if kind in ("word", "char"):
        return lookup_tokenizer(params, count_types(params, {"train": [SAMPLE]}).types)
    return train_tokenizer(params, lambda: [SAMPLE])


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", ["word", "whitespace", "bpe", "unigram", "wordpiece", "char", "byte"])
def test_fast_ids_are_those_of_the_library(kind: str, lowercase: bool) -> None:
    tokenizer = build("word", lowercase, kind) if kind == "whitespace" else build(kind, lowercase)
    to_ids: Callable[[list[str]], npt.NDArray[np.uint32]] = ChunkEncoder(tokenizer, keep_runs_of_space=kind == "bpe")
    if kind in ("word", "whitespace"):
        to_ids = WordEncoder(tokenizer)
    elif kind in ("char", "byte"):
        to_ids = CharacterEncoder(tokenizer) if kind == "char" else ByteEncoder(tokenizer)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(lines.filter(bool), min_size=1, max_size=4))
    def check(batch: list[str]) -> None:
        expected = [token for line in batch for token in (*tokenizer.encode(line).ids, 0)]
        assert to_ids(batch).tolist() == expected
        assert expected.count(0) == len(batch)

    check()


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_decode_undoes_encode(kind: str) -> None:
    tokenizer = build(kind, lowercase=False)

    @settings(max_examples=200, deadline=None)
    @given(st.text())
    def check(text: str) -> None:
        text = unicodedata.normalize("NFC", text)
        if unicodedata.normalize("NFC", tokenizer.normalizer.normalize_str(text)) == text:  # same Unicode version
            assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text

    check()


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 10_000), min_size=3, max_size=60),
    shares=st.tuples(st.floats(0.01, 0.49), st.floats(0.01, 0.49)),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_split_by_document(sizes: list[int], shares: tuple[float, float], seed: int, data: st.DataObject) -> None:
    keys = np.array([order_key(f"document {number}", seed) for number in range(len(sizes))], dtype=np.uint64)
    num_bytes = np.array(sizes)
    labels = assign_documents(keys, num_bytes, *shares)
    assert set(labels) == {0, 1, 2}
    total, largest = sum(sizes), max(sizes)
    for label, share in ((1, shares[0]), (2, shares[1])):
        assert abs(num_bytes[labels == label].sum() - share * total) <= 2 * largest
    order = np.array(data.draw(st.permutations(range(len(sizes)))))
    if len(set(sizes)) == len(sizes):
        assert (assign_documents(keys[order], num_bytes[order], *shares) == labels[order]).all()


def test_more_train_documents_move_few_others() -> None:
    """The split hangs on the names: a new file does not deal all others anew."""
    keys = np.array([order_key(str(number), 0) for number in range(1001)], dtype=np.uint64)
    sizes = np.ones(1001, dtype=np.int64)
    moved = assign_documents(keys, sizes, 0.1, 0.1)[:1000] != assign_documents(keys[:1000], sizes[:1000], 0.1, 0.1)
    assert np.count_nonzero(moved) <= 3
