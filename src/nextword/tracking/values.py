"""Python values as MLflow takes them: flat names, bounded texts, finite lists."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_KEY = 250
MAX_PARAM = 6000
MAX_TAG = 8000
MAX_METRICS_A_CALL = 1000
MAX_PARAMS_A_CALL = 100

_NOT_ALLOWED = re.compile(r"[^\w\-. :/]")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings with dotted names.

    >>> dict(flatten({"train": {"bptt": 35, "seeds": [0, 1]}}))
    {'train.bptt': 35, 'train.seeds': [0, 1]}
    """
    for key, value in tree.items():
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield name(f"{prefix}{key}"), value


def name(text: str) -> str:
    """``text`` as a name of a param or metric: other characters than MLflow's become ``_``."""
    return _NOT_ALLOWED.sub("_", text).strip("/")[:MAX_KEY] or "_"


def text(value: Any, limit: int = MAX_PARAM) -> str:
    """``value`` as text of at most ``limit`` characters; a cut ends in an ellipsis."""
    if isinstance(value, list | tuple | Mapping):
        value = json.dumps(value, default=str, skipkeys=True, ensure_ascii=False)
    elif isinstance(value, Path):
        value = value.as_posix()
    written = str(value)
    return written if len(written) <= limit else written[: limit - 1] + "…"


def numbers(tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The leaves that are numbers, as floats; null, texts and lists are left out."""
    for key, value in flatten(tree):
        if isinstance(value, str | bytes | list | tuple) or value is None:
            continue
        try:
            yield key, float(value)
        except (TypeError, ValueError, OverflowError):
            continue


def cell(value: Any) -> Any:
    """``value`` for a table: NumPy scalars become Python's; NaN and infinity, which JSON lacks, become text."""
    if isinstance(value, list | tuple):
        return [cell(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): cell(item) for key, item in value.items()}
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
