"""Who runs: this process, whether another one is still there, and the ``dvc`` above us."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

import psutil

CLOCK_TOLERANCE_SECONDS = 2.0  # start times are derived from the boot time, which follows clock corrections


@dataclass(frozen=True)
class Process:
    """A process, named so that a reused pid is not taken for it."""

    host: str
    pid: int
    started: float
    """Seconds since the epoch."""
    command: str

    def tags(self, role: str) -> dict[str, str]:
        """MLflow tags ``nextword.ROLE_host``, ``_pid`` and ``_started``."""
        return {
            f"nextword.{role}_host": self.host,
            f"nextword.{role}_pid": str(self.pid),
            f"nextword.{role}_started": f"{self.started:.2f}",
        }


def this_process() -> Process:
    """The process that runs this code."""
    return _describe(psutil.Process())


def is_gone(pid: int, started: float) -> bool:
    """Whether no process of this host has both this pid and this start time (a zombie counts as gone)."""
    try:
        process = psutil.Process(pid)
        return same_start(process.create_time(), started) is False or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def same_start(one: float, other: float) -> bool:
    """Whether two start times of one pid are the same but for corrections of the clock."""
    return abs(one - other) < CLOCK_TOLERANCE_SECONDS


def find_dvc() -> Process | None:
    """The nearest ancestor that is DVC (``dvc repro``, ``python -m dvc exp run``, ...), or None."""
    try:
        ancestors = psutil.Process().parents()
    except psutil.Error:
        return None
    for process in ancestors:
        try:
            if is_dvc(process.name(), process.cmdline()):
                return _describe(process)
        except psutil.Error:
            continue
    return None


def is_dvc(name: str, command: list[str]) -> bool:
    """Whether a process of this name and command line is DVC's.

    >>> is_dvc("python", ["/venv/bin/python", "/venv/bin/dvc", "repro"])
    True
    >>> is_dvc("python", ["python", "-m", "dvc", "exp", "run"])
    True
    >>> is_dvc("sh", ["sh", "-c", "dvc repro"])
    False
    """
    if PurePath(name).stem == "dvc":
        return True
    if not PurePath(name).stem.startswith(("python", "pypy")):
        return False
    if any(pair == ("-m", "dvc") for pair in pairwise(command)):
        return True
    return any(PurePath(word).stem == "dvc" for word in command[:2])


def own_command() -> str:
    """The command line of this process as it was typed, e.g. ``python -m pipeline.train lstm``."""
    words = list(sys.orig_argv)
    words[:1] = [PurePath(words[0]).name] if words else []
    return " ".join(words)


def _describe(process: psutil.Process) -> Process:
    words = process.cmdline()
    command = own_command() if process.pid == os.getpid() else " ".join(words)
    return Process(socket.gethostname(), process.pid, process.create_time(), command)
