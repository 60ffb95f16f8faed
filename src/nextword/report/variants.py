"""A group of models against its baseline: LSTM ablations against V, RNN variants against the plain RNN."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from nextword.config import ModelParams
from nextword.evaluation.statistics import Difference, Estimate, difference, mean_interval
from nextword.report.collect import Neural, Reports
from nextword.report.gru_vs_lstm import Verdict
from nextword.report.leaderboard import estimate_metric, exp_estimate
from nextword.report.schema import PROTOCOLS, Protocol
from nextword.report.tables import Cell
from nextword.report.variant_claims import Claim, Family, Reading

Standing = Literal["worse", "better", "not told apart", "no figure"]
"""How a model stands to its measure: the interval of the difference lies above zero, below it, or on both sides."""

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
    names = (baseline, *(name for name in group if name != baseline))
    rows = tuple(_row(reports, family, group, name, baseline, protocol) for name in names)
    return Variants(family, baseline, protocol, rows, reports.params.compare.confidence)


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


def _row(
    reports: Reports, family: Family, group: dict[str, Neural], name: str, baseline: str, protocol: Protocol
) -> VariantRow:
    models, confidence = reports.params.models, reports.params.compare.confidence
    own, model, base = models[name], group[name], group[baseline]
    claim = family.claim(own)
    test = {p: estimate_metric(model.metrics("test", p), "perplexity", confidence) for p in PROTOCOLS}
    speed = _log_speed(model)
    row = VariantRow(
        model=model,
        traits={heading: trait(own) for heading, trait in family.traits.items()},
        test=test,
        speed=exp_estimate(mean_interval(list(speed.values()), confidence)) if speed else None,
        claim=claim,
    )
    if name == baseline:
        return row
    sizes = model.train.num_parameters.recurrent, base.train.num_parameters.recurrent
    gaps = {p: _gap(_nats(model, p), _nats(base, p), confidence) for p in PROTOCOLS}
    row = replace(
        row,
        gaps=gaps,
        speed_gap=_gap(speed, _log_speed(base), confidence),
        unlike=model.unlike(base) if model.finished and base.finished else "",
        parameters_gap=sizes[0] - sizes[1] if sizes[0] is not None and sizes[1] is not None else None,
        standing=stand(gaps[protocol]),
        other_settings=_other_settings(own, models[baseline], family.shown),
    )
    against = next((other for other in group if other != name and family.against(own, models[other])), None)
    if claim.reading is None or against is None:
        return row
    gap = _gap(_nats(model, protocol), _nats(group[against], protocol), confidence)
    return replace(row, against=against, claim_gap=gap, verdict=judge(claim.reading, gap))


def _gap(ours: dict[int, float], theirs: dict[int, float], confidence: float) -> Difference | None:
    return difference(ours, theirs, confidence, pair=True) if ours and theirs else None


def _nats(model: Neural, protocol: Protocol) -> dict[int, float]:
    return model.log_perplexity("test", protocol)


def _log_speed(model: Neural) -> dict[int, float]:
    return {seed: math.log(value) for seed, value in model.training("tokens_per_second").items() if value > 0}


def _other_settings(own: ModelParams, base: ModelParams, shown: frozenset[str]) -> str:
    settings = own.model_dump(exclude={*shown, *_NOT_SETTINGS})
    return ", ".join(f"{key} {value}" for key, value in settings.items() if value != getattr(base, key))
