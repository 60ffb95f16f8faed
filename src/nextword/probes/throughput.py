"""Training speed of LSTM and GRU against batch size and devices, beside what their arithmetic and memory demand.

Shapes: T time steps, B columns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from nextword.config import ModelParams, ThroughputParams, TrainParams
from nextword.models import build_model
from nextword.pool import torch_threads
from nextword.probes.capacity import networks
from nextword.probes.step_costs import allocated, bytes_per_token, counted_by_torch
from nextword.stage import Progress
from nextword.text.ids import EncodedCorpus, Ids, load_ids
from nextword.text.streams import Columns
from nextword.training.brief import Updates, product_type, window_loss
from nextword.training.data import Window, place
from nextword.training.module import LanguageModelModule
from nextword.training.placement import find_devices
from nextword.training.schedule import build_optimizer

LEARNING_RATE = 1e-3
"""No figure depends on it."""
WARM_STEPS = 3
"""Updates before the clock starts: kernels are compiled, the optimiser's states are made."""
PEAK_SIZE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices whose product is the peak."""
BACKWARD = 2
"""Operations of the backward pass over those of the forward pass: gradients of inputs and of weights."""


def throughput(
    ids: Path, params: ThroughputParams, train: TrainParams, progress: Progress | None = None
) -> dict[str, Any]:
    """Time whole training steps: forward, loss, backward, clipping, AdamW, as stage ``train`` does them.

    At each batch size and number of devices the networks take turns, ``repeats`` times, in an order that moves on by
    one each time; so all of them meet the same disturbances. A device is a thread of this process on CPU (as a run of
    stage ``train`` uses them when it has several cores); on a GPU it is that GPU, and there is one.

    Args:
        ids: folder that ``encode`` wrote; windows come from train.
        params: sizes, batch sizes, devices, time.
        train: ``bptt``, precision, accelerator, clipping, and the batch size at which bytes and memory are given.
        progress: called with turns done and in all.

    Returns:
        ``device``, ``precision``, ``vocab_size``, ``bptt``, ``batch_size``; ``peak_operations_per_second`` by number of
        devices: of a large matrix product in that precision; ``networks``: by name ``kind``, ``hidden_size``,
        ``operations_per_token`` (``counted`` from the weights and by ``torch``'s counter; of the matrix products,
        forward), ``bytes_per_token`` (see :func:`bytes_per_token`), ``step_memory_bytes`` (largest memory held during
        a step above that before it, by torch's allocator); ``points``: ``network``, ``batch_size``, ``devices``,
        ``tokens_per_second`` (one a repeat), ``share_of_peak`` (forward and backward operations a second, of the
        median, over the peak).

    Raises:
        ValueError: more devices than there are, or train is shorter than a batch.
    """
    machine = find_devices(train.accelerator, train.precision)
    kind = machine.accelerator
    counts = _device_counts(params, machine.num_devices if kind == "cpu" else 1, kind)
    low = product_type(train.precision, kind)
    corpus = load_ids(ids)
    found = networks(params.embedding_size, params.hidden_size)
    points = [(batch, count) for count in counts for batch in params.batch_sizes]
    turns, done = len(points) * params.repeats * len(found), 0
    peaks: dict[int, float] = {}
    rows: list[dict[str, Any]] = []
    for count in counts:
        with torch_threads(count):
            peaks[count] = peak_operations(kind, low, params.seconds)
    for batch, count in points:
        with torch_threads(count):
            trainings = {name: Training(model, corpus, train, kind, low, batch) for name, model in found.items()}
            speeds: dict[str, list[float]] = {name: [] for name in found}
            names = list(found)
            for repeat in range(params.repeats):
                shift = repeat % len(names)
                for name in names[shift:] + names[:shift]:
                    speeds[name].append(trainings[name].measure(params.seconds / params.repeats))
                    done += 1
                    if progress is not None:
                        progress(done, turns)
        for name, training in trainings.items():
            operations = (1 + BACKWARD) * training.model.operations_per_token()["total"]
            rows.append({
                "network": name, "batch_size": batch, "devices": count, "tokens_per_second": speeds[name],
                "share_of_peak": operations * median(speeds[name]) / peaks[count],
            })  # fmt: skip
    with torch_threads(1):
        described = {name: _describe(model, corpus, train, kind, low) for name, model in found.items()}
    return {
        "device": kind if kind == "cpu" else torch.cuda.get_device_name(0),
        "precision": str(low).removeprefix("torch."),
        "vocab_size": corpus.vocab_size,
        "bptt": train.bptt,
        "batch_size": train.batch_size,
        "peak_operations_per_second": peaks,
        "networks": described,
        "points": rows,
    }


class Training:
    """A training that can be taken up and left again.

    Args:
        params: the network.
        corpus: its train is read over and over, in whole windows where there are any.
        train: bptt, clipping.
        device: cpu or cuda.
        low: type of the matrix products.
        batch_size: B.
    """

    def __init__(
        self,
        params: ModelParams,
        corpus: EncodedCorpus,
        train: TrainParams,
        device: str,
        low: torch.dtype,
        batch_size: int,
    ) -> None:
        torch.manual_seed(0)
        self.model = build_model(params, corpus.vocab_size, corpus.eos_id).to(device).train()
        self.device, self.low = device, low
        settings = train.model_copy(update={"optimizer": "adamw", "loss_scale": "mean"})
        self.module = LanguageModelModule(self.model, settings, LEARNING_RATE, 1, 1)
        self.update = Updates(
            self.model, build_optimizer(self.model.parameters(), settings, LEARNING_RATE), train.clip_norm
        )
        self.windows = _windows(corpus["train"].ids, batch_size, train.bptt, device)
        for _ in range(WARM_STEPS):
            self.step()

    def measure(self, seconds: float) -> float:
        """Tokens a second over whole steps for at least so long."""
        _wait(self.device)
        started, tokens = time.perf_counter(), 0
        while not tokens or time.perf_counter() - started < seconds:
            tokens += self.step()  # a GPU is a step behind at most
        _wait(self.device)
        return tokens / (time.perf_counter() - started)

    def step(self) -> int:
        """One update; tokens trained on."""
        loss, tokens = self.forward()
        if not self.update(loss):
            raise FloatingPointError(f"loss {float(loss)} or its gradient is not finite")
        return tokens

    def forward(self) -> tuple[Tensor, int]:
        """The loss of the next window, and its tokens."""
        number, window = next(self.windows)
        return window_loss(self.module, window, number, self.low), window.tokens.numel()


def _windows(ids: Ids, batch_size: int, bptt: int, device: str) -> Iterator[tuple[int, Window]]:
    """Windows without end, numbered within each pass; those cut short are left out."""
    columns = Columns(ids, batch_size, bptt)
    whole = max(1, columns.length // bptt)
    (windows,) = place([columns], torch.device(device))
    for number in cycle(range(whole)):
        yield number, windows[number].to(device)


def peak_operations(device: str, low: torch.dtype, seconds: float) -> float:
    """Floating-point operations a second of the best of some large matrix products."""
    size = PEAK_SIZE[device]
    x = torch.randn(size, size, device=device, dtype=torch.float32).to(low)
    best, ends = 0.0, time.perf_counter() + seconds
    torch.mm(x, x)
    while time.perf_counter() < ends or not best:
        _wait(device)
        started = time.perf_counter()
        torch.mm(x, x)
        _wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _describe(
    params: ModelParams, corpus: EncodedCorpus, train: TrainParams, device: str, low: torch.dtype
) -> dict[str, Any]:
    training = Training(params, corpus, train, device, low, train.batch_size)
    model, tokens = training.model, training.step()
    # without gradients before it, so that those of the step count whole
    training.update.optimizer.zero_grad()
    kept, _ = allocated(training.forward, device)
    _, peak = allocated(training.step, device)
    return {
        "kind": params.kind,
        "hidden_size": params.hidden_size,
        "operations_per_token": {
            "counted": model.operations_per_token()["total"],
            "torch": counted_by_torch(params, corpus.vocab_size, corpus.eos_id),
        },
        "bytes_per_token": bytes_per_token(
            model.num_parameters()["total"], kept, tokens * corpus.vocab_size, low, tokens
        ),
        "step_memory_bytes": peak,
    }


def _device_counts(params: ThroughputParams, available: int, kind: str) -> tuple[int, ...]:
    counts = params.devices or (1, available)
    if max(counts) > available:
        what = "this machine has so many cores" if kind == "cpu" else "on a GPU only one device is measured"
        raise ValueError(f"throughput.devices asks for {max(counts)}, and {available} can be had: {what}")
    return tuple(sorted(set(counts)))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
