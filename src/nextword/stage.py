"""The frame of every stage script: a user's error is one clear message and a non-zero exit.

A stage that DVC started ends with it, and begins when an earlier one of the same name, and its workers, are gone.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import NoReturn

import psutil
from tqdm import tqdm

from nextword.paths import WORK

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all."""

SHELLS = {"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox"}
GRACE_SECONDS = 60.0
"""What a process may take to end once it was told to."""

FULL = "the disk is full: free some space (`df -h .` shows what there is) and run again: it goes on from here"
NOT_ALLOWED = "change its owner, rights or mount (`ls -ld`, `findmnt -T` show them) and run again: it goes on from here"
_REMEDIES = {
    "No space left on device": FULL,
    "Disk quota exceeded": FULL,
    " requested and ": FULL,  # NumPy: "1024 requested and 0 written"
    "Read-only file system": NOT_ALLOWED,
    "Permission denied": NOT_ALLOWED,
}


def run_stage(main: Callable[..., None]) -> NoReturn:
    """Call ``main`` with the command line's arguments and exit.

    ValueError (bad input), RuntimeError and OSError (what the machine could not do) end as a message; anything else
    is our own error and keeps its traceback.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        with _under_dvc(os.environ.get("DVC_STAGE")):
            main(*sys.argv[1:])
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {disk_trouble(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    _end()


def disk_trouble(error: BaseException) -> str:
    """The message of an error; where it is about a full disk or a folder that takes no files, with what to do."""
    return "; ".join([str(error), *(remedy for words, remedy in _REMEDIES.items() if words in str(error))])


def disk_is_full(folder: Path) -> str | None:
    """What to do where less than a megabyte is free."""
    return FULL if shutil.disk_usage(folder).free < 1 << 20 else None


def end_once(gone: Callable[[], bool], seconds: float = 1.0) -> None:
    """Send this process SIGTERM once ``gone()``, which is asked every so many seconds.

    After ``GRACE_SECONDS`` more it is killed: one that waits for a process which is no more hears no signal.
    """

    def watch() -> None:
        while not gone():
            time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _under_dvc(stage: str | None) -> Iterator[None]:
    """Tie this process to the DVC that runs it as ``stage``; nothing for one that was started by hand."""
    if stage is None:
        yield
        return
    above = _starters()
    if not _is_python(above[-1]):
        raise RuntimeError("the dvc that started this stage is gone, and the stage ends with it")
    end_once(lambda: _starters() != above)
    with _alone(WORK / "locks" / stage.replace("/", "-"), stage):
        yield


def _starters() -> list[int]:
    """Process ids from the parent up to the first that is no shell: to DVC, for a stage."""
    found = [os.getppid()]
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process().parents():
            found.append(process.pid)
            if process.name() not in SHELLS:
                break
    return found


def _is_python(pid: int) -> bool:
    """Whether a process may be DVC: what adopts the processes of a dead one seldom is Python."""
    try:
        process = psutil.Process(pid)
        return PurePath(process.exe()).name.lower().startswith(("python", "pypy", "dvc"))
    except psutil.Error:
        return False


@contextmanager
def _alone(path: Path, stage: str) -> Iterator[None]:
    """Hold a lock, which the system takes back when this process and those that inherited it are gone.

    Raises:
        RuntimeError: somebody else has held it for longer than a process takes to end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 2 * GRACE_SECONDS
    with path.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"another process of the stage {stage} is still at work in this folder; wait for its end, or "
                        f"end it (`fuser {path}` names it), and run again"
                    ) from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                break
        yield


def _end() -> NoReturn:
    """End well, and at once: taking torch and MLflow apart costs a second, and there are a hundred stages.

    What was registered for the end is done first.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def progress_bar(task: str) -> Iterator[Progress]:
    """A bar on a terminal, nothing elsewhere; yields ``progress(done, of)``."""
    with tqdm(desc=task, disable=None, dynamic_ncols=True) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        yield progress
