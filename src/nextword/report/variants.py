"""A group of models against its baseline: LSTM ablations against V, RNN variants against the plain RNN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from nextword.config import ModelParams
from nextword.evaluation.bootstrap import Crossed
from nextword.evaluation.statistics import Difference, Estimate, difference, mean_interval
from nextword.report.collect import Neural, Reports
from nextword.report.crossed import basis_of, beyond_chance, crossed_nats_to_one
from nextword.report.finding import Basis, Verdict, judge_by
from nextword.report.leaderboard import estimate_metric, exp_estimate
from nextword.report.schema import PROTOCOLS, Protocol
from nextword.report.tables import Cell
from nextword.report.variant_claims import Claim, Family

Standing = Literal["worse", "better", "not told apart", "worse than chance", "no figure"]
"""How a model stands to its measure: the interval of the difference lies above zero, below it, or on both sides. A
model of which a seed predicts worse than a uniform guess has no interval, and its spread is not pooled with others'."""

_NOT_SETTINGS = {"group", "seeds", "engine", "checkpoint_steps"}


@dataclass(frozen=True)
class VariantRow:
    """One model of the group; of the baseline nothing is compared."""

    model: Neural
    traits: dict[str, Cell]
    test: dict[Protocol, Estimate | None]
    speed: Estimate | None
    """Tokens a second in training."""
    claim: Claim
    gaps: dict[Protocol, Crossed | None] = field(default_factory=dict)
    """Nats a target of test, less the baseline's; of one protocol all intervals hold at once."""
    speed_gap: Difference | None = None
    """Of logarithms, less the baseline's."""
    unlike: str = ""
    """How its training ran differently from the baseline's."""
    parameters_gap: int | None = None
    standing: Standing | None = None
    """None: it is the baseline."""
    other_settings: str = ""
    """Settings that the traits do not show and the baseline has otherwise."""
    against: str | None = None
    """The model with which the claim compares it."""
    claim_gap: Crossed | None = None
    margin: float = 0.0
    """Of the verdict, of logarithms."""
    basis: Basis = "nothing"
    verdict: Verdict | None = None
    """``judge_by(basis, claim.reading, claim_gap, margin)``; None where perplexity decides nothing of the claim, or
    there is no model to compare with."""


@dataclass(frozen=True)
class Variants:
    """The whole table, the baseline first."""

    family: Family
    baseline: str
    protocol: Protocol
    """What standings and verdicts are by."""
    rows: tuple[VariantRow, ...]
    confidence: float
    margin: float
    """Share of perplexity up to which two are called comparable."""

    @property
    def short(self) -> str:
        """What the table calls the baseline."""
        return self.family.short or self.baseline


def compare_variants(reports: Reports, family: Family) -> Variants | None:
    """Set every left-to-right model of the group against its baseline.

    Returns:
        None where the group has no baseline, or nothing beside it.
    """
    models = reports.params.models
    group = {name: model for name, model in reports.left_to_right.items() if models[name].group == family.group}
    baseline = next((name for name in group if family.baseline(models[name])), None)
    if baseline is None or len(group) < 2:
        return None
    scored = [model for model in group.values() if model.finished]
    protocol: Protocol = "stateful" if all(model.metrics("test", "stateful") for model in scored) else "reset"
    others = [name for name in group if name != baseline]
    gaps = {p: _gaps(reports, baseline, others, p) for p in PROTOCOLS}
    controls = _controls(family, {name: models[name] for name in group}, others)
    found = {baseline: gaps[protocol]}  # the rest of the group enters, so that a claim rests on the interval shown
    for control in controls.values():
        if control not in found:
            found[control] = _gaps(reports, control, [name for name in controls if controls[name] == control], protocol)
    rows = [_row(reports, family, group[baseline])]
    for name in others:
        row = _compared(reports, family, group[name], group[baseline])
        by_protocol = {p: gaps[p].get(name) for p in PROTOCOLS}
        lost = any(beyond_chance(reports, name, "test", protocol))
        row = replace(row, gaps=by_protocol, standing="worse than chance" if lost else stand(by_protocol[protocol]))
        if name in controls:
            row = _judged(reports, row, controls[name], found[controls[name]].get(name), protocol)
        rows.append(row)
    rule = reports.params.compare
    return Variants(family, baseline, protocol, tuple(rows), rule.confidence, rule.margin)


def stand(gap: Difference | None) -> Standing:
    """Where the interval of the difference lies; one that holds zero, or none (one seed), tells nothing apart."""
    if gap is None:
        return "no figure"
    if gap.low is None or gap.high is None:
        return "not told apart"
    return "worse" if gap.low > 0 else "better" if gap.high < 0 else "not told apart"


def _judged(reports: Reports, row: VariantRow, control: str, gap: Crossed | None, protocol: Protocol) -> VariantRow:
    """The row with the verdict on its claim."""
    assert row.claim.reading is not None
    margin = reports.perplexity_margin
    basis = basis_of(reports, row.model.name, control, "test", protocol)
    verdict = judge_by(basis, row.claim.reading, gap, margin)
    return replace(row, against=control, claim_gap=gap, margin=margin, basis=basis, verdict=verdict)


def _controls(family: Family, group: dict[str, ModelParams], names: Iterable[str]) -> dict[str, str]:
    """By name of a model whose claim has a reading: the model with which the claim compares it, where there is one."""
    controls = {}
    for name in names:
        own = group[name]
        against = next((other for other in group if other != name and family.against(own, group[other])), None)
        if family.claim(own).reading is not None and against is not None:
            controls[name] = against
    return controls


def _gaps(reports: Reports, control: str, names: Iterable[str], protocol: Protocol) -> dict[str, Crossed]:
    """Nats a target of test less the control's, of those that have any and predict better than chance."""
    fit = [name for name in (control, *names) if not any(beyond_chance(reports, name, "test", protocol))]
    return crossed_nats_to_one(reports, control, fit[1:], protocol) if control in fit else {}


def _row(reports: Reports, family: Family, model: Neural) -> VariantRow:
    own, confidence = reports.params.models[model.name], reports.params.compare.confidence
    speed = _log_speed(model)
    return VariantRow(
        model=model,
        traits={heading: trait(own) for heading, trait in family.traits.items()},
        test={p: estimate_metric(model.metrics("test", p), "perplexity", confidence) for p in PROTOCOLS},
        speed=exp_estimate(mean_interval(list(speed.values()), confidence)) if speed else None,
        claim=family.claim(own),
    )


def _compared(reports: Reports, family: Family, model: Neural, base: Neural) -> VariantRow:
    """The row with what sets the model apart from the baseline beside perplexity."""
    models, confidence = reports.params.models, reports.params.compare.confidence
    speed, base_speed = _log_speed(model), _log_speed(base)
    sizes = model.train.num_parameters.recurrent, base.train.num_parameters.recurrent
    return replace(
        _row(reports, family, model),
        speed_gap=difference(speed, base_speed, confidence, pair=True) if speed and base_speed else None,
        unlike=model.unlike(base) if model.finished and base.finished else "",
        parameters_gap=sizes[0] - sizes[1] if sizes[0] is not None and sizes[1] is not None else None,
        other_settings=_other_settings(models[model.name], models[base.name], family.shown),
    )


def _log_speed(model: Neural) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in model.training("tokens_per_second").items() if value > 0}


def _other_settings(own: ModelParams, base: ModelParams, shown: frozenset[str]) -> str:
    settings = own.model_dump(exclude={*shown, *_NOT_SETTINGS})
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value != getattr(base, key))
