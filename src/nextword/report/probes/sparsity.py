"""Table of n-gram sparsity against order and size of the corpus."""

from __future__ import annotations

from typing import Any

from nextword.report.probes.cells import flat_interval, interval_cell, missing_cell, section
from nextword.report.probes.experiments import Smoothed, SparseOrder, SparsePart, SparsityFile
from nextword.report.section import Section
from nextword.report.tables import DASH, INFINITE, Cell, Table, count, number, percent


def sparsity_section(report: SparsityFile) -> Section:
    """What is not seen, and what smoothing makes of it."""
    return section("ngrams", "ngram_sparsity", _table(report), _records(report))


def smoothings(report: SparsityFile) -> list[str]:
    """Names of the smoothings."""
    rows = (model for part in report.parts for order in part.orders for model in order.models)
    return list(dict.fromkeys(model.smoothing for model in rows))


def part_label(part: SparsePart) -> str:
    """``5% of train``."""
    return f"{100 * part.share:.2g}% of train" if part.share < 1 else "all of train"


def _table(report: SparsityFile) -> Table:
    names = smoothings(report)
    body: list[tuple[Cell | None, ...]] = []
    for part in report.parts:
        for place, order in enumerate(part.orders):
            head = Cell(part_label(part), f"({count(part.tokens)} tokens)", bold=True, rows=len(part.orders))
            of_names = {model.smoothing: model for model in order.models}
            once = f"({percent(order.singletons / order.types)} once)" if order.types else ""
            body.append((
                head if place == 0 else None,
                Cell(str(order.order), number=True),
                Cell(count(order.types), once, number=True),
                Cell(_share_of_possible(order), number=True),
                Cell(DASH if order.unseen_share is None else percent(order.unseen_share), number=True),
                interval_cell(order.zero_probability, percent),
                *(_perplexity(of_names.get(name)) for name in names),
            ))  # fmt: skip
    headings = (
        "counted",
        "order",
        "types",
        "of all possible",
        "unseen in valid",
        "probability 0",
        *(f"perplexity, {name.replace('_', ' ')}" for name in names),
    )
    return Table("n-gram sparsity", headings, tuple(body), _notes(report))


def _share_of_possible(order: SparseOrder) -> str:
    share = order.types / order.possible
    return percent(share) if share >= 0.001 else f"{share:.0e}".replace("e-0", "e-")


def _perplexity(found: Smoothed | None) -> Cell:
    if found is None:
        return missing_cell()
    if found.perplexity.mean is None:
        rest = f"({number(found.perplexity_of_finite, 3)} on the other {percent(1 - found.infinite_share)})"
        return Cell(INFINITE, rest if found.perplexity_of_finite is not None else "", number=True)
    return interval_cell(found.perplexity, lambda value: number(value, 3))


def _notes(report: SparsityFile) -> tuple[str, ...]:
    return (
        "Parts of train are whole documents in one random order, the last one cut at a line; each holds the one "
        f"before. Scored on {count(report.num_targets)} targets of valid, {count(report.num_documents)} documents, "
        "each line alone; [low, high] is the 95% t-interval over documents.",
        f"Of all possible: types over V^n with V = {count(report.vocab_size)}. Once: share of the types that occur one "
        "time. Unseen: n-grams of valid that the part lacks. Probability 0: targets to which relative frequencies "
        f"(mle) give nothing; one such target makes a perplexity of {INFINITE}, so that of the others stands beside it "
        "and compares with none.",
        "Smoothing: Chen & Goodman (1999).",
    )


def _records(report: SparsityFile) -> list[dict[str, Any]]:
    """One record a part, order and smoothing."""
    return [
        {"share": part.share, "train_tokens": part.tokens, "types_seen": part.types_seen, "order": order.order}
        | {"types": order.types, "singletons": order.singletons, "possible": order.possible}
        | {"unseen_share": order.unseen_share, "unseen_context_share": order.unseen_context_share}
        | flat_interval("zero_probability", order.zero_probability)
        | {"smoothing": model.smoothing, "infinite_share": model.infinite_share}
        | flat_interval("perplexity", model.perplexity)
        | {"perplexity_of_finite": model.perplexity_of_finite}
        for part in report.parts
        for order in part.orders
        for model in order.models
    ]
