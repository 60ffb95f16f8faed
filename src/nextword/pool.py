"""Many small trainings side by side: one process a core, one thread each."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import torch

from nextword.allocator import keep_freed_memory
from nextword.stage import Progress

OnResult = Callable[[int, Any], None]
"""Called with the number of a job and its result, in the order in which they end."""


class Pool:
    """Processes that are kept between rounds of jobs: each takes seconds to start.

    Args:
        workers: processes; 1 computes here.

    Raises:
        ValueError: ``workers`` is below 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; take 1 or more")
        self._executor = None
        if workers > 1:
            # spawn: a forked child of a process that has used OpenMP or CUDA may hang
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(workers, context, initializer=_prepare)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=kind is None, cancel_futures=True)

    def run(
        self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], on_result: OnResult | None = None
    ) -> list[Any]:
        """``[function(*job) for job in jobs]``; the results do not depend on the number of processes.

        Args:
            function: importable by name; seeds its own random numbers.
            jobs: its arguments, best the long ones first.
            on_result: called here after each job.
        """
        results = [None] * len(jobs)
        for number, result in self._ended(function, jobs):
            results[number] = result
            if on_result is not None:
                on_result(number, result)
        return results

    def _ended(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        if self._executor is None:
            for number, job in enumerate(jobs):
                with torch_threads(1):
                    result = function(*job)
                yield number, result
            return
        futures = {self._executor.submit(function, *job): number for number, job in enumerate(jobs)}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run_jobs(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int = 1, progress: Progress | None = None
) -> list[Any]:
    """One round of jobs in processes of its own; see :meth:`Pool.run`.

    Args:
        function: importable by name; seeds its own random numbers.
        jobs: its arguments, best the long ones first.
        workers: processes; 1 computes here, as does a single job.
        progress: called after each job.

    Raises:
        ValueError: ``workers`` is below 1.
    """
    done = 0

    def report(number: int, result: Any) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(jobs))

    with Pool(min(workers, max(len(jobs), 1))) as pool:
        return pool.run(function, jobs, report)


def _prepare() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End where the parent was killed: a worker waits for jobs for ever, since it holds both ends of their pipe."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with ``count`` threads, here and in each thread started within."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
