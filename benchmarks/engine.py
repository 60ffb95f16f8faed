"""Speed of every cell on every engine that computes it: ``python -m benchmarks.engine [--precision bfloat16]``.

One forward and backward pass over a window of T steps, batch B, hidden (and input) size H, in turns with ``nn.LSTM``
at the same sizes (oneDNN on CPU, cuDNN on a GPU); the figure is the median of the ratios of neighbouring turns, each
a time divided by the cell's number of gates (row blocks of its weights) to the time of ``nn.LSTM`` divided by its four.
``per matrix`` divides by the number of H x H matrices instead, which is fair to a cell with more of them than gates. On
a GPU ``graph`` is ``scan`` replayed from a CUDA graph (float32).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from nextword.allocator import keep_freed_memory
from nextword.models.cells import CELLS, Cell
from nextword.models.scan import order, resolve_engine, scan, why_not
from nextword.training.placement import find_devices

SIZES = {"cpu": [(32, 35, 128), (20, 35, 200), (20, 35, 650), (64, 64, 256)],
         "cuda": [(20, 35, 200), (20, 35, 650), (20, 35, 1500)]}  # fmt: skip
"""(B, T, H) by device."""


def timed(work: Callable[[], None], device: str) -> float:
    """Seconds of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turns(work: dict[str, Callable[[], None]], turns: int, device: str) -> dict[str, list[float]]:
    """Seconds of each, by turn; two turns before the first are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(turns + 2):
        for name, call in work.items():
            spent = timed(call, device)
            if turn >= 2:
                seconds[name].append(spent)
    return seconds


def matrices(cell: Cell) -> int:
    """Number of H x H matrices of a cell whose input size is H."""
    return sum(w.numel() for w in cell.parameters() if w.dim() == 2) // cell.hidden_size**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--cells", nargs="*", default=list(CELLS))
    parser.add_argument("--sizes", nargs="*", metavar="B,T,H")
    parser.add_argument("--engines", nargs="*", help="these alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as every training and evaluation does
    device, low = find_devices(arguments.device).accelerator, arguments.precision == "bfloat16"
    sizes = [tuple(map(int, size.split(","))) for size in arguments.sizes] if arguments.sizes else SIZES[device]
    name = torch.cuda.get_device_name() if device == "cuda" else f"cpu, {arguments.threads} thread(s)"
    print(f"torch {torch.__version__}, {name}, {arguments.precision}")
    print(f"{'B, T, H':<14}{'cell':<18}{'engine':<10}{'ms':>8}{'per gate':>10}{'per matrix':>12}")
    for batch, steps, hidden in sizes:
        x = torch.randn(steps, batch, hidden, device=device, requires_grad=True)
        gradient = torch.randn(steps, batch, hidden, device=device)
        reference = nn.LSTM(hidden, hidden).to(device)

        def torch_lstm(x=x, gradient=gradient, reference=reference) -> None:
            torch.backends.cudnn.allow_tf32 = True  # as torch has it; our own layers set it for themselves
            with torch.autocast(device, torch.bfloat16, enabled=low):  # on a GPU: in float16
                output = reference(x)[0]
            output.backward(gradient.to(output.dtype))

        for kind in arguments.cells:
            cell = CELLS[kind](hidden, hidden).to(device)
            cell.initialize(hidden**-0.5)
            state = cell.zero_state(batch)
            able = [engine for engine in order(device) if why_not(engine, CELLS[kind], device) is None]
            able += ["graph"] if device == "cuda" and "scan" in able else []
            engines = [e for e in able if e in (arguments.engines or able)]

            def ours(engine, cell=cell, state=state, x=x, gradient=gradient) -> None:
                with torch.autocast(device, torch.bfloat16, enabled=low):
                    output = scan(cell, x, state, engine)[0]
                output.backward(gradient.to(output.dtype))

            work = {"nn.LSTM": torch_lstm} | {e: lambda e=e, ours=ours: ours(e) for e in engines}
            seconds = in_turns(work, arguments.turns, device)
            chosen = resolve_engine(CELLS[kind], "auto", device)
            for engine in engines:
                label = engine + "*" * (engine == chosen)
                ratio = statistics.median(a / b for a, b in zip(seconds[engine], seconds["nn.LSTM"], strict=True))
                milliseconds = 1e3 * statistics.median(seconds[engine])
                print(
                    f"{f'{batch}, {steps}, {hidden}':<14}{kind:<18}{label:<10}"
                    f"{milliseconds:>8.2f}{ratio * 4 / len(cell.gates):>10.2f}{ratio * 8 / matrices(cell):>12.2f}",
                    flush=True,
                )
    print("* what engine: auto takes")


if __name__ == "__main__":
    main()
