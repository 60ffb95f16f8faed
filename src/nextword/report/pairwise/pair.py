"""An LSTM and a GRU, and under what they were made alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nextword.config import ModelParams
from nextword.report.collect import Neural, Reports
from nextword.report.finding import Claim, Finding, Reading, Scale, counted, over_seeds
from nextword.report.probes.seeds import Values
from nextword.report.tables import number

ALIKE = 0.01
"""Largest share by which numbers of parameters, and what follows from them, may differ where they were made equal."""
EQUAL_SIZE, EQUAL_PARAMETERS = "equal hidden size", "equal parameters"


@dataclass(frozen=True, eq=False)
class Pair:
    """An LSTM and a GRU of the comparison."""

    reports: Reports
    lstm: Neural
    gru: Neural
    condition: str
    """Under what they were made alike."""
    compared: tuple[Neural, ...]
    """All models of the comparison: what is measured at one point for all of them depends on all."""

    @property
    def matched(self) -> bool:
        """Whether the LSTM was given as many parameters as the GRU."""
        return self.condition == EQUAL_PARAMETERS

    @property
    def names(self) -> tuple[str, str]:
        """Of the two models."""
        return self.lstm.name, self.gru.name

    @property
    def networks(self) -> tuple[str, str]:
        """Of the two in the reports of the experiments ``memory``, ``capacity`` and ``throughput``."""
        return "lstm_matched" if self.matched else "lstm", self.gru.train.kind

    @property
    def margin(self) -> float:
        """Practical margin of logarithms of perplexities."""
        return self.reports.perplexity_margin

    def stages(self, *names: str) -> tuple[str, ...]:
        """Stages of these names of both models."""
        return tuple(f"{name}@{model}" for name in names for model in self.names)

    def count(
        self,
        key: str,
        claim: Claim,
        measured: str,
        values: tuple[float | None, float | None],
        *stages: str,
        follows: bool = False,
    ) -> Iterator[Finding]:
        """An exact number a side, read as "the LSTM's is higher"; none where a side has no number.

        In a pair of equal parameters, what ``follows`` from their number, or comes out alike, decides nothing.
        """
        a, b = values
        if a is None or b is None:
            return
        finding = counted(key, claim, measured, (self.lstm.name, a), (self.gru.name, b), "higher")
        if self.matched and (follows or abs(a - b) <= ALIKE * b):
            finding = replace(finding, verdict="not tested", basis="nothing", note="parameters were made equal")
        yield replace(finding, condition=self.condition, sources=stages)

    def by_seed(
        self,
        key: str,
        claim: Claim,
        measured: str,
        values: Callable[[Neural], Values],
        reading: Reading,
        scale: Scale,
        *stages: str,
        margin: float = 0.0,
        step: float = 0.0,
    ) -> Iterator[Finding]:
        """A number a seed of the two models; none where a model that came to its end has no number."""
        sides = [values(model) for model in (self.lstm, self.gru)]
        if any(model.finished and not side for model, side in zip((self.lstm, self.gru), sides, strict=True)):
            return
        lost = [model.name for model in (self.lstm, self.gru) if not model.finished]
        yield self.seeds(
            key, claim, measured, self.names, sides, reading, scale, *stages, margin=margin, step=step, lost=lost
        )

    def seeds(
        self,
        key: str,
        claim: Claim,
        measured: str,
        names: tuple[str, str],
        sides: list[Values],
        reading: Reading,
        scale: Scale,
        *stages: str,
        margin: float = 0.0,
        step: float = 0.0,
        lost: list[str] | None = None,
    ) -> Finding:
        """A number a seed of whatever the two sides are."""
        a, b = zip(names, sides, strict=True)
        confidence = self.reports.params.compare.confidence
        finding = over_seeds(
            key, claim, measured, a, b, reading, scale, margin=margin, step=step, confidence=confidence
        )
        note = f"{' and '.join(lost)}: every seed diverged" if lost else finding.note
        return replace(finding, condition=self.condition, sources=stages, note=note, form=_short)

    def fair_speed(self, finding: Finding) -> Finding:
        """The same, undecided where the two trainings ran differently: another engine compares programs, not cells."""
        unlike = self.lstm.unlike(self.gru) if self.lstm.finished and self.gru.finished else ""
        if not unlike:
            return finding
        return replace(finding, verdict="undecided", basis="nothing", note=f"not like for like: {unlike}")


def logarithms(model: Neural, field: str) -> dict[int, float]:
    """Natural logarithm of a field of the training report by finished seed."""
    return {seed: math.log(value) for seed, value in model.training(field).items() if value > 0}


def _short(value: float | None) -> str:
    return number(value, 3) if value is None or abs(value) < 1000 else number(value)


def make_pairs(reports: Reports) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """All pairs of the LSTMs and GRUs that ``params.compare`` names, and in words what is left out and why."""
    named, models = reports.params.compare, reports.left_to_right
    wanted = (named.lstm, *named.gru, *([named.lstm_matched] if named.lstm_matched else []))
    why = [
        f"{name} is bidirectional: left out."
        if name in reports.neural
        else f"{name} is not under models in params.yaml: left out."
        for name in wanted
        if name not in models
    ]
    if named.lstm_matched is None:
        why.append("compare.lstm_matched names no LSTM with the GRU's number of parameters: that comparison is absent.")
    grus = [models[name] for name in named.gru if name in models]
    if named.lstm not in models or not grus:
        return (), tuple(why)
    lstm, matched = models[named.lstm], models.get(named.lstm_matched or "")
    compared = (lstm, *([matched] if matched else []), *grus)
    pairs = [Pair(reports, lstm, gru, _likeness(reports, lstm, gru), compared) for gru in grus]
    for gru in grus if matched else []:
        assert matched is not None
        ours, theirs = (hidden_parameters_of(reports, model) for model in (matched, gru))
        if abs(ours - theirs) <= ALIKE * theirs:
            pairs.append(Pair(reports, matched, gru, EQUAL_PARAMETERS, compared))
        else:
            why.append(
                f"{matched.name} has {ours:,} parameters outside embedding and output layer, {gru.name} {theirs:,}: "
                f"more than {ALIKE:.0%} apart, so they are not compared at equal parameters."
            )
    return tuple(pairs), tuple(why)


def hidden_parameters_of(reports: Reports, model: Neural) -> int:
    """Parameters outside embedding and output layer: recurrent layers, and the projection after them."""
    from nextword.models.sizes import hidden_parameters  # brings torch

    return hidden_parameters(reports.params.models[model.name])


def _likeness(reports: Reports, lstm: Neural, gru: Neural) -> str:
    """Equal hidden size, or in words what is not equal."""
    a, b = (reports.params.models[model.name] for model in (lstm, gru))

    def size(model: ModelParams) -> str:
        return f"{model.num_layers} x {model.hidden_size}, embedding {model.embedding_size}"

    return EQUAL_SIZE if size(a) == size(b) else f"unequal sizes ({size(a)} against {size(b)})"
