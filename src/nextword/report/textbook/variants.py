"""The claims of the tables of variants, with the verdicts of those tables."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nextword.evaluation.statistics import Estimate
from nextword.report.crossed import chance_note
from nextword.report.finding import Claim, Finding, Reading, Side, not_tested
from nextword.report.textbook.evidence import Evidence
from nextword.report.variant_claims import Family, read_as
from nextword.report.variants import VariantRow, Variants, compare_variants


def variant_findings(evidence: Evidence, family: Family) -> Iterator[Finding]:
    """A finding a model of which perplexity can decide what the notes say; the cures have those about gradients."""
    variants = compare_variants(evidence.reports, family)
    if variants is None:
        why = f"params.yaml names no group {family.group} with a model to measure the others by"
        yield not_tested(family.name, Claim(family.title, "what each variant changes"), why)
        return
    rows = {row.model.name: row for row in variants.rows}
    for name, row in rows.items():
        if row.claim.reading is None:
            continue
        claim = Claim(f"{family.title}: {_title(row)}", row.claim.text)
        if row.verdict is None:
            yield not_tested(_key(name), claim, "params.yaml names no model to compare it with")
        else:
            yield _finding(variants, row, rows[row.against or variants.baseline], claim, row.claim.reading)


def _key(name: str) -> str:
    return f"variant_{name}"


def _title(row: VariantRow) -> str:
    trait = row.traits.get("variant")
    return trait.text if trait is not None else row.model.name


def _finding(variants: Variants, row: VariantRow, control: VariantRow, claim: Claim, reading: Reading) -> Finding:
    assert row.verdict is not None
    why = chance_note(row.basis, row.model.name, control.model.name)
    return Finding(
        _key(row.model.name), claim, f"test perplexity, {variants.protocol}",
        Side(row.model.name, _shown(row, variants)), Side(control.model.name, _shown(control, variants)),
        reading, "ratio", row.claim_gap, row.verdict, row.margin,
        effect=row.claim_gap.effect if row.claim_gap else None, condition="simultaneous interval", basis=row.basis,
        note="; ".join(filter(None, (f"read as: {read_as(reading, variants.margin)}", why))),
        sources=(f"evaluate@{row.model.name}", f"evaluate@{control.model.name}"),
    )  # fmt: skip


def _shown(row: VariantRow, variants: Variants) -> Estimate | None:
    """Perplexity; infinite without limits where a seed's is beyond a float."""
    value = row.test[variants.protocol]
    return value if value is None or math.isfinite(value.mean) else Estimate(math.inf, None, None, value.count)
