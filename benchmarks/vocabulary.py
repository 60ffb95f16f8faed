"""Text and vocabulary of the size of WikiText-103: ``python -m benchmarks.vocabulary``.

Ids by Zipf's law are written to disk. First all windows of one training pass are read from there, and the counts of all
types; then some steps of an LSTM are trained, and part of valid is scored, with the plain softmax and the adaptive one.
Everything runs in a process of its own, which reports its own memory (anonymous pages; ``files``: resident pages of
mapped files, which the system takes back when it needs them).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nextword.allocator import keep_freed_memory
from nextword.config import ModelParams, ScheduleParams, TrainParams
from nextword.evaluation.neural import head, score_split
from nextword.models import build_model
from nextword.text.ids import IdsWriter, load_ids, smallest_dtype
from nextword.text.source import SPLITS
from nextword.text.streams import Columns
from nextword.training.brief import train_briefly

BATCH, BPTT, SCORED = 20, 35, 2_000
PIECE = 1 << 20


def write_ids(folder: Path, sizes: dict[str, int], vocab_size: int) -> None:
    """What stage `encode` would have written, of ids with probability close to 1 / (id + 1)."""
    rng, splits = np.random.default_rng(0), {}
    for split, size in sizes.items():
        num_lines = 0
        with IdsWriter(folder / f"{split}.npy", smallest_dtype(vocab_size)) as writer:
            while writer.num_tokens < size:
                ids = (vocab_size ** rng.random(min(PIECE, size - writer.num_tokens))).astype(np.int64) - 1
                if writer.num_tokens + len(ids) == size:
                    ids[-1] = 0
                num_lines += int(np.count_nonzero(ids == 0))
                writer.append(ids)
        np.save(folder / f"{split}.documents.npy", np.array([0, size]))
        splits[split] = {"num_tokens": size, "num_lines": num_lines, "num_words": size, "num_bytes": 5 * size,
                         "num_oov": 0, "sha256": ""}  # fmt: skip
    meta = {"kind": "word", "vocab_size": vocab_size, "eos_id": 0, "unk_id": 1, "tokenizer_sha256": "",
            "splits": splits}  # fmt: skip
    for name, content in {"meta": meta, "tokenizer": {}, "vocabulary": []}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def memory() -> dict[str, float]:
    """Resident MB of this process: its own, and of files."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(rows[key].split()[0]) / 1e3 for name, key in (("own", "RssAnon"), ("files", "RssFile"))}


def read_all(folder: Path) -> dict[str, Any]:
    """A pass over train without a model, then the counts of all types."""
    corpus = load_ids(folder)
    columns = Columns(corpus["train"].ids, BATCH, BPTT)
    before, own, started = memory(), [], time.perf_counter()
    for number, window in enumerate(columns):
        torch.from_numpy(window)
        if number % (len(columns) // 20 + 1) == 0:
            own.append(memory()["own"])
    seconds = time.perf_counter() - started
    assert int(corpus.train_counts.sum()) == corpus["train"].num_tokens
    after = memory()
    return {"before": before["own"], "most": max(own), "after": after["own"], "files": after["files"],
            "tokens_per_second": len(columns) * BATCH * BPTT / seconds}  # fmt: skip


def train_and_score(folder: Path, cutoffs: tuple[int, ...] | None, size: int, steps: int) -> dict[str, Any]:
    """Seconds of a step and of scoring, parameters, memory."""
    corpus = load_ids(folder)
    sizes = {"embedding_size": size, "hidden_size": size}
    params = ModelParams(kind="lstm", tie_weights=False, adaptive_softmax=cutoffs, **sizes)
    before = memory()["own"]
    model = build_model(params, corpus.vocab_size, corpus.eos_id)
    train = TrainParams(batch_size=BATCH, bptt=BPTT, schedule=ScheduleParams(kind="constant"))
    train_briefly(model, corpus["train"].ids, train, 1e-3, 1)
    first = memory()["own"]
    brief = train_briefly(model, corpus["train"].ids, train, 1e-3, steps)
    last = memory()["own"]
    model.eval()
    split = head(corpus["valid"], SCORED)
    seconds = []
    tokens = torch.from_numpy(split.ids.astype(np.int64))[:, None]
    with torch.inference_mode():
        for work in (
            lambda: model.score(tokens, model.initial_state(1)),
            lambda: score_split(model, split, "reset", 32),
        ):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
    return {
        "parameters": model.num_parameters()["total"],
        "step": brief.seconds / steps,
        "first": first - before,
        "last": last - before,
        "scored": split.num_tokens / seconds[0],
        "ranked": split.num_tokens / seconds[1],
    }


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of a call in a process of its own, one thread."""
    with multiprocessing.get_context("spawn").Pool(1, _begin) as pool:
        return pool.apply(work, arguments)


def _begin() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--vocabulary", type=int, default=267_735)
    parser.add_argument("--cutoffs", type=int, nargs="*", default=[20_000, 60_000])
    parser.add_argument("--size", type=int, default=128, help="of embeddings and hidden layer")
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ids(folder, dict.fromkeys(SPLITS, 10_000) | {"train": arguments.tokens}, arguments.vocabulary)
        on_disk = (folder / "train.npy").stat().st_size / 1e6
        print(f"{arguments.tokens:,} ids of {arguments.vocabulary:,} types, {on_disk:,.0f} MB on disk; MB of memory")
        read = alone(read_all, folder)
        print(
            f"a pass: {read['tokens_per_second']:,.0f} tokens/s; own memory {read['before']:.0f} before, "
            f"{read['most']:.0f} at most on the way, {read['after']:.0f} after it and the counts; "
            f"files {read['files']:.0f}"
        )
        print(f"\nLSTM, E = H = {arguments.size}, batch {BATCH}, bptt {BPTT}, one thread, precision auto")
        header = ["parameters", "s a step", "tokens/s", "MB, step 1", f"step {1 + arguments.steps}"]
        header += ["scored/s", "ranked/s"]
        print(f"{'softmax':<10}" + "".join(f"{title:>13}" for title in header))
        for label, cutoffs in (("plain", None), ("adaptive", tuple(arguments.cutoffs))):
            row = alone(train_and_score, folder, cutoffs, arguments.size, arguments.steps)
            figures = [row["parameters"], round(row["step"], 2), BATCH * BPTT / row["step"], row["first"], row["last"]]
            cells = [f"{x:,}" if isinstance(x, int) else f"{x:,.2f}" if x < 20 else f"{x:,.0f}" for x in figures]
            cells += [f"{row[key]:,.0f}" for key in ("scored", "ranked")]
            print(f"{label:<10}" + "".join(f"{cell:>13}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
