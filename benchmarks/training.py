"""Training speed, from the loop that people copy to ours inside Lightning: ``python -m benchmarks.training``.

- example: the shape of PyTorch's own word-language-model example: ``nn.LSTM``, ``log_softmax`` and ``NLLLoss`` over all
  logits at once, ``clip_grad_norm_``, a hand-written SGD update;
- bare: as little as torch's own modules (oneDNN, cuDNN) need: ``nn.LSTM``, ``cross_entropy``, fused SGD, nothing read
  back in between;
- ours, bare loop: our model, windows, optimiser and clipping, in :func:`nextword.training.brief.train_briefly`;
- ours, Lightning: :func:`nextword.training.fit.fit`, as stage ``train`` runs it (its training time alone).

All train one pass of the same random ids from the same sizes by SGD, one after the other in an order that rotates from
turn to turn; every ratio is the median over the turns of a ratio within one turn. One process: all have our allocator
settings (:mod:`nextword.allocator`). Lightning's overhead is by the lower quartile of the times from one step to the
next, on a CPU in time of this process alone, so that other work on the machine counts little.

On a GPU torch's own modules run as they do by default: cuDNN may round float32 to TF32, which ours forbids, and under
autocast it computes RNNs in float16, whatever type is asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nextword.allocator import keep_freed_memory
from nextword.config import Params, TokenizerParams, load_params
from nextword.models import build_model
from nextword.models.recurrent import RecurrentLM, RecurrentState
from nextword.text import encode_corpus, load_ids
from nextword.text.ids import Ids
from nextword.training.brief import train_briefly
from nextword.training.fit import fit
from nextword.training.placement import find_devices
from nextword.training.worker import Job

BATCH = 20
CLIP = 5.0
LOW = {"float32": None, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Size:
    """An LSTM, its text and the windows that it is read in."""

    vocabulary: int
    layers: int
    hidden: int
    bptt: int
    tokens: int
    """Of a turn."""


SIZES = {
    "ptb-small": Size(10_000, 2, 200, 20, 16_000),
    "default": Size(5_000, 1, 128, 35, 28_000),
    "tiny": Size(1_000, 1, 32, 20, 60_000),
}


class Clock:
    """Times at which steps of our model begin."""

    def __init__(self, device: str) -> None:
        self._now = time.process_time if device == "cpu" else time.perf_counter
        self._times: list[float] = []

    def __enter__(self) -> Clock:
        self._loss = RecurrentLM.training_loss

        def timed(model: RecurrentLM, tokens_TB: Tensor, state: RecurrentState):
            self._times.append(self._now())
            return self._loss(model, tokens_TB, state)

        RecurrentLM.training_loss = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        RecurrentLM.training_loss = self._loss  # type: ignore[method-assign]

    def quartile(self) -> float:
        """Seconds from a step to the next that a quarter of them are below."""
        return float(np.quantile(np.diff(self._times), 0.25))


class PlainLSTM(nn.Module):
    """Logits of all types at every position."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.encoder = nn.Embedding(size.vocabulary, size.hidden)
        self.rnn = nn.LSTM(size.hidden, size.hidden, size.layers)
        self.decoder = nn.Linear(size.hidden, size.vocabulary)

    def forward(self, x: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, hidden = self.rnn(self.encoder(x), hidden)
        return self.decoder(output).view(-1, self.decoder.out_features), hidden


def example_step(model: PlainLSTM) -> Callable[[Tensor], None]:
    """The update that people write by hand, of a loss of log-probabilities (the example's module computes them)."""

    def step(loss: Tensor) -> None:
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-1.0)

    return step


def bare_step(model: PlainLSTM) -> Callable[[Tensor], None]:
    """The fastest that torch has."""
    optimizer = torch.optim.SGD(model.parameters(), 1.0, fused=True)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=True)
        optimizer.step()

    return step


def example_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """In two steps, as in the example."""
    return nn.NLLLoss()(torch.log_softmax(logits, dim=1), targets)


def plain(size: Size, ids: Ids, device: str, example: bool, precision: str) -> float:
    """Tokens a second of one of the two loops of torch's own modules."""
    low = LOW[precision]
    torch.backends.cudnn.allow_tf32 = True  # as torch has it; our own layers set it for themselves
    model = PlainLSTM(size).to(device)
    step, criterion = (example_step(model), example_loss) if example else (bare_step(model), cross_entropy)
    text = torch.from_numpy(ids[: len(ids) // BATCH * BATCH].astype(np.int64)).to(device)
    data = text.view(BATCH, -1).t().contiguous()
    hidden = (
        torch.zeros(size.layers, BATCH, size.hidden, device=device),
        torch.zeros(size.layers, BATCH, size.hidden, device=device),
    )
    wait(device)
    started, tokens = time.perf_counter(), 0
    for i in range(0, len(data) - 1, size.bptt):
        steps = min(size.bptt, len(data) - 1 - i)
        x, y = data[i : i + steps], data[i + 1 : i + 1 + steps].reshape(-1)
        hidden = (hidden[0].detach(), hidden[1].detach())
        with torch.autocast(device, low, enabled=low is not None):
            logits, hidden = model(x, hidden)
            loss = criterion(logits, y)
        step(loss)
        tokens += y.numel()
    wait(device)
    return tokens / (time.perf_counter() - started)


def params_of(size: Size, precision: str) -> Params:
    """Zaremba's small model and its training in other sizes, for one epoch."""
    params = load_params(Path(__file__).parents[1] / "profiles" / "ptb-zaremba-small.yaml")
    sizes = {"num_layers": size.layers, "embedding_size": size.hidden, "hidden_size": size.hidden}
    train = {"max_epochs": 1, "precision": precision, "batch_size": BATCH, "bptt": size.bptt, "clip_norm": CLIP}
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=train),
            "models": {"lstm": params.models["lstm"].model_copy(update=sizes)},
        }
    )


def in_a_loop(size: Size, ids: Ids, device: str, precision: str) -> float:
    """Tokens a second of our model without Lightning."""
    params = params_of(size, precision)
    model = build_model(params.models["lstm"], size.vocabulary, 0).to(device)
    brief = train_briefly(model, ids, params.train, params.models["lstm"].learning_rate)
    return brief.tokens / brief.seconds


def in_lightning(size: Size, ids: Path, device: str, precision: str) -> float:
    """Tokens a second of a run as the stage makes it."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            params=params_of(size, precision), model="lstm", seed=0, ids=ids, folder=Path(folder), accelerator=device,
            threads=torch.get_num_threads(), fingerprint="",
        )  # fmt: skip
        fit(job)
        torch.use_deterministic_algorithms(False)  # as it was: the others are measured without
        return float(json.loads(job.result.read_text())["tokens_per_second"])


def write_ids(folder: Path, size: Size) -> Ids:
    """Random text with Zipf frequencies, encoded as the stages encode it."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, size.vocabulary - 1)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for name, length in (("train", size.tokens), ("valid", 400), ("test", 400)):
        words = rng.choice(len(weights), length, p=weights / weights.sum())
        if name == "train":
            words[: len(weights)] = np.arange(len(weights))  # every type occurs
        lines = [" ".join(f"w{word}" for word in words[i : i + 20]) for i in range(0, length, 20)]
        (corpus / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (corpus / f"{name}.documents.tsv").write_text(f"0\t{len(lines)}\tall\n")
    encode_corpus(TokenizerParams(vocab_size=None, pre_tokenizer="whitespace"), corpus, folder / "ids")
    return np.asarray(load_ids(folder / "ids")["train"].ids)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


EXAMPLE = "example, float32"
PRECISIONS = ("float32", "bfloat16")


def compare(name: str, size: Size, device: str, turns: int) -> None:
    """Measure one size and print its table."""
    with tempfile.TemporaryDirectory() as folder:
        ids, files = write_ids(Path(folder), size), Path(folder) / "ids"
        sides = {EXAMPLE: partial(plain, size, ids, device, True, "float32")}
        for precision in PRECISIONS:
            sides[f"bare, {precision}"] = partial(plain, size, ids, device, False, precision)
            sides[f"ours, bare loop, {precision}"] = partial(in_a_loop, size, ids, device, precision)
            sides[f"ours, Lightning, {precision}"] = partial(in_lightning, size, files, device, precision)
        names, speeds, steps = list(sides), *({side: list[float]() for side in sides} for _ in range(2))
        for turn in range(-1, turns):  # the first warms up and is not counted
            at = turn % len(names)
            for side in (names[at:] + names[:at])[:: 1 if turn % 2 else -1]:
                with Clock(device) as clock:
                    speed = sides[side]()
                if turn >= 0:
                    speeds[side].append(speed)
                    if side.startswith("ours"):
                        steps[side].append(clock.quartile())
    print(
        f"\n{name}: LSTM {size.layers} x {size.hidden}, V = {size.vocabulary:,}, batch {BATCH}, bptt {size.bptt}, "
        f"{device}, {torch.get_num_threads()} thread(s), {turns} turns"
    )
    print(f"{'':28}{'tokens/s':>10}{'us a step':>11}{'to example':>12}{'to bare':>9}")
    for side, found in speeds.items():
        precision = side.rpartition(" ")[2]
        to_example, to_bare = ratio(found, speeds[EXAMPLE]), ratio(found, speeds[f"bare, {precision}"])
        speed = statistics.median(found)
        step = 1e6 * BATCH * size.bptt / speed
        print(f"{side:28}{speed:>10,.0f}{step:>11,.0f}{to_example:>12.2f}{to_bare:>9.2f}")
    for precision in PRECISIONS:
        inside, alone = (steps[f"ours, {where}, {precision}"] for where in ("Lightning", "bare loop"))
        each = sorted(100 * (a / b - 1) for a, b in zip(inside, alone, strict=True))
        microseconds = 1e6 * (statistics.median(inside) - statistics.median(alone))
        print(
            f"Lightning's overhead, {precision}: {statistics.median(each):.1f}% ({each[0]:.1f} to {each[-1]:.1f}%), "
            f"{microseconds:,.0f} us a step"
        )


def ratio(some: list[float], others: list[float]) -> float:
    """Median of the ratios within each turn."""
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def main() -> None:
    """Measure the sizes asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", choices=[*SIZES, []], default=[])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    warnings.filterwarnings("ignore")
    device = find_devices(arguments.device).accelerator
    for name in arguments.sizes or SIZES:
        compare(name, SIZES[name], device, arguments.turns)


if __name__ == "__main__":
    main()
