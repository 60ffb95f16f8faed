"""What to do where a run needs more memory than there is."""

from __future__ import annotations

from nextword.training.worker import Job

_SAID_BY_LIBRARIES = ("DefaultCPUAllocator", "ALLOC_FAILED", "bad_alloc", "Cannot allocate memory")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether memory, of the device or of the machine, was what an error is about."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in _SAID_BY_LIBRARIES
    )


def memory_advice(job: Job) -> str:
    """The sizes that a run's memory grows with, and what makes it less."""
    train = job.params.train
    columns = train.batch_size // (job.devices * train.accumulate)
    model = job.params.models[job.model]
    same = []
    if columns > 1:
        parts = train.accumulate * next(n for n in range(2, columns + 1) if columns % n == 0)
        same.append(f"train.accumulate: {parts}")
    if model.window is None and model.checkpoint_steps is None:
        same.append(f"models.{job.model}.checkpoint_steps: {round(train.bptt**0.5)}")
    same.append(f"train.devices_per_run above {job.devices}, where there are more")
    return (
        f"out of memory with batch_size {train.batch_size} ({columns} streams at a time on each of {job.devices} "
        f"devices a node) and bptt {train.bptt}. Less memory with the same results: {', or '.join(same)}. Less memory "
        "too: fewer runs at once (train.max_parallel_runs), or a smaller batch_size, bptt, model or vocabulary"
    )
