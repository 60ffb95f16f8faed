"""Memory of a long window with and without checkpointing of the scan: ``python -m benchmarks.memory``.

Each figure comes from a process of its own: resident memory after the forward pass (outputs, and what the backward pass
needs) and at its peak over both passes, less that before them; the input is not counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time

import psutil
import torch

from nextword.models.cells import CELLS
from nextword.models.scan import scan

STEPS, BATCH, HIDDEN = 1000, 32, 512


def measure(kind: str, checkpoint_steps: int | None, engine: str) -> dict[str, float]:
    """Bytes after the forward pass, bytes of the peak and seconds of one forward and backward pass."""
    torch.set_num_threads(1)
    cell = CELLS[kind](HIDDEN, HIDDEN)
    cell.initialize(HIDDEN**-0.5)
    x = torch.randn(STEPS, BATCH, HIDDEN, requires_grad=True)
    scan(cell, x[:2], cell.zero_state(BATCH), engine)[0].sum().backward()
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    before, started = process.memory_info().rss, time.perf_counter()
    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = scan(cell, x, cell.zero_state(BATCH), engine, checkpoint_steps=checkpoint_steps)
    after_forward = process.memory_info().rss - before
    output.sum().backward()
    done.set()
    watcher.join()
    return {
        "after_forward": after_forward,
        "peak": peak[0] - before,
        "seconds": time.perf_counter() - started,
    }


def _in_child(queue, *arguments) -> None:
    queue.put(json.dumps(measure(*arguments)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", default=["lstm_peephole", "gru"])
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--checkpoint-steps", type=int, nargs="*", default=[32, 100])
    arguments = parser.parse_args()
    print(f"T = {STEPS}, B = {BATCH}, H = {HIDDEN}, float32; MB")
    print(f"{'cell':<18}{'checkpoint_steps':>18}{'after forward':>15}{'peak':>8}{'seconds':>9}")
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 20)  # freed tensors go back to the system, so that resident is live
    context = multiprocessing.get_context("spawn")
    for kind in arguments.cells:
        for steps in [None, *arguments.checkpoint_steps]:
            queue = context.Queue()
            child = context.Process(target=_in_child, args=(queue, kind, steps, arguments.engine))
            child.start()
            figures = json.loads(queue.get())
            child.join()
            megabytes = (figures["after_forward"] / 1e6, figures["peak"] / 1e6)
            print(
                f"{kind:<18}{steps or 'none':>18}{megabytes[0]:>15.0f}{megabytes[1]:>8.0f}{figures['seconds']:>9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
