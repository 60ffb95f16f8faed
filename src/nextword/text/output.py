"""Output folders that are replaced only when the new content is complete."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(out: Path, names: Collection[str]) -> Iterator[Path]:
    """Give an empty folder beside ``out`` that takes its place when the block ends without an error.

    Args:
        out: the folder to write or replace.
        names: the files it may hold; one that holds anything else is not replaced.

    Raises:
        ValueError: ``out`` is a file, or holds something that is not ours.
    """
    if out.exists():
        if not out.is_dir():
            raise ValueError(f"{out} is a file; give the name of a folder")
        foreign = sorted(path.name for path in out.iterdir() if path.name not in names)
        if foreign:
            raise ValueError(f"{out} holds {foreign[0]}, which was not made here; move it away or give another folder")
    fresh, stale = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.old")
    for left_over in (fresh, stale):
        shutil.rmtree(left_over, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if out.exists():
        out.rename(stale)
    fresh.rename(out)
    shutil.rmtree(stale, ignore_errors=True)
