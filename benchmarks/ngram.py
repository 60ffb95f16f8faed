"""Speed and memory of the n-gram models, each measurement in a process of its own.

    python -m benchmarks.ngram ptb                       # Penn Treebank, order 5, whole process; NLTK beside it
    python -m benchmarks.ngram zipf                      # 1M, 3M and 10M tokens
    python -m benchmarks.ngram zipf --millions 1 10 100  # the whole curve: 100M takes 2 to 7 minutes, 10 GB
    python -m benchmarks.ngram sweep                     # all smoothings and orders from one counting pass

`zipf` draws words independently, p(rank) ~ 1 / rank over 100,000 types, so almost every long n-gram is new: the worst
case for memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

READ_PTB = """
import json, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def read(split):
    return (folder / f"ptb.{split}.txt").read_text(encoding="utf-8")
"""
OURS = (
    READ_PTB
    + """
started = time.perf_counter()
import numpy as np
from nextword.ngram import count_ngrams, estimate
index = {"<eos>": 0, "<unknown>": 1}
def ids(split):
    words = read(split).replace("\\n", " <eos> ").split()
    return np.fromiter((index.setdefault(word, len(index)) for word in words), np.int64, len(words))
train, test = ids("train"), ids("test")
read_at = time.perf_counter()
counts = count_ngrams(train, 0, 5, len(index))
counted_at = time.perf_counter()
model = estimate(counts, "modified_kneser_ney", 5, params=object())
estimated_at = time.perf_counter()
perplexity = float(np.exp(model.score_ids(test).mean()))
scored_at = time.perf_counter()
print(json.dumps({"import and read": read_at - started, "count": counted_at - read_at,
    "estimate": estimated_at - counted_at, "score": scored_at - estimated_at, "perplexity": perplexity}))
"""
)
NLTK = (
    READ_PTB
    + """
started = time.perf_counter()
from nltk.lm import KneserNeyInterpolated
from nltk.lm.preprocessing import padded_everygram_pipeline
lines = [line.split() for line in read("train").splitlines()]
read_at = time.perf_counter()
model = KneserNeyInterpolated(5, 0.75)
model.fit(*padded_everygram_pipeline(5, lines))
counted_at = time.perf_counter()
num_tokens = scored = 0
for line in read("test").splitlines():
    words = ["<s>"] * 4 + line.split() + ["</s>"]
    for i in range(4, len(words)):
        num_tokens += 1
        if time.perf_counter() - counted_at < float(sys.argv[2]):
            model.score(words[i], words[i - 4:i])
            scored += 1
seconds = time.perf_counter() - counted_at
print(json.dumps({"import and read": read_at - started, "count": counted_at - read_at,
    "estimate": 0.0, "score": seconds * num_tokens / scored, "scored": scored}))
"""
)
ZIPF = """
import json, sys, time
import numpy as np
from nextword.ngram import count_ngrams, estimate
path, vocab_size, order = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ids = np.load(path, mmap_mode="r")
started = time.perf_counter()
counts = count_ngrams(ids, 0, order, vocab_size)
counted_at = time.perf_counter()
model = estimate(counts, "modified_kneser_ney", order, params=object(), dtype=np.float32)
estimated_at = time.perf_counter()
nats = model.score_ids(ids[:100_000])
scored_at = time.perf_counter()
assert np.isfinite(nats).all()
print(json.dumps({"count": counted_at - started, "estimate": estimated_at - counted_at,
    "score": scored_at - estimated_at, "types": sum(len(level) for level in counts.orders), "bytes": model.num_bytes}))
"""
SWEEP = """
import sys, time
from pathlib import Path
import numpy as np
from nextword.ngram import SMOOTHINGS, count_ngrams, estimate
folder = Path(sys.argv[1])
index = {"<eos>": 0, "<unknown>": 1}
def ids(split):
    words = (folder / f"ptb.{split}.txt").read_text(encoding="utf-8").replace("\\n", " <eos> ").split()
    return np.fromiter((index.setdefault(word, len(index)) for word in words), np.int64, len(words))
train, valid, test = ids("train"), ids("valid"), ids("test")
counts = count_ngrams(train, 0, 5, len(index))
started = time.perf_counter()
print(f"{'test perplexity':24}" + "".join(f"{order:>11}" for order in range(1, 6)) + f"{'seconds':>10}")
for smoothing in SMOOTHINGS:
    row, began = "", time.perf_counter()
    for order in range(1, 6):
        model = estimate(counts, smoothing, order, held_out=valid)
        model.score_ids(valid)
        row += f"{np.exp(model.score_ids(test).mean()):11.2f}"
    print(f"{smoothing:24}{row}{time.perf_counter() - began:10.2f}")
print(f"{'all':79}{time.perf_counter() - started:10.2f}")
"""


def measure(code: str, *arguments: str) -> tuple[dict[str, float], dict[str, float]]:
    """What the code prints (JSON); and of the whole process: wall and processor seconds, peak resident bytes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the measured process ended with exit status {process.returncode}")
    wall, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return json.loads(printed), {"wall": wall, "cpu": cpu, "peak": usage.ru_maxrss * 1024}


def ptb(folder: Path, repeats: int, nltk_seconds: float) -> None:
    """Order-5 Kneser-Ney on Penn Treebank: estimate on train, score test."""
    print(f"Penn Treebank, order 5, seconds (best of {repeats}); process: all of it, wall and processor time")
    print(
        f"{'':22}{'read':>7}{'count':>8}{'estimate':>9}{'score':>9}{'process':>9}{'cpu':>8}{'peak MB':>9}  perplexity"
    )
    report, process = min((measure(OURS, str(folder)) for _ in range(repeats)), key=lambda result: result[1]["wall"])
    ptb_row("nextword, modified KN", report, process, f"{report['perplexity']:.4f}")
    if nltk_seconds:
        report, process = measure(NLTK, str(folder), str(nltk_seconds))
        more = report["score"] - nltk_seconds
        process = {"wall": process["wall"] + more, "cpu": process["cpu"] + more, "peak": process["peak"]}
        ptb_row("NLTK, KN", report, process, f"scoring extrapolated from {report['scored']:.0f} words")


def ptb_row(name: str, report: dict[str, float], process: dict[str, float], remark: str) -> None:
    """Print one measurement."""
    print(
        f"{name:22}{report['import and read']:7.2f}{report['count']:8.2f}{report['estimate']:9.2f}"
        f"{report['score']:9.2f}{process['wall']:9.2f}{process['cpu']:8.2f}{process['peak'] / 1e6:9.0f}  {remark}",
        flush=True,
    )


def zipf(millions: list[float], vocab_size: int, order: int, folder: Path | None) -> None:
    """Seconds and memory of modified Kneser-Ney against the size of the corpus."""
    print(f"Zipf text, {vocab_size:,} types, modified Kneser-Ney of order {order}, probabilities as float32")
    print(f"{'tokens':>12}{'n-gram types':>14}{'count':>8}{'estimate':>9}{'process':>9}{'cpu s':>8}", end="")
    print(f"{'peak GB':>9}{'model GB':>10}{'B/token':>9}")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        for size in millions:
            num_tokens = round(size * 1e6)
            path = Path(name) / "ids.npy"
            generate(path, num_tokens, vocab_size)
            report, process = measure(ZIPF, str(path), str(vocab_size), str(order))
            print(
                f"{num_tokens:12,}{report['types']:14,}{report['count']:8.1f}{report['estimate']:9.1f}"
                f"{process['wall']:9.1f}{process['cpu']:8.1f}{process['peak'] / 1e9:9.2f}"
                f"{report['bytes'] / 1e9:10.2f}{process['peak'] / num_tokens:9.0f}",
                flush=True,
            )


def generate(path: Path, num_tokens: int, vocab_size: int, seed: int = 0) -> None:
    """Independent Zipf words in lines of 25 words on average, as a .npy file of uint32 ids; id 0 ends a line."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(1.0 / np.arange(1, vocab_size))
    ids = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint32, shape=(num_tokens,))
    for start in range(0, num_tokens, 1 << 20):
        length = min(1 << 20, num_tokens - start)
        drawn = 1 + np.searchsorted(cumulative, rng.random(length) * cumulative[-1])
        drawn[rng.random(length) < 1 / 26] = 0
        ids[start : start + length] = drawn
    ids[-1] = 0
    ids.flush()


def main() -> None:
    """Run the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["ptb", "sweep", "zipf", []], default=["ptb", "sweep", "zipf"])
    parser.add_argument("--ptb", type=Path, default=ROOT.parent / "shared" / "data" / "ptb", help="ptb.train.txt, ...")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nltk-seconds", type=float, default=30, help="time for NLTK's scoring; 0 leaves NLTK out")
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 3, 10], help="tokens of the Zipf texts")
    parser.add_argument("--types", type=int, default=100_000)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="for temporary files")
    arguments = parser.parse_args()
    has_ptb = (arguments.ptb / "ptb.train.txt").exists()
    for part in arguments.parts:
        if part == "zipf":
            zipf(arguments.millions, arguments.types, arguments.order, arguments.folder)
        elif not has_ptb:
            print(f"{part}: skipped, no Penn Treebank in {arguments.ptb}; give its folder with --ptb")
        elif part == "ptb":
            ptb(arguments.ptb, arguments.repeats, arguments.nltk_seconds)
        else:
            code = [sys.executable, "-c", SWEEP, str(arguments.ptb)]
            subprocess.run(code, check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"})
        print()


if __name__ == "__main__":
    main()
