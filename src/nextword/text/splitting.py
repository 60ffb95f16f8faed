"""Which documents go to train, valid and test: seeded, by size, and independent of the order of the documents."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

TRAIN, VALID, TEST = 0, 1, 2


def order_key(name: str, seed: int) -> int:
    """A 64-bit number drawn by ``seed`` and the document's name alone.

    A random generator would tie the split to the order and number of the documents; a hash does not, and it is the
    same on every machine and version.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "little")


def assign_documents(
    keys: npt.NDArray[np.uint64], num_bytes: npt.NDArray[np.int64], valid: float, test: float
) -> npt.NDArray[np.uint8]:
    """Assign each document to a split.

    The documents are laid end to end in the order of their keys; the split in whose share of the bytes the middle of
    a document falls has it. A split that would stay empty gets a small document of another one (train: a large one).

    Args:
        keys: (num_documents,) from :func:`order_key`.
        num_bytes: (num_documents,) sizes.
        valid: share of the bytes that go to valid; 0 where the source has a valid split of its own.
        test: likewise.

    Returns:
        (num_documents,) with 0 train, 1 valid, 2 test.

    Raises:
        ValueError: there are fewer documents than splits.
    """
    wanted = [split for split, share in ((VALID, valid), (TEST, test)) if share > 0]
    if len(keys) <= len(wanted):
        raise ValueError(
            f"the corpus has {len(keys)} document(s); a split by document needs at least {len(wanted) + 1}. "
            f"Give your own train, valid and test files, or cut the text into more documents: separate files, or "
            f"corpus.text.documents `blank_line` or `line`"
        )
    order = np.argsort(keys, kind="stable")
    ends = np.cumsum(num_bytes[order])
    middles = (ends - num_bytes[order] / 2) / max(int(ends[-1]), 1)
    labels = np.full(len(keys), TRAIN, dtype=np.uint8)
    labels[order[middles < valid]] = VALID
    labels[order[(middles >= valid) & (middles < valid + test)]] = TEST
    for split in (TRAIN, *wanted):
        if not (labels == split).any():  # few documents: some other split has at least two
            can_go = order[np.bincount(labels, minlength=3)[labels[order]] > 1]
            pick = np.argmax if split == TRAIN else np.argmin
            labels[can_go[pick(num_bytes[can_go])]] = split
    return labels
