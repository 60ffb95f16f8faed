"""Many small trainings side by side: one process a core, one thread each."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any

import torch

from nextword.allocator import keep_freed_memory
from nextword.stage import Progress


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int = 1, progress: Progress | None = None
) -> list[Any]:
    """``[function(*job) for job in jobs]``, in ``workers`` processes; the results do not depend on their number.

    Args:
        function: importable by name; seeds its own random numbers.
        jobs: its arguments, best the long ones first.
        workers: processes; 1 computes here.
        progress: called after each job.

    Raises:
        ValueError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; take 1 or more")
    done, results = 0, [None] * len(jobs)

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(jobs))

    if workers == 1 or len(jobs) < 2:
        with _one_thread():
            for number, job in enumerate(jobs):
                results[number] = function(*job)
                report()
        return results
    # spawn: a forked child of a process that has used OpenMP or CUDA may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_prepare) as pool:
        futures = {pool.submit(function, *job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                report()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def _prepare() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
