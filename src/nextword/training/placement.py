"""Which run goes on which device, and the processes that carry the runs out.

``devices_per_run`` is the one idea: 1 runs as many at once as there are devices (on CPU a device is a core, and each
process is pinned to its own), N gives each run N of them (DDP), ``all`` gives it all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextword.config import TrainParams
from nextword.stage import GRACE_SECONDS, disk_is_full
from nextword.training.memory import memory_advice
from nextword.training.progress import Progress
from nextword.training.worker import STARTED_BY, STOPPED, Job

POLL_SECONDS = 0.5

_OF_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "MASTER_")

OnRow = Callable[[Job, dict[str, Any]], None]


@dataclass(frozen=True)
class Devices:
    """What this machine offers."""

    accelerator: str  # cpu or cuda
    cores: tuple[int, ...]
    num_devices: int  # GPUs, or cores on CPU


def find_devices(accelerator: str, precision: str = "auto") -> Devices:
    """Devices for ``auto``, ``cpu`` or ``cuda``, to train on in ``precision``.

    Raises:
        ValueError: ``cuda`` was asked for and there is no GPU, or float16 without one.
    """
    import torch

    cores = (
        tuple(sorted(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else tuple(range(os.cpu_count() or 1))
    )
    gpus = torch.cuda.device_count() if accelerator != "cpu" else 0
    if accelerator == "cuda" and gpus == 0:
        raise ValueError("cuda was asked for (train.accelerator, --device) and no GPU was found; take auto or cpu")
    if precision == "float16" and gpus == 0:
        raise ValueError("train.precision is float16, which only GPUs train in; set it to auto, bfloat16 or float32")
    return Devices("cuda", cores, gpus) if gpus else Devices("cpu", cores, len(cores))


def devices_per_run(params: TrainParams, devices: Devices) -> int:
    """The number that ``devices_per_run`` stands for here.

    Raises:
        ValueError: more devices than there are, or a batch that does not divide.
    """
    wanted = devices.num_devices if params.devices_per_run == "all" else params.devices_per_run
    if wanted > devices.num_devices:
        raise ValueError(
            f"devices_per_run is {wanted} and this machine has {devices.num_devices} ({devices.accelerator})"
        )
    params.require_parts(wanted)
    return wanted


@dataclass(frozen=True)
class Slot:
    """A share of the machine for one run."""

    cores: tuple[int, ...]
    gpus: tuple[int, ...]


def rounds(num_runs: int, params: TrainParams, devices: Devices) -> Iterator[list[Slot]]:
    """Slots for ``num_runs`` runs, round by round; the runs of a round share the whole machine evenly.

    A last round with fewer runs so gets more cores for each.
    """
    per_run = devices_per_run(params, devices)
    at_once = min(devices.num_devices // per_run, params.max_parallel_runs or num_runs)
    while num_runs > 0:
        width = min(at_once, num_runs)
        cores = max(1, len(devices.cores) // width)
        yield [
            Slot(
                tuple(devices.cores[i * cores : (i + 1) * cores]) or devices.cores,
                tuple(range(i * per_run, (i + 1) * per_run)) if devices.accelerator == "cuda" else (),
            )
            for i in range(width)
        ]
        num_runs -= width


class Runs:
    """Carries out jobs in processes of their own; entered, the first of them start.

    Those that are done keep their place in the plan: the number of threads decides the last bits of a run, and must not
    depend on what was interrupted.

    Args:
        jobs: what to train; where all is done, nothing is asked of this machine.
        params: placement.

    Raises:
        ValueError: a placement that this machine cannot give.
    """

    def __init__(self, jobs: list[Job], params: TrainParams) -> None:
        self.jobs: list[Job] = []
        self._waiting, self._rounds = iter(jobs), iter(list[list[Slot]]())
        self._started: list[_Process] = []
        if all(job.outcome() is not None for job in jobs):
            return
        devices = find_devices(params.accelerator, params.precision)
        per_run = devices_per_run(params, devices)
        threads = max(1, len(devices.cores) // per_run)
        placed = {"accelerator": devices.accelerator, "devices": per_run, "threads": threads}
        jobs = [job.model_copy(update=placed) for job in jobs]
        self.jobs = [job for job in jobs if job.outcome() is None]
        self._waiting, self._rounds = iter(jobs), rounds(len(jobs), params, devices)

    def __enter__(self) -> Runs:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._started:  # all at once: each saves before it ends
            process.terminate()
        for process in self._started:
            process.wait_or_kill()

    def _start(self) -> None:
        self._started = []
        while not self._started and (slots := next(self._rounds, [])):
            for slot in slots:
                job = next(self._waiting)
                if job.outcome() is None:
                    self._started.append(_Process(job, slot))

    def wait(self, on_row: OnRow) -> list[str]:
        """Wait for all jobs; a failing one does not stop the others.

        Args:
            on_row: called with each row of progress.

        Returns:
            one message for each job that failed.
        """
        failures: list[str] = []
        with Progress(len(self.jobs)) as progress:

            def report(job: Job, row: dict[str, Any]) -> None:
                progress.row(job, row)
                on_row(job, row)

            while self._started:
                while any(process.running() for process in self._started):
                    for process in self._started:
                        process.forward_rows(report)
                    time.sleep(POLL_SECONDS)
                for process in self._started:
                    process.forward_rows(report)
                    failures += process.failure()
                self._start()
        return failures


class _Process:
    def __init__(self, job: Job, slot: Slot) -> None:
        job = job.model_copy(update={"threads": max(1, len(slot.cores) // (1 if slot.gpus else job.devices))})
        self.job, self.offset, self.log_path = job, 0, job.folder / "log.txt"
        job.set_rows_aside()
        job_path = job.write()
        # What the stage starts is a run of this machine alone, though the stage itself may be a task of SLURM.
        environment = {key: value for key, value in os.environ.items() if not key.startswith(_OF_LAUNCHERS)}
        environment |= {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
        environment[STARTED_BY] = str(os.getpid())
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, _visible(slot.gpus)))
        with self.log_path.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nextword.training.worker", str(job_path)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                close_fds=False,  # holds the lock of the stage as well: the next one waits for its workers too
            )
        if hasattr(os, "sched_setaffinity") and not slot.gpus:
            os.sched_setaffinity(self.process.pid, slot.cores)

    def running(self) -> bool:
        return self.process.poll() is None

    def forward_rows(self, report: OnRow) -> None:
        rows, self.offset = read_rows(self.job.rows, self.offset)
        for row in rows:
            report(self.job, row)

    def terminate(self) -> None:
        self.process.terminate()

    def wait_or_kill(self) -> None:
        try:
            self.process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def failure(self) -> list[str]:
        if self.process.returncode == 0:
            return []
        if self.process.returncode in STOPPED.values():
            return [f"{self.job.label} was told to stop, and saved first: run again and it goes on"]
        tail = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        if self.process.returncode == -signal.SIGKILL:
            tail.append(
                "It was killed: because another process of the run failed, which then says so above; or by the system, "
                f"{memory_advice(self.job)}"
            )
        tail += filter(None, [disk_is_full(self.job.folder)])  # the log may have had no room to say so
        return [
            f"{self.job.label} ended with status {self.process.returncode} (log: {self.log_path}):\n" + "\n".join(tail)
        ]


def _visible(gpus: tuple[int, ...]) -> list[str]:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(gpu) for gpu in range(max(gpus) + 1)]
    return [names[gpu] for gpu in gpus]


def read_rows(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Whole rows of a progress file from byte ``offset`` on, and the offset after them."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    data = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in data.splitlines()], offset + len(data)
