"""Perplexity of a text under one model, and the difference between two.

Shapes: N targets, D blocks (documents, or parts of them).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nextword.perplexity import perplexity
from nextword.serving.text_model import TextModel
from nextword.text.ids import Split

Protocol = Literal["stateful", "reset"]
PROTOCOLS: tuple[Protocol, ...] = ("stateful", "reset")
FEWEST_DOCUMENTS = 5
"""With fewer, an interval over whole documents says nothing."""
PARTS = 20
"""Blocks into which a text of fewer documents is cut."""
BLOCKS = {
    "documents": "documents",
    "neighbours": "blocks of neighbouring documents",
    "lines": "blocks of lines",
}
"""What is resampled."""


def nats_of_split(model: TextModel, split: Split, protocol: Protocol) -> NDArray[np.float64]:
    """``-log p`` of each target, (N,).

    Args:
        model: any model.
        split: encoded by its tokenizer.
        protocol: ``stateful`` carries the state across the lines of a document and begins anew at each document;
            ``reset`` begins anew at each line (so an n-gram model does under both).
    """
    starts = split.document_starts if protocol == "stateful" else split.line_starts
    return model.backend.nats(split.ids, starts)


def measure(model: TextModel, split: Split) -> dict[str, Any]:
    """Perplexity by the scoring rule: exp(total nats / number of targets), each target scored once.

    Returns:
        sizes of the text (``oov_rate`` is that of targets other than ``<eos>``), whether the model is
        ``left_to_right``, and by protocol ``nats``, ``perplexity``, ``perplexity_without_oov`` and ``bits_per_byte``
        (None where infinite) and ``num_infinite``.
    """
    unk = model.vocabulary.unk_id
    known = np.ones(split.num_tokens, bool) if unk is None else split.ids != unk
    report: dict[str, Any] = {
        "model": model.name,
        "text": split.name,
        "left_to_right": model.backend.left_to_right,
        "num_targets": split.num_tokens,
        "num_lines": split.num_lines,
        "num_documents": split.num_documents,
        "num_bytes": split.num_bytes,
        "num_oov": split.num_oov,
        "oov_rate": split.num_oov / max(split.num_tokens - split.num_lines, 1),
    }
    for protocol in PROTOCOLS:
        nats = nats_of_split(model, split, protocol)
        total = float(nats.sum())
        report[protocol] = {
            "nats": total if math.isfinite(total) else None,
            "perplexity": perplexity(total, len(nats)),
            "perplexity_without_oov": perplexity(float(nats[known].sum()), int(known.sum())),
            "bits_per_byte": total / math.log(2) / split.num_bytes if math.isfinite(total) else None,
            "num_infinite": int(np.isinf(nats).sum()),
        }
    return report


def compare(
    a: TextModel, b: TextModel, split: Split, block_tokens: int | None = None, confidence: float = 0.95
) -> dict[str, Any]:
    """Nats a target of ``a`` less those of ``b`` on the same targets, with an interval over other text like this.

    The interval is about these two trained models; other seeds of theirs are no part of it.

    Args:
        a: any model.
        b: one with the same tokenizer.
        split: the text.
        block_tokens: about how many tokens a block has, blocks being whole lines; None takes whole documents, and
            ``PARTS`` blocks where there are fewer than ``FEWEST_DOCUMENTS``. Neighbours are merged where there would be
            more than 2,000 blocks.
        confidence: of the interval.

    Returns:
        ``a``, ``b``, ``text``, ``num_targets``, ``blocks`` (a key of ``BLOCKS``), ``num_blocks``, ``confidence``; by
        protocol ``a`` and ``b`` (perplexities), ``nats`` with ``low`` and ``high``, ``ratio`` (perplexity of a
        over that of b) with ``ratio_low`` and ``ratio_high``. What is infinite or has no interval is None.

    Raises:
        ValueError: the tokenizers differ, or one model alone is bidirectional.
    """
    from nextword.evaluation.bootstrap import MAX_BLOCKS, block_edges, block_sums, crossed_difference

    if a.vocabulary.tokenizer_sha256 != b.vocabulary.tokenizer_sha256:
        raise ValueError(
            f"{a.name} and {b.name} have different tokenizers, so their targets are not the same; "
            "compare bits a byte (`nextword perplexity`), or train them on the same ids"
        )
    if a.backend.left_to_right != b.backend.left_to_right:
        raise ValueError(
            f"of {a.name} and {b.name} one is bidirectional: it reads what it predicts from, on both sides, and its "
            "pseudo-perplexity compares with that of other bidirectional models alone"
        )
    if block_tokens is None and split.num_documents < FEWEST_DOCUMENTS:
        block_tokens = max(split.num_tokens // PARTS, 1)
    edges = block_edges(split.document_starts, split.line_starts, block_tokens)
    of_documents = "neighbours" if split.num_documents > MAX_BLOCKS else "documents"
    report: dict[str, Any] = {
        "a": a.name,
        "b": b.name,
        "text": split.name,
        "left_to_right": a.backend.left_to_right,
        "num_targets": split.num_tokens,
        "blocks": of_documents if block_tokens is None else "lines",
        "num_blocks": len(edges) - 1,
        "confidence": confidence,
    }
    for protocol in PROTOCOLS:
        nats_a, nats_b = (nats_of_split(model, split, protocol) for model in (a, b))
        row: dict[str, float | None] = {
            "a": perplexity(float(nats_a.sum()), len(nats_a)),
            "b": perplexity(float(nats_b.sum()), len(nats_b)),
        } | dict.fromkeys(("nats", "low", "high", "ratio", "ratio_low", "ratio_high"))
        if row["a"] is not None and row["b"] is not None:
            sums_a, sums_b = (block_sums(nats, edges)[None] for nats in (nats_a, nats_b))
            gap = crossed_difference(sums_a, sums_b, np.diff(edges), confidence, a_exact=True, b_exact=True)
            row |= {"nats": gap.mean, "low": gap.low, "high": gap.high}
            ratios = (None if value is None else math.exp(value) for value in (gap.mean, gap.low, gap.high))
            row |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratios, strict=True))
        report[protocol] = row
    return report


def describe_measure(report: dict[str, Any]) -> str:
    """The report of :func:`measure` as text for the terminal."""
    kind = "perplexity" if report["left_to_right"] else "pseudo-ppl"
    lines = [
        f"{report['model']} on {report['text']}: {report['num_targets']:,} targets, {report['num_lines']:,} lines, "
        f"{report['num_documents']:,} documents; {report['num_oov']:,} OOV ({report['oov_rate']:.2%})",
        f"{'':10}{kind:>12}{'without OOV':>14}{'bits a byte':>14}{'impossible':>12}",
    ]
    for protocol in PROTOCOLS:
        row = report[protocol]
        lines.append(
            f"{protocol:10}{_number(row['perplexity'], 12, 3)}{_number(row['perplexity_without_oov'], 14, 3)}"
            f"{_number(row['bits_per_byte'], 14, 4)}{row['num_infinite']:12,}"
        )
    return "\n".join(lines)


def describe_comparison(report: dict[str, Any]) -> str:
    """The report of :func:`compare` as text for the terminal."""
    blocks = f"{report['num_blocks']:,} {BLOCKS[report['blocks']]}"
    lines = [
        f"A = {report['a']}, B = {report['b']} on {report['text']}: {report['num_targets']:,} targets, {blocks}"
        + ("" if report["left_to_right"] else "; pseudo-perplexities"),
        f"{'':10}{'A':>10}{'B':>10}{'A / B':>9}  {100 * report['confidence']:g}% interval",
    ]
    for protocol in PROTOCOLS:
        row = report[protocol]
        figures = f"{protocol:10}{_number(row['a'], 10, 2)}{_number(row['b'], 10, 2)}"
        if row["ratio"] is None:
            lines.append(f"{figures}        -  a perplexity is infinite")
        elif row["ratio_low"] is None:
            lines.append(f"{figures}{row['ratio']:9.4f}  none: the text is a single block")
        else:
            better = "A is better" if row["high"] < 0 else "B is better" if row["low"] > 0 else "undecided"
            lines.append(f"{figures}{row['ratio']:9.4f}  {row['ratio_low']:.4f} to {row['ratio_high']:.4f}: {better}")
    return "\n".join(lines)


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'infinite' if value is None else format(value, f',.{digits}f'):>{width}}"
