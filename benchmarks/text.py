"""Time and peak memory of `prepare` and `encode` on a large generated text, each in a process of its own.

    python -m benchmarks.text --megabytes 1000 --kinds word byte
    python -m benchmarks.text --megabytes 200 --kinds bpe unigram wordpiece char

The text is Zipf-distributed words (1/rank over ``--types`` types) in one UTF-8 file. The bound is
500 MB + 4 bytes a token.
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

BOUND_BYTES, BOUND_BYTES_PER_TOKEN = 500e6, 4


def generate_text(path: Path, num_bytes: int, num_types: int, seed: int = 0) -> None:
    """Write lines of 5 to 40 words, a blank line after every 50th."""
    rng = np.random.default_rng(seed)
    words = np.array([_name(rank) for rank in range(num_types)], dtype=object)
    cumulative = np.cumsum(1.0 / np.arange(1, num_types + 1))
    written, num_lines = 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < num_bytes:
            drawn = words[np.searchsorted(cumulative, rng.random(500_000) * cumulative[-1])]
            ends = np.cumsum(rng.integers(5, 41, size=len(drawn) // 20))
            for line in np.split(drawn, ends[ends < len(drawn)]):
                num_lines += 1
                written += file.write(" ".join(line) + (".\n\n" if num_lines % 50 == 0 else ".\n"))


def _name(rank: int) -> str:
    """Letters that spell the rank; frequent words are short."""
    letters = ""
    rank += 26
    while rank:
        rank, digit = divmod(rank, 26)
        letters += chr(ord("a") + digit)
    return letters


def measure(code: str, *arguments: str) -> dict[str, float]:
    """Seconds and peak resident bytes of ``python -c code arguments``, imports included."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the measured process ended with exit status {process.returncode}")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak_bytes": usage.ru_maxrss * 1024}


PREPARE = """
import sys
from pathlib import Path
from nextword.config import CorpusParams
from nextword.text import prepare_corpus
path, out = sys.argv[1:]
params = {"source": "text", "text": {"path": path}, "allow_outside": True}
prepare_corpus(CorpusParams.model_validate(params), Path(out))
"""
ENCODE = """
import sys
from pathlib import Path
from nextword.config import TokenizerParams
from nextword.text import encode_corpus
kind, corpus, out = sys.argv[1:]
encode_corpus(TokenizerParams(kind=kind, vocab_size=30_000), Path(corpus), Path(out))
"""


def main() -> None:
    """Generate, measure, print one row for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--types", type=int, default=1_000_000)
    parser.add_argument("--kinds", nargs="*", default=["word", "byte", "bpe"])
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        text, corpus = folder / "text.txt", folder / "corpus"
        generate_text(text, arguments.megabytes * 10**6, arguments.types)
        size = text.stat().st_size
        print(f"{size / 1e6:.0f} MB of text")
        print(f"{'':16}{'seconds':>9}{'CPU s':>8}{'MB/s':>8}{'peak MB':>9}{'tokens':>14}{'bound MB':>10}")
        row("prepare", measure(PREPARE, str(text), str(corpus)), size, 0)
        for kind in arguments.kinds:
            result = measure(ENCODE, kind, str(corpus), str(folder / kind))
            meta = json.loads((folder / kind / "meta.json").read_text(encoding="utf-8"))
            row(f"encode {kind}", result, size, sum(split["num_tokens"] for split in meta["splits"].values()))


def row(name: str, result: dict[str, float], num_bytes: int, num_tokens: int) -> None:
    """Print one measurement beside its bound."""
    bound = (BOUND_BYTES + BOUND_BYTES_PER_TOKEN * num_tokens) / 1e6
    speed = num_bytes / 1e6 / result["seconds"]
    print(
        f"{name:16}{result['seconds']:9.1f}{result['cpu']:8.1f}{speed:8.1f}{result['peak_bytes'] / 1e6:9.0f}"
        f"{num_tokens:14,}{bound:10.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
