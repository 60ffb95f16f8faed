"""Stage `encode`: from clean lines to ids on disk, and the statistics of both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer
from tqdm import tqdm

from nextword.config import TokenizerParams
from nextword.files import write_json
from nextword.text.characters import ByteEncoder, CharacterEncoder
from nextword.text.chunks import ChunkEncoder, WordEncoder
from nextword.text.counting import TypeCounts, count_types
from nextword.text.ids import IDS_FILES, IdsWriter, smallest_dtype
from nextword.text.normalizing import normalized
from nextword.text.output import replaced_folder
from nextword.text.source import SPLITS
from nextword.text.statistics import coverage_curves
from nextword.text.tokenizer import (
    EOS_ID,
    UNK_ID,
    lookup_tokenizer,
    train_tokenizer,
    unk_id_of,
    vocabulary_of,
    word_cutter,
)

BATCH_CHARACTERS = 1 << 20


def encode_corpus(params: TokenizerParams, corpus: Path, out: Path) -> dict[str, Any]:
    """Build the vocabulary from train and write all splits as ids under ``out``.

    The text is streamed twice: once to learn the vocabulary from train (and to count the words of the other splits,
    for the coverage curves), once for the ids.

    Args:
        params: section ``tokenizer`` of params.yaml.
        corpus: folder that stage `prepare` wrote.
        out: folder to write, e.g. ``data/ids``; replaced when everything is written.

    Returns:
        The report: sizes, types and OOV rate of each split, and the coverage curves.

    Raises:
        ValueError: a file of the corpus is missing, or ``vocab_size`` is too small for the kind.
    """
    for split in SPLITS:
        for path in (corpus / f"{split}.txt", corpus / f"{split}.documents.tsv"):
            if not path.exists():
                raise ValueError(f"{path} not found; run `dvc repro prepare` first")
    counts: TypeCounts | None = None
    if params.kind in ("word", "char"):
        counts = count_types(params, {split: _batches(corpus, split, "count") for split in SPLITS})
        tokenizer = lookup_tokenizer(params, counts.types[: params.vocab_size and params.vocab_size - 2])
    else:
        tokenizer = train_tokenizer(params, lambda: _batches(corpus, "train", f"learn {params.kind} from"))
    vocabulary = vocabulary_of(tokenizer)
    meta: dict[str, Any] = {
        "kind": params.kind,
        "vocab_size": len(vocabulary),
        "eos_id": EOS_ID,
        "unk_id": unk_id_of(params.kind),
        "tokenizer_sha256": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
    }
    encoder = _Encoder(params, tokenizer)
    with replaced_folder(out, IDS_FILES) as folder:
        meta["splits"] = {split: encoder.encode(corpus, split, folder) for split in SPLITS}
        (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
        write_json(folder / "vocabulary.json", vocabulary)
        write_json(folder / "meta.json", meta)
    splits = {split: _rates(sizes) for split, sizes in meta["splits"].items()}
    curves = coverage_curves(counts or encoder.counts(), num_kept=len(vocabulary) - encoder.num_special)
    return {**meta, "splits": splits, **curves}


def describe_ids(report: dict[str, Any]) -> str:
    """The report of :func:`encode_corpus` as text for the terminal."""
    lines = [f"ids by {report['kind']}, {report['vocab_size']:,} types of the {report['num_types']:,} in train"]
    for split, sizes in report["splits"].items():
        lines.append(
            f"  {split:5}  {sizes['num_tokens']:>11,} tokens  {sizes['num_types']:>7,} types  "
            f"OOV {sizes['oov_rate']:6.2%}  {sizes['bytes_per_token']:.2f} bytes a token"
        )
    return "\n".join(lines)


class _Encoder:
    """Encodes splits and counts their ids."""

    def __init__(self, params: TokenizerParams, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._to_ids: Callable[[list[str]], npt.NDArray[np.uint32]]
        if params.kind == "byte":
            self._to_ids = ByteEncoder(tokenizer)
        elif params.kind == "char":
            self._to_ids = CharacterEncoder(tokenizer)
        elif params.kind == "word":
            self._to_ids = WordEncoder(tokenizer)
        else:
            self._to_ids = ChunkEncoder(tokenizer, keep_runs_of_space=params.kind == "bpe")
        self._to_words = None if params.kind == "word" else WordEncoder(word_cutter(params))
        self.num_special = 1 if unk_id_of(params.kind) is None else 2
        self._num_ids: dict[str, npt.NDArray[np.int64]] = {}

    def encode(self, corpus: Path, split: str, folder: Path) -> dict[str, Any]:
        """Write the ids of one split; returns its sizes."""
        vocab_size = self._tokenizer.get_vocab_size()
        num_ids = self._num_ids[split] = np.zeros(vocab_size, dtype=np.int64)
        first_lines = np.array([int(row.split("\t", 1)[0]) for row in _rows(corpus / f"{split}.documents.tsv")])
        document_starts = np.empty(len(first_lines) + 1, dtype=np.int64)
        num_lines = num_words = num_bytes = 0
        sha256 = hashlib.sha256()
        with IdsWriter(folder / f"{split}.npy", smallest_dtype(vocab_size)) as writer:
            for lines in _batches(corpus, split, "encode"):
                ids = self._to_ids(lines)
                line_ends = np.flatnonzero(ids == EOS_ID)
                if len(line_ends) != len(lines):
                    raise ValueError(f"{corpus / split}.txt has an empty line; run `dvc repro --force prepare`")
                here = slice(*np.searchsorted(first_lines, [num_lines, num_lines + len(lines)]))
                line_starts = np.concatenate([[0], line_ends + 1])
                document_starts[here] = writer.num_tokens + line_starts[first_lines[here] - num_lines]
                num_ids += np.bincount(ids, minlength=vocab_size)
                num_lines += len(lines)
                num_words += len(ids if self._to_words is None else self._to_words(lines))
                num_bytes += len(normalized(self._tokenizer, lines).encode())
                sha256.update(writer.append(ids))
        document_starts[-1] = writer.num_tokens
        np.save(folder / f"{split}.documents.npy", document_starts)
        return {
            "num_tokens": writer.num_tokens,
            "num_lines": num_lines,
            "num_documents": len(first_lines),
            "num_words": num_words,
            "num_bytes": num_bytes,
            "num_oov": int(num_ids[UNK_ID]) if self.num_special == 2 else 0,
            "num_types": int(np.count_nonzero(num_ids)),
            "sha256": sha256.hexdigest(),
        }

    def counts(self) -> TypeCounts:
        """Occurrences of the types that were written, special tokens left out."""
        of_type = {split: num_ids[self.num_special :] for split, num_ids in self._num_ids.items()}
        order = np.argsort(-of_type["train"], kind="stable")
        order = order[of_type["train"][order] > 0]
        vocabulary = vocabulary_of(self._tokenizer)
        return TypeCounts(
            types=[vocabulary[index + self.num_special] for index in order],
            by_rank={split: counts[order] for split, counts in of_type.items()},
            totals={split: int(num_ids[1:].sum()) for split, num_ids in self._num_ids.items()},
        )


def _rates(sizes: dict[str, Any]) -> dict[str, Any]:
    return {
        **sizes,
        "oov_rate": sizes["num_oov"] / max(sizes["num_tokens"] - sizes["num_lines"], 1),
        "bytes_per_token": sizes["num_bytes"] / max(sizes["num_tokens"], 1),
        "tokens_per_line": sizes["num_tokens"] / max(sizes["num_lines"], 1),
    }


def _batches(corpus: Path, split: str, task: str) -> Iterator[list[str]]:
    """Lists of lines of about ``BATCH_CHARACTERS``, with a progress bar."""
    path = corpus / f"{split}.txt"
    with (
        path.open(encoding="utf-8", newline="\n") as file,
        tqdm(total=path.stat().st_size, desc=f"{task} {split}", unit="B", unit_scale=True, disable=None) as bar,
    ):
        while lines := file.readlines(BATCH_CHARACTERS):
            yield [line.removesuffix("\n") for line in lines]
            bar.update(sum(map(len, lines)))


def _rows(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", newline="\n") as file:
        yield from file
