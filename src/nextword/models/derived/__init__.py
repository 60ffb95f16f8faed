"""Engines that are derived from a cell's step: it is traced to expressions, differentiated, and written as kernels."""

from nextword.models.derived.graphs import replay_window
from nextword.models.derived.window import Backend, run_window, underivable

__all__ = ["Backend", "replay_window", "run_window", "underivable"]
