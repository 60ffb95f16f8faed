"""What cleaning took away: counts and examples by rule, for the report of `prepare`."""

from __future__ import annotations

from typing import Any

MAX_EXAMPLES = 8
MAX_EXAMPLE_CHARACTERS = 160


class Dropped:
    """A tally of what was removed or changed, with a few distinct examples of each rule."""

    def __init__(self) -> None:
        self._rules: dict[str, dict[str, Any]] = {}

    def add(self, rule: str, text: str) -> None:
        """Count one piece of text under ``rule``."""
        entry = self._rules.setdefault(rule, {"count": 0, "characters": 0, "examples": []})
        entry["count"] += 1
        entry["characters"] += len(text)
        example = " ".join(text.split())[:MAX_EXAMPLE_CHARACTERS]
        if example and len(entry["examples"]) < MAX_EXAMPLES and example not in entry["examples"]:
            entry["examples"].append(example)

    def report(self) -> dict[str, dict[str, Any]]:
        """``{rule: {"count", "characters", "examples"}}``."""
        return self._rules
