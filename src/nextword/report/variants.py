"""A group of models against its baseline: LSTM ablations against V, RNN variants against the plain RNN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from nextword.config import ModelParams
from nextword.evaluation.statistics import Difference, Estimate, difference, many_to_one, mean_interval
from nextword.report.collect import Neural, Reports
from nextword.report.finding import Verdict
from nextword.report.leaderboard import estimate_metric, exp_estimate
from nextword.report.schema import PROTOCOLS, Protocol
from nextword.report.tables import Cell
from nextword.report.variant_claims import Claim, Family, Reading

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
    gaps: dict[Protocol, Difference | None] = field(default_factory=dict)
    """Nats a target of test, less the baseline's."""
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
    claim_gap: Difference | None = None
    verdict: Verdict | None = None
    """On the claim; None where perplexity decides nothing of it, or there is no model to compare with."""


@dataclass(frozen=True)
class Variants:
    """The whole table, the baseline first."""

    family: Family
    baseline: str
    protocol: Protocol
    """What standings and verdicts are by."""
    rows: tuple[VariantRow, ...]
    confidence: float

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
    confidence, chance = reports.params.compare.confidence, math.log(reports.ids.get("vocab_size", math.inf))
    gaps = {p: _gaps(group, baseline, others, p, confidence, chance) for p in PROTOCOLS}
    controls = _controls(family, {name: models[name] for name in group}, others)
    found = {baseline: gaps[protocol]}  # the rest of the group enters, so that a claim rests on the interval shown
    for control in controls.values():
        if control not in found:
            claimants = (name for name in controls if controls[name] == control)
            found[control] = _gaps(group, control, claimants, protocol, confidence, chance)
    rows = [_row(reports, family, group[baseline])]
    for name in others:
        row = _compared(reports, family, group[name], group[baseline])
        by_protocol = {p: gaps[p].get(name) for p in PROTOCOLS}
        lost = _worst(group[name], protocol) > chance
        row = replace(row, gaps=by_protocol, standing="worse than chance" if lost else stand(by_protocol[protocol]))
        if row.claim.reading and lost:
            row = replace(row, verdict="supported" if row.claim.reading.high == math.inf else "contradicted")
        elif row.claim.reading and name in controls:
            gap = found[controls[name]].get(name)
            row = replace(row, against=controls[name], claim_gap=gap, verdict=judge(row.claim.reading, gap))
        rows.append(row)
    return Variants(family, baseline, protocol, tuple(rows), confidence)


def stand(gap: Difference | None) -> Standing:
    """Where the interval of the difference lies; one that holds zero, or none (one seed), tells nothing apart."""
    if gap is None:
        return "no figure"
    if gap.low is None or gap.high is None:
        return "not told apart"
    return "worse" if gap.low > 0 else "better" if gap.high < 0 else "not told apart"


def judge(reading: Reading, gap: Difference | None) -> Verdict:
    """supported: the interval of the ratio lies within the limits; contradicted: wholly outside; else undecided."""
    if gap is None or gap.low is None or gap.high is None:
        return "undecided"
    low, high = math.exp(gap.low), math.exp(gap.high)
    if reading.low < low and high < reading.high:
        return "supported"
    return "contradicted" if high < reading.low or low > reading.high else "undecided"


def _controls(family: Family, group: dict[str, ModelParams], names: Iterable[str]) -> dict[str, str]:
    """By name of a model whose claim has a reading: the model with which the claim compares it, where there is one."""
    controls = {}
    for name in names:
        own = group[name]
        against = next((other for other in group if other != name and family.against(own, group[other])), None)
        if family.claim(own).reading is not None and against is not None:
            controls[name] = against
    return controls


def _worst(model: Neural, protocol: Protocol) -> float:
    """Nats a target of test of the worst seed; minus infinity where there is none."""
    return max(model.log_perplexity("test", protocol).values(), default=-math.inf)


def _gaps(
    group: dict[str, Neural], control: str, names: Iterable[str], protocol: Protocol, confidence: float, chance: float
) -> dict[str, Difference]:
    """Nats a target of test less the control's, of those that have any and predict better than chance."""
    fit = [name for name in (control, *names) if _worst(group[name], protocol) <= chance]
    nats = {name: list(group[name].log_perplexity("test", protocol).values()) for name in fit}
    base = nats.pop(control, None)
    return many_to_one(base, {name: values for name, values in nats.items() if values}, confidence) if base else {}


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
