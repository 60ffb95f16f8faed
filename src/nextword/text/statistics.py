"""How much of the text a vocabulary covers, and the figure of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nextword.text.counting import TypeCounts
from nextword.text.source import SPLITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_POINTS = 60


def coverage_curves(counts: TypeCounts, num_kept: int) -> dict[str, Any]:
    """Coverage of each split by the k types most frequent in train, and the counts of train by rank (Zipf's law).

    ``<eos>`` is left out; unknown tokens are part of the totals alone, so they count as not covered.

    Args:
        counts: occurrences of the types of train in each split.
        num_kept: types of the vocabulary, special tokens left out.

    Returns:
        ``num_types`` (distinct types in train), ``num_singletons`` (those seen once), ``num_types_kept``,
        ``coverage`` (rows with ``num_types`` k and the share covered of each split) and ``zipf`` (rows of ``rank``
        and ``count``), k and rank log-spaced.
    """
    train = counts.by_rank["train"]
    if not len(train):
        raise ValueError("train has no token besides unknown ones; give it text")
    ranks = np.unique(np.geomspace(1, len(train), NUM_POINTS).astype(np.int64))
    covered = {split: np.cumsum(counts.by_rank[split])[ranks - 1] / max(counts.totals[split], 1) for split in SPLITS}
    return {
        "num_types": len(train),
        "num_singletons": int(np.count_nonzero(train == 1)),
        "num_types_kept": min(len(train), num_kept),
        "coverage": [
            {"num_types": int(k), **{split: float(share[row]) for split, share in covered.items()}}
            for row, k in enumerate(ranks)
        ],
        "zipf": [{"rank": int(rank), "count": int(train[rank - 1])} for rank in ranks],
    }


def coverage_figure(report: dict[str, Any]) -> Figure:
    """Two panels: share of running tokens covered by the k most frequent types, and Zipf's law.

    Args:
        report: what :func:`nextword.text.encode_corpus` returned.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    kept = report["num_types_kept"]
    k = [row["num_types"] for row in report["coverage"]]
    for split in SPLITS:
        label = f"{split}: {report['splits'][split]['oov_rate']:.2%} unknown"
        left.plot(k, [100 * row[split] for row in report["coverage"]], label=label)
    left.axvline(kept, color="black", linestyle=":", label=f"vocabulary: {kept:,} types")
    left.set(xscale="log", ylim=(0, 102), xlabel="most frequent types of train", ylabel="tokens covered (%)")
    left.set_title("Vocabulary coverage")
    left.legend(loc="lower right")
    rank = np.array([row["rank"] for row in report["zipf"]])
    count = np.array([row["count"] for row in report["zipf"]])
    right.loglog(rank, count, marker=".", label="train")
    right.loglog(rank, count[0] / rank, color="grey", linestyle="--", label="1 / rank (Zipf)")
    right.axvline(kept, color="black", linestyle=":")
    right.set(xlabel="rank of the type", ylabel="occurrences in train", ylim=(0.5, None))
    right.set_title(f"{report['num_types']:,} types, {report['num_singletons']:,} of them seen once")
    right.legend()
    return figure
