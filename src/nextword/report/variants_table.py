"""A group of models against its baseline, as table, records and sentences."""

from __future__ import annotations

import math
from typing import Any

from nextword.evaluation.statistics import Difference, Estimate
from nextword.report.collect import Neural
from nextword.report.leaderboard import exp_estimate
from nextword.report.schema import PROTOCOLS
from nextword.report.tables import (
    DASH,
    TIMES,
    Cell,
    Table,
    count,
    estimate_cell,
    flat_estimate,
    number,
    ratio_parts,
    seeds_cell,
)
from nextword.report.variant_claims import read_as
from nextword.report.variants import VariantRow, Variants


def variants_table(variants: Variants) -> Table:
    """The table as people read it: one row a model."""
    short = variants.short
    headings = (
        "model", *variants.family.traits, "what the notes say", "claim", f"against {short}",
        *(heading for p in PROTOCOLS for heading in (f"test perplexity, {p}", f"{TIMES} {short}'s, {p}")),
        "parameters, recurrent", "tokens a second", "seeds",
    )  # fmt: skip
    body = tuple(
        (
            Cell(row.model.name, bold=row.standing is None),
            *row.traits.values(),
            Cell(row.claim.text or DASH, f"(read as: {_read_as(row, variants)})" if row.claim.reading else ""),
            _verdict(row, variants),
            _standing(row, variants),
            *(cell for p in PROTOCOLS for cell in (estimate_cell(row.test[p]), _ratio(row.gaps.get(p)))),
            _parameters(row),
            _speed(row),
            seeds_cell(row.model.seeds, row.model.diverged),
        )
        for row in variants.rows
    )
    return Table(variants.family.title, headings, body, _notes(variants))


def _read_as(row: VariantRow, variants: Variants) -> str | None:
    return read_as(row.claim.reading, variants.margin) if row.claim.reading else None


def _parameters(row: VariantRow) -> Cell:
    under = "" if row.parameters_gap is None else f"({row.parameters_gap:+,})"
    return Cell(count(row.model.train.num_parameters.recurrent), under, number=True)


def _speed(row: VariantRow) -> Cell:
    parts = [_engines(row.model)]
    if row.speed_gap is not None:
        parts.append(f"{TIMES}{number(math.exp(row.speed_gap.mean), 3)}")
    if row.unlike:
        parts.append("unlike")
    return Cell(count(row.speed.mean) if row.speed else DASH, f"({', '.join(parts)})", number=True)


def _engines(model: Neural) -> str:
    return "/".join(sorted({run.engine for run in model.runs.values() if run.engine})) or "engine not stated"


def _ratio(gap: Difference | None) -> Cell:
    return Cell(*ratio_parts(gap), number=True) if gap else Cell(DASH, number=True)


def _standing(row: VariantRow, variants: Variants) -> Cell:
    if row.standing is None:
        return Cell("the measure")
    if row.standing in ("worse", "better"):
        return Cell(f"{row.standing} than {variants.short}")
    gap = row.gaps[variants.protocol]
    return Cell(row.standing, "(no interval)" if gap is not None and gap.low is None else "")


def _verdict(row: VariantRow, variants: Variants) -> Cell:
    if row.verdict is None:
        lacking = row.standing is not None and row.claim.reading is not None
        return Cell(DASH, "(no model here to compare it with)" if lacking else "")
    if row.against == variants.baseline or row.claim_gap is None:
        return Cell(row.verdict, tone=row.verdict)
    return Cell(row.verdict, f"({' '.join(ratio_parts(row.claim_gap)).rstrip()} {row.against}'s)", tone=row.verdict)


def variants_summary(variants: Variants) -> str:
    """The table in a few sentences."""
    others = variants.rows[1:]
    groups = {
        standing: [row.model.name for row in others if row.standing == standing]
        for standing in ("worse than chance", "worse", "not told apart", "better", "no figure")
    }
    stands = "; ".join(f"{standing}: {', '.join(names)}" for standing, names in groups.items() if names)
    verdicts = [row.verdict for row in others if row.verdict]
    text = f"{variants.family.title} against {variants.baseline} (test perplexity, {variants.protocol}): {stands}."
    if verdicts:
        text += (
            f" Claims of the notes: {verdicts.count('supported')} supported, {verdicts.count('contradicted')} "
            f"contradicted, {verdicts.count('undecided')} undecided."
        )
    ratios = [(gap.mean, row) for row in others if (gap := row.gaps.get(variants.protocol)) is not None]
    if ratios:
        largest, worst = max(ratios, key=lambda pair: pair[0])
        text += f" Largest: {worst.model.name}, {TIMES}{number(math.exp(largest))} the perplexity of {variants.short}."
    return text


def _notes(variants: Variants) -> tuple[str, ...]:
    short, protocol, level = variants.short, variants.protocol, f"{100 * variants.confidence:g}%"
    measure = f"{short} is {variants.baseline}" if short != variants.baseline else f"{short} is the first of its group"
    share = f"{100 * variants.margin:g}%"
    notes = [
        *variants.family.notes,
        f"{measure}, the measure of the others. The intervals of the ratios of test perplexities are by the paired "
        "bootstrap over documents (or blocks of them, compare.block_tokens) crossed with seeds, on the saved nats of "
        "each target: how much a ratio would move "
        f"under other documents and other seeds. With {level} confidence all intervals of a column hold at once, "
        "however many rows there are (Sidak 1967). The spread over seeds is pooled over all these models, as in "
        "Dunnett's comparison of many with one (1955). That assumes that the logarithm of perplexity varies as much "
        "from seed to seed in one variant as in another; a model with one seed has an interval only by that "
        "assumption. That models share seeds is not used.",
        f"Tokens a second are of training; below them the engine and the factor of {short}'s speed. The "
        "interval of that factor, in the data files only, is a t-interval of its row alone, paired over common seeds.",
        f"The rule, by the {protocol} perplexity: worse than {short} where the whole interval lies above 1, better "
        "where it lies below, not told apart where it holds 1, or there is none (one seed a model, or "
        "one document). A claim is supported where the interval lies within what it is read as, contradicted where it "
        f"lies wholly outside (a lower perplexity: where it is higher by more than {share}), else undecided. Higher by "
        f"at most {share} is from 1 to {1.0 + variants.margin:g} times. "
        "The data files hold what each verdict follows from.",
    ]
    if any(row.against not in (None, variants.baseline) for row in variants.rows):
        notes.append(
            f"Where a claim compares with another model than {short}, its interval is made in the same way with that "
            "model as the one: all claims about the same model hold at once, by the spread over seeds of these models "
            "alone."
        )
    if unlike := [f"{row.model.name} ({row.unlike})" for row in variants.rows if row.unlike]:
        notes.append(
            f"Not trained in the same way as {short}, so their speeds compare programs, not cells: {', '.join(unlike)}."
        )
    if chance := [row.model.name for row in variants.rows if row.standing == "worse than chance"]:
        notes.append(
            "Worse than a uniform guess on a seed at least, so without an interval and not in the others' spread; for "
            f"a claim it counts as higher without limit if it is so on every seed: {', '.join(chance)}."
        )
    if lost := [row.model.name for row in variants.rows if not row.model.finished]:
        notes.append(f"Every seed diverged, so there is no figure: {', '.join(lost)}.")
    if unequal := [f"{row.model.name} ({row.other_settings})" for row in variants.rows if row.other_settings]:
        notes.append(f"Settings other than {short}'s, beside what makes the variant: {'; '.join(unequal)}.")
    return tuple(notes)


def variants_records(variants: Variants) -> list[dict[str, Any]]:
    """Flat records of all rows, the same keys in each, for CSV and JSON; differences and margins are in nats a target.

    Each verdict follows from its own record: ``judge_by(basis, reading, claim_difference, margin)``.
    """
    records = []
    for row in variants.rows:
        record: dict[str, Any] = {"name": row.model.name, "kind": row.model.train.kind}
        record |= {heading.replace(" ", "_"): cell.text for heading, cell in row.traits.items()}
        record |= {
            "seeds": " ".join(map(str, row.model.seeds)),
            "diverged": " ".join(map(str, row.model.diverged)),
            "parameters_recurrent": row.model.train.num_parameters.recurrent,
            "parameters_recurrent_difference": row.parameters_gap,
            "engine": _engines(row.model),
        }
        record |= flat_estimate("tokens_per_second", row.speed)
        record |= flat_estimate("tokens_per_second_ratio", _exp(row.speed_gap)) | {"ran_unlike": row.unlike}
        for p in PROTOCOLS:
            record |= flat_estimate(f"test_perplexity_{p}", row.test[p])
            record |= flat_estimate(f"difference_{p}", _estimate(row.gaps.get(p)))
            record |= flat_estimate(f"ratio_{p}", _exp(row.gaps.get(p)))
        record |= {
            "standing": row.standing,
            "claim": row.claim.text,
            "read_as": _read_as(row, variants),
            "against": row.against,
        }
        record |= flat_estimate("claim_difference", _estimate(row.claim_gap))
        record |= flat_estimate("claim_ratio", _exp(row.claim_gap))
        record |= {"method": row.claim_gap.method if row.claim_gap else None, "reading": row.claim.reading}
        record |= {"margin": row.margin, "basis": row.basis, "verdict": row.verdict}
        records.append(record | {"other_settings": row.other_settings})
    return records


def _estimate(gap: Difference | None) -> Estimate | None:
    return Estimate(gap.mean, gap.low, gap.high, len(gap.seeds)) if gap else None


def _exp(gap: Difference | None) -> Estimate | None:
    estimate = _estimate(gap)
    return exp_estimate(estimate) if estimate else None


def variants_tree(variants: Variants) -> dict[str, Any]:
    """The comparison as written to JSON."""
    return {
        "baseline": variants.baseline,
        "protocol": variants.protocol,
        "confidence": variants.confidence,
        "summary": variants_summary(variants),
        "notes": list(_notes(variants)),
        "rows": variants_records(variants),
    }
