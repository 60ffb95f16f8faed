"""The line to the tracking store, and what happens when it breaks: one warning, the stage goes on, nothing is lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nextword.tracking.journal import Entry, Journal, journals, merge
from nextword.tracking.sender import Sender, is_refused, may_wait
from nextword.tracking.store import ensure_store, find_store, project_root

logger = logging.getLogger("nextword.tracking")

WAITING = Path("work/tracking")
"""Where what is not sent yet waits, in the project folder."""
LOST = "the stage goes on without"
WAITS = f"it waits in {WAITING}, and the stage goes on"
UNKNOWN = "an unknown store"
FAILED_SLOWLY_SECONDS = 0.5
SLOW_SECONDS = 3.0
PAUSE_SECONDS = 60.0
CATCH_UP_SECONDS = 60.0
"""How long a stage may take to send what waits; the rest is left to the next one."""

Result = TypeVar("Result")


class Link:
    """Sends entries to the store, in order, and keeps what cannot be sent.

    Input: entries (see :mod:`nextword.tracking.sender`). Output: what MLflow answers, or None. Invariants: no
    :class:`Exception` leaves it; each kind of failure is logged once as a warning; an entry is not sent before those
    that were kept earlier, but for files and models that the server rejected, which are left to later processes; after
    a failure that took long, entries are kept for a minute before the next try; after metrics that took long, metrics
    are kept for a minute and then sent with fewer calls, so that a slow store costs a stage seconds, not hours.
    """

    def __init__(self, experiment: str, root: Path | None = None) -> None:
        self.ids: dict[str, str] = {}
        """MLflow's run id by our key, of the runs that the store has."""
        self.folder = (root or project_root()) / WAITING
        self._root = root
        self._experiment = experiment
        self._store = find_store(root)
        self._journal = Journal.new(self.folder)
        self._sender: Sender | None = None
        self._turn = threading.RLock()
        self._warned: set[tuple[str, str]] = set()
        self._paused_until = 0.0
        self._slow_until = 0.0

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; None before the store is reached."""
        return self._sender.experiment_id if self._sender else None

    def send(self, what: str, entry: Entry) -> Any:
        """Carry ``entry`` out or keep it; ``what`` completes the sentence "could not ..." of the warning."""
        with self._turn:
            began = time.monotonic()
            try:
                is_metrics = entry["do"] == "metrics"
                waits = self._is_paused() or (is_metrics and began < self._slow_until)
                if not waits and self._catch_up() and (sender := self._open(what)) is not None:
                    began = time.monotonic()
                    result = sender.carry_out(entry)
                    if is_metrics and time.monotonic() - began > SLOW_SECONDS:
                        self._slow_until = time.monotonic() + PAUSE_SECONDS
                    return result
            except Exception as error:
                if is_refused(error):
                    self._report(what, error, began)
                    return None
                self._report(what, error, began, WAITS)
            except BaseException:  # a signal; how far this came nobody knows
                self._keep(entry)
                raise
            self._keep(entry)
            return None

    def call(self, what: str, action: Callable[[Sender], Result]) -> Result | None:
        """Do something with the store that is not worth keeping."""
        with self._turn:
            if self._is_paused() or (sender := self._open(what)) is None:
                return None
            with self.harmless(what):
                return action(sender)
        return None

    @contextmanager
    def harmless(self, what: str, then: str = LOST) -> Iterator[None]:
        """A failure inside is a warning."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self._report(what, error, began, then)

    def resend(self, seconds: float = CATCH_UP_SECONDS) -> tuple[int, Counter[str]]:
        """Send what processes that are gone have left.

        Args:
            seconds: after which the rest is left as it is.

        Returns:
            Number of entries sent, and of those left by the name of their store; a journal that cannot be read counts
            as one. What living processes have kept is theirs to send, and not counted.
        """
        sent, left, deadline = 0, Counter[str](), time.monotonic() + seconds
        for journal in journals(self.folder):
            store, remaining = UNKNOWN, 1
            with self.harmless(f"send {journal.path}", WAITS):
                if not journal.take():
                    continue
                try:
                    header, entries = journal.read()
                    store, remaining = header.get("store", UNKNOWN), len(entries)
                    if not header:  # a power cut left half of its first line, or a kill its files alone
                        journal.remove()
                    elif store == self._store.name and not self._is_paused():
                        with self.harmless("send what was kept", WAITS):
                            sender = Sender(ensure_store(self._root), header["experiment"], header["ids"])
                            self._deliver(journal, sender, deadline)
                    remaining = len(journal.read()[1])
                    sent += len(entries) - remaining
                finally:
                    journal.release()
            if remaining:
                left[store] += remaining
        return sent, left

    def close(self) -> None:
        """Send what waits, if the store answers by now; else leave it to the next stage."""
        with self._turn:
            self._catch_up()
            with self.harmless("let the journal go"):
                self._journal.release()

    def _open(self, what: str) -> Sender | None:
        if self._sender is None:
            with self.harmless(what, WAITS):
                self._sender = Sender(ensure_store(self._root), self._experiment, self.ids)
        return self._sender

    def _catch_up(self) -> bool:
        """Send what this process kept; False where some of it is left."""
        if self._journal.is_empty:
            return True
        with self.harmless("send what was kept", WAITS):
            sender = self._open("send what was kept")
            if sender is not None and self._deliver(self._journal, sender, time.monotonic() + CATCH_UP_SECONDS):
                if not self._journal.is_empty:
                    self._journal.release()
                    self._journal = Journal.new(self.folder)
                return True
        self._pause()
        return False

    def _deliver(self, journal: Journal, sender: Sender, deadline: float) -> bool:
        """Send a journal whose lock we have; False where some of it is left that has to be sent in order."""
        header, kept = journal.read()
        entries, rejected = merge(kept), list[Entry]()
        for index, entry in enumerate(entries):
            began = time.monotonic()
            try:
                if began > deadline:
                    raise TimeoutError(f"{len(entries) - index} entries are left after {CATCH_UP_SECONDS:.0f} s")
                sender.carry_out(journal.locate(entry))
            except Exception as error:
                if is_refused(error):
                    self._report(f"send what was kept ({entry['do']})", error, began)
                    journal.refuse(entry, error)
                    continue
                if may_wait(entry, error):
                    self._warn(f"send what was kept ({entry['do']})", WAITS, error)
                    rejected.append(entry)
                    continue
                self._report(f"send what was kept ({entry['do']})", error, began, WAITS)
                if index > 0:
                    journal.replace({**header, "ids": sender.ids}, [*rejected, *entries[index:]])
                return False
        if rejected:
            runs = {entry["run"] for entry in rejected}  # of the others it has nothing more to say
            ids = {key: run_id for key, run_id in sender.ids.items() if key in runs}
            journal.replace({**header, "ids": ids}, rejected)
        else:
            journal.remove()
        return True

    def _keep(self, entry: Entry) -> None:
        header = {"store": self._store.name, "experiment": self._experiment, "ids": self.ids}
        try:
            self._journal.append(header, entry)
        except Exception as error:
            self._warn(f"keep it in {WAITING} either", "so it is lost", error)

    def _is_paused(self) -> bool:
        return time.monotonic() < self._paused_until

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _report(self, what: str, error: Exception, began: float, then: str = LOST) -> None:
        if time.monotonic() - began > FAILED_SLOWLY_SECONDS:
            self._pause()
        self._warn(what, then, error)

    def _warn(self, what: str, then: str, error: Exception) -> None:
        kind = type(error).__name__
        level = logging.DEBUG if (kind, then) in self._warned else logging.WARNING
        self._warned.add((kind, then))
        text = " ".join(str(error).split())[:500]
        logger.log(level, "MLflow (%s): could not %s: %s: %s; %s", self._store.name, what, kind, text, then)
