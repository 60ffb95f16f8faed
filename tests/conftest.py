"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def ptb() -> Path:
    """Folder with Penn Treebank in Mikolov's split; it is under licence and so not part of the project."""
    folder = SHARED_DATA / "ptb"
    if not (folder / "ptb.train.txt").exists():
        pytest.skip(f"needs Penn Treebank (ptb.train.txt, ptb.valid.txt, ptb.test.txt) in {folder}")
    return folder
