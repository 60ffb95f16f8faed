"""A long text is read from disk as it is used: memory does not grow with it."""

import json
import tracemalloc

import numpy as np
import pytest

from nextword.evaluation.neural import head
from nextword.evaluation.rule import Scorer
from nextword.text.ids import EncodedCorpus, IdsWriter, load_ids, smallest_dtype
from nextword.text.source import SPLITS
from nextword.text.streams import Columns, segment_windows

NUM_TYPES = 100_000
SIZES = {"train": 8_000_000, "valid": 5_000, "test": 5_000}
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    folder, rng = tmp_path_factory.mktemp("large"), np.random.default_rng(0)
    splits = {}
    for split in SPLITS:
        ids = (NUM_TYPES ** rng.random(SIZES[split], np.float32)).astype(np.uint32) - 1  # Zipf's law; <eos> is 0
        ids[-1] = 0
        with IdsWriter(folder / f"{split}.npy", smallest_dtype(NUM_TYPES)) as writer:
            writer.append(ids)
        np.save(folder / f"{split}.documents.npy", np.array([0, len(ids)]))
        lines = int(np.count_nonzero(ids == 0))
        splits[split] = {"num_tokens": len(ids), "num_lines": lines, "num_words": len(ids), "num_bytes": 5 * len(ids),
                         "num_oov": 0, "sha256": ""}  # fmt: skip
    meta = {"kind": "word", "vocab_size": NUM_TYPES, "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "", "splits": splits}
    (folder / "meta.json").write_text(json.dumps(meta))
    for name in ("tokenizer.json", "vocabulary.json"):
        (folder / name).write_text("{}")
    return load_ids(folder)


def test_memory_is_flat(corpus: EncodedCorpus) -> None:
    """The ids are 32 MB on disk. What evaluation needs of them and a pass through them holds some MB at a time."""
    corpus = load_ids(corpus.folder)  # nothing cached
    tracemalloc.start()
    try:
        columns = Columns(corpus["train"].ids, 20, 35)
        num_read = sum(window.size for window in columns)
        sample = head(corpus["train"], 2_000)
        Scorer(corpus, sample)
        scored = sum(int((w.place >= 0).sum()) for w in segment_windows(sample.ids, sample.line_starts, 32, 256))
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_read == SIZES["train"] and scored == sample.num_tokens >= 2_000
    assert peak < 16 * MEGABYTE and now < 2 * MEGABYTE


def test_counts_of_train(corpus: EncodedCorpus) -> None:
    expected = np.bincount(np.asarray(corpus["train"].ids), minlength=NUM_TYPES)
    assert np.array_equal(corpus.train_counts, expected)


@pytest.mark.parametrize("num_tokens", [1, 2, 99, 100, 4_321])
def test_head_is_the_fewest_lines_with_so_many_tokens(corpus: EncodedCorpus, num_tokens: int) -> None:
    split = corpus["valid"]
    sample = head(split, num_tokens)
    end = int(split.line_starts[split.line_starts >= num_tokens][0])
    assert np.array_equal(sample.ids, split.ids[:end])
    assert np.array_equal(sample.line_starts, split.line_starts[split.line_starts <= end])
    assert sample.num_lines == len(sample.line_starts) - 1 and sample.document_starts.tolist() == [0, end]
