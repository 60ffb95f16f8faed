"""Training speed of the LSTM at PTB small size against the plain PyTorch loop: ``python -m benchmarks.training``.

The other side is the loop that most people copy, the shape of PyTorch's own word-language-model example: ``nn.LSTM``,
``nn.Linear``, ``log_softmax`` and ``NLLLoss`` over all logits at once, float32, ``clip_grad_norm_`` and a hand-written
SGD update. Both train the same sizes on the same random ids, in turns, on the same machine; the figure is the median of
the ratios of neighbouring turns. Ours runs inside Lightning exactly as the stage runs it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

VOCABULARY, SIZE, LAYERS, BATCH, BPTT = 10_000, 200, 2, 20, 20


class PlainLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(VOCABULARY, SIZE)
        self.rnn = nn.LSTM(SIZE, SIZE, LAYERS)
        self.decoder = nn.Linear(SIZE, VOCABULARY)

    def forward(self, x, hidden):
        output, hidden = self.rnn(self.encoder(x), hidden)
        return torch.log_softmax(self.decoder(output).view(-1, VOCABULARY), dim=1), hidden


def plain_loop(ids: np.ndarray) -> float:
    """Tokens a second of the plain loop."""
    model, criterion = PlainLSTM(), nn.NLLLoss()
    data = torch.from_numpy(ids[: len(ids) // BATCH * BATCH].astype(np.int64)).view(BATCH, -1).t().contiguous()
    hidden = (torch.zeros(LAYERS, BATCH, SIZE), torch.zeros(LAYERS, BATCH, SIZE))
    started, tokens = time.perf_counter(), 0
    for i in range(0, len(data) - 1, BPTT):
        steps = min(BPTT, len(data) - 1 - i)
        x, y = data[i : i + steps], data[i + 1 : i + 1 + steps].reshape(-1)
        hidden = tuple(h.detach() for h in hidden)
        model.zero_grad()
        output, hidden = model(x, hidden)
        loss = criterion(output, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-1.0)
        tokens += y.numel()
    return tokens / (time.perf_counter() - started)


def ours(ids_folder: Path, precision: str) -> float:
    """Tokens a second of a run as the stage ``train`` makes it (training time alone)."""
    import json

    from nextword.config import load_params
    from nextword.training.fit import fit
    from nextword.training.worker import Job

    params = load_params(Path(__file__).parents[1] / "profiles" / "ptb-zaremba-small.yaml")
    params = params.model_copy(
        update={
            "train": params.train.model_copy(update={"max_epochs": 1, "precision": precision, "accelerator": "cpu"})
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            params=params, model="lstm", seed=0, ids=ids_folder, folder=Path(folder), accelerator="cpu", devices=1,
            threads=torch.get_num_threads(), fingerprint="",
        )  # fmt: skip
        fit(job)
        return float(json.loads(job.result.read_text())["tokens_per_second"])


def write_ids(folder: Path, num_tokens: int) -> np.ndarray:
    """Random text with Zipf frequencies, encoded as the stages encode it."""
    from nextword.config import TokenizerParams
    from nextword.text import encode_corpus, load_ids

    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, VOCABULARY - 1)
    corpus = folder / "corpus"
    corpus.mkdir()
    for name, size in (("train", num_tokens), ("valid", 400), ("test", 400)):
        words = rng.choice(len(weights), size, p=weights / weights.sum())
        if name == "train":
            words[: len(weights)] = np.arange(len(weights))  # every type occurs
        lines = [" ".join(f"w{word}" for word in words[i : i + 20]) for i in range(0, size, 20)]
        (corpus / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (corpus / f"{name}.documents.tsv").write_text(f"0\t{len(lines)}\tall\n")
    encode_corpus(TokenizerParams(vocab_size=None, pre_tokenizer="whitespace"), corpus, folder / "ids")
    return np.asarray(load_ids(folder / "ids")["train"].ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        ids = write_ids(Path(folder), arguments.tokens)
        plain_loop(ids[:8_000])
        rows: dict[str, list[float]] = {"plain": [], "float32": [], "auto": []}
        for _ in range(arguments.turns):
            rows["plain"].append(plain_loop(ids))
            for precision in ("float32", "auto"):
                rows[precision].append(ours(Path(folder) / "ids", precision))
    print(f"LSTM {LAYERS}x{SIZE}, V = {VOCABULARY}, batch {BATCH}, bptt {BPTT}, {arguments.threads} thread(s)")
    print(f"{'':34}{'tokens/s':>10}{'ratio':>8}")
    names = {
        "plain": "plain PyTorch loop, float32",
        "float32": "nextword, float32",
        "auto": "nextword, auto (bfloat16 where native)",
    }
    for key, name in names.items():
        ratio = statistics.median(a / b for a, b in zip(rows[key], rows["plain"], strict=True))
        print(f"{name:38}{statistics.median(rows[key]):>6,.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
