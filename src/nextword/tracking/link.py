"""The line to the tracking store, and what happens when it breaks: one warning, and the stage goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nextword.tracking.store import Store, ensure_store, quiet

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("nextword.tracking")

SLOW_SECONDS = 0.5
PAUSE_SECONDS = 60.0

Result = TypeVar("Result")


class Link:
    """Carries calls to MLflow and keeps their failures from the stage.

    Input: actions on an :class:`mlflow.MlflowClient`. Output: what they return, or None when they failed.
    Invariant: no :class:`Exception` leaves :meth:`call`; each kind of failure is logged once as a warning; after a
    failure that took long (a server that does not answer) calls are skipped for a minute.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.store: Store | None = None
        self._client: MlflowClient | None = None
        self._warned: set[str] = set()
        self._paused_until = 0.0

    def call(
        self, what: str, action: Callable[[MlflowClient], Result], *, even_if_paused: bool = False
    ) -> Result | None:
        """Do ``action``; ``what`` completes the sentence "could not ..." of the warning."""
        if time.monotonic() < self._paused_until and not even_if_paused:
            return None
        began = time.monotonic()
        try:
            with quiet():
                return action(self._open())
        except Exception as error:
            self._report(what, error)
            if time.monotonic() - began > SLOW_SECONDS:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
            return None

    def _open(self) -> MlflowClient:
        if self._client is None:
            self.store = ensure_store(self.root)
            self._client = self.store.client()
        return self._client

    def _report(self, what: str, error: Exception) -> None:
        kind = type(error).__name__
        level = logging.DEBUG if kind in self._warned else logging.WARNING
        self._warned.add(kind)
        where = self.store.uri if self.store else "the tracking store"
        text = " ".join(str(error).split())[:500]
        logger.log(level, "MLflow (%s): could not %s: %s: %s; the stage goes on without", where, what, kind, text)
