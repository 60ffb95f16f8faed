"""What a training step demands: operations, bytes moved, memory."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from nextword.config import ModelParams
from nextword.models import build_model


def counted_by_torch(params: ModelParams, vocab_size: int, eos_id: int) -> int:
    """Operations a token forward that ``torch.utils.flop_counter`` sees in the steps as they are written."""
    steps, batch = 3, 2
    # the other engines' products are not torch's
    model = build_model(params.model_copy(update={"engine": "loop"}), vocab_size, eos_id)
    tokens_TB = torch.zeros(steps, batch, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        hidden_NE, _ = model.hidden(tokens_TB, model.initial_state(batch))
        model.output.log_prob(hidden_NE)
    return int(counter.get_total_flops()) // (steps * batch)


def bytes_per_token(num_parameters: int, kept_bytes: int, logits: int, low: torch.dtype, tokens: int) -> float:
    """Bytes that a training step must move, a token; caches may spare some, kernels may add some.

    ``(P (2 s + 8 + 24) + 2 K + 2 s N V) / N``: the P weights are read by forward and by backward in the type of the
    matrix products (s bytes), their float32 gradients written and read, AdamW reads and writes weight and two
    moments; the K bytes kept for backward and the N V logits are written and read once.

    Args:
        num_parameters: P.
        kept_bytes: K.
        logits: N V.
        low: type of s bytes.
        tokens: N of the step.
    """
    return (num_parameters * (2 * low.itemsize + 32) + 2 * kept_bytes + 2 * low.itemsize * logits) / tokens


def allocated(run: Callable[[], Any], device: str) -> tuple[int, int]:
    """Bytes of torch's allocator above those before ``run``: what its result holds, and the most while it ran."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        kept, most = torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
        del result
        return kept, most
    with _quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    held: dict[int, int] = {}  # by address: what is freed of earlier memory does not count
    most = 0
    for change in (event["args"] for event in changes):
        if change["Bytes"] > 0:
            held[change["Addr"]] = change["Bytes"]
        else:
            held.pop(change["Addr"], None)
        most = max(most, sum(held.values()))
    return sum(held.values()), most


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from standard error what the profiler's C++ part writes there at every start and stop."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
