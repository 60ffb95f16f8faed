"""Scoring and generating text with models of usual sizes: ``python -m benchmarks.serving``.

Raw lines in, a log-probability each out, tokenizer included; Zipf text, weights not trained, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from nextword.config import ModelParams, TokenizerParams
from nextword.models import build_model
from nextword.ngram import count_ngrams, estimate
from nextword.serving import Sampling, TextModel, Vocabulary
from nextword.serving.backends import Network, Ngrams
from nextword.text.tokenizer import lookup_tokenizer
from nextword.training.placement import find_devices

ORDER = 5


def make_vocabulary(size: int, folder: Path) -> Vocabulary:
    tokenizer = lookup_tokenizer(TokenizerParams(vocab_size=size), [f"w{number}" for number in range(size - 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    meta = {"kind": "word", "vocab_size": size, "eos_id": 0, "unk_id": 1, "tokenizer_sha256": ""}
    (folder / "meta.json").write_text(json.dumps(meta))
    return Vocabulary.load(folder)


def make_lines(vocab_size: int, num_lines: int, seed: int) -> list[str]:
    """Lines of 1 to 60 words, drawn by Zipf's law."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, vocab_size - 1)
    sizes = rng.integers(1, 61, num_lines)
    words = np.char.add("w", rng.choice(vocab_size - 2, sizes.sum(), p=share / share.sum()).astype(str))
    return [" ".join(line) for line in np.split(words, np.cumsum(sizes)[:-1])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--lines", type=int, default=2_000)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    device = find_devices(arguments.device).accelerator
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = make_vocabulary(arguments.vocabulary, Path(folder))
        train = vocabulary.encode_lines(make_lines(arguments.vocabulary, 20_000, seed=0))
        counts = count_ngrams(train, 0, ORDER, arguments.vocabulary)
        models = {f"n-gram, order {ORDER}": Ngrams(estimate(counts, "modified_kneser_ney", ORDER))}
        for kind in ("gru", "lstm", "nnlm"):
            window = {"window": 4} if kind == "nnlm" else {}
            params = ModelParams(kind=kind, embedding_size=arguments.hidden, hidden_size=arguments.hidden, **window)
            network = build_model(params, arguments.vocabulary, 0).to(device).eval()
            models[f"{kind}, H = {arguments.hidden}"] = Network(network)
        lines = make_lines(arguments.vocabulary, arguments.lines, seed=1)
        print(f"V = {arguments.vocabulary:,}, {arguments.lines:,} lines; one thread, {device}")
        print(f"{'model':<18}{'lines/s':>10}{'tokens/s':>11}{'alone, ms a line':>18}{'drawn tokens/s':>16}")
        for name, backend in models.items():
            model = TextModel(name, backend, vocabulary)
            model.score(lines[:100])
            started = time.perf_counter()
            num_tokens = sum(score.num_tokens for score in model.score(lines))
            seconds = time.perf_counter() - started
            started = time.perf_counter()
            for line in lines[:100]:
                model.score([line])
            alone = (time.perf_counter() - started) / 100
            sampling = Sampling(max_tokens=50, top_p=0.9)
            started = time.perf_counter()
            model.continuations([""] * 32, sampling)
            drawn = 32 * 50 / (time.perf_counter() - started)
            print(
                f"{name:<18}{len(lines) / seconds:>10,.0f}{num_tokens / seconds:>11,.0f}{1000 * alone:>18.1f}"
                f"{drawn:>16,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
