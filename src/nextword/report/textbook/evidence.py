"""What claims are tested on: saved nats, intervals of the probes, counts.

Shapes: S seeds, D blocks of test (documents, or parts of them), N targets of test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nextword.config import ModelParams
from nextword.evaluation.bootstrap import Crossed, block_sums, crossed_difference
from nextword.evaluation.statistics import Difference, Estimate
from nextword.report.collect import Reports
from nextword.report.crossed import edges_of, perplexity_finding
from nextword.report.finding import Claim, Finding, Reading, Scale, Side, counted, judge, not_tested, over_seeds
from nextword.report.leaderboard import best_ngram
from nextword.report.probes.schema import Context, Gradients, Interval, ProbeFile
from nextword.report.probes.seeds import Values, contexts_by_seed, gradients_by_seed
from nextword.report.schema import Protocol
from nextword.report.tables import number

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """The reports, as claims ask for them."""

    reports: Reports

    @property
    def margin(self) -> float:
        """Practical margin of a ratio of perplexities, as a logarithm."""
        return self.reports.perplexity_margin

    @property
    def confidence(self) -> float:
        """Of all intervals that are made here."""
        return self.reports.params.compare.confidence

    def of_kind(self, kind: str, **settings: object) -> str | None:
        """The first left-to-right model of a kind with these settings, of group ``main`` if there is one."""

        def fits(model: ModelParams) -> bool:
            return model.kind == kind and all(getattr(model, key) == value for key, value in settings.items())

        models = self.reports.params.models
        found = [name for name in self.reports.left_to_right if fits(models[name])]
        return min(found, key=lambda name: models[name].group != "main", default=None)

    @property
    def rnn(self) -> str | None:
        """The plain RNN: one tanh layer as torch starts it."""
        return self.of_kind("rnn", num_layers=1, recurrent_init="uniform", connection="plain")

    @property
    def nnlm(self) -> str | None:
        """The first NNLM."""
        return self.of_kind("nnlm")

    @property
    def lstm(self) -> str | None:
        """The LSTM of the comparison table, else the first one."""
        name = self.reports.params.compare.lstm
        return name if name in self.reports.left_to_right else self.of_kind("lstm")

    @property
    def gru(self) -> str | None:
        """The first GRU of the comparison table, else the first one there is."""
        names = self.reports.params.compare.gru
        found = next((name for name in names if name in self.reports.left_to_right), None)
        return found or self.of_kind("gru") or self.of_kind("gru_reset_after")

    @property
    def ngram(self) -> str | None:
        """The n-gram model with the least perplexity on valid."""
        return best_ngram(self.reports.ngrams)

    def smoothed(self, order: int) -> str | None:
        """The n-gram model of an order, under the smoothing of the best one."""
        entries, best = self.reports.ngrams, self.ngram
        if best is None:
            return None
        return next((n for n, e in entries.items() if (e.smoothing, e.order) == (entries[best].smoothing, order)), None)

    def nats(self, name: str | None, protocol: Protocol = "stateful") -> Floats | None:
        """(S, N) of test: a row a finished seed, one row of an n-gram model; None where there is none."""
        if name is None:
            return None
        if name in self.reports.ngrams:
            return self.reports.nats.ngram(name, "test")[None]
        seeds = self.reports.neural[name].finished
        return np.stack([self.reports.nats.neural(name, s, "test", protocol) for s in seeds]) if seeds else None

    def gap(
        self, a_SN: Floats, b_SN: Floats, mask_N: NDArray[np.bool_] | None = None, *, a_exact: bool = False,
        b_exact: bool = False,
    ) -> Crossed:  # fmt: skip
        """Nats a target of one side less those of the other, over blocks and seeds.

        Args:
            a_SN: (S, N) of one side.
            b_SN: (S, N) of the other.
            mask_N: (N,) which targets count; all where None. Blocks without any are left out.
            a_exact: ``a`` has no seeds.
            b_exact: ``b`` has none.
        """
        edges = edges_of(self.reports, "test")
        counted_N = np.ones(a_SN.shape[1], dtype=bool) if mask_N is None else mask_N
        sizes_D = block_sums(counted_N, edges)

        def sums(nats_SN: Floats) -> Floats:
            of_seeds = [block_sums(np.where(counted_N, nats_N, 0.0), edges) for nats_N in nats_SN]
            return np.stack(of_seeds)[:, sizes_D > 0]

        rule = self.reports.params.compare
        return crossed_difference(
            sums(a_SN), sums(b_SN), sizes_D[sizes_D > 0], rule.confidence, rule.resamples,
            a_exact=a_exact, b_exact=b_exact,
        )  # fmt: skip

    def contrast(self, nats_SN: Floats, a_N: NDArray[np.bool_], b_N: NDArray[np.bool_]) -> Crossed:
        """Nats a target of one part of the targets less those of another, of one model, over blocks and seeds.

        A difference of two ratios of sums over blocks, made linear (delta method): each target enters by how far it
        is from the mean of its part, over the size of the part.

        Args:
            nats_SN: (S, N) finite.
            a_N: (N,) which targets are the one part; some are.
            b_N: (N,) the other.
        """
        edges, targets = edges_of(self.reports, "test"), nats_SN.shape[1]
        means = [float(nats_SN[:, part_N].mean()) for part_N in (a_N, b_N)]
        linear_SN = np.zeros_like(nats_SN)
        for sign, part_N, mean in ((1.0, a_N, means[0]), (-1.0, b_N, means[1])):
            linear_SN[:, part_N] += sign * (nats_SN[:, part_N] - mean) * targets / part_N.sum()
        sums_SD = np.stack([block_sums(linear_N, edges) for linear_N in linear_SN])
        rule, gap = self.reports.params.compare, means[0] - means[1]
        found = crossed_difference(
            sums_SD, np.zeros((1, len(edges) - 1)), np.diff(edges), rule.confidence, rule.resamples, b_exact=True
        )
        low, high = (None if limit is None else gap + limit for limit in (found.low, found.high))
        return replace(found, mean=gap, low=low, high=high, effect=None)

    def perplexity(
        self, key: str, claim: Claim, a: str | None, b: str | None, reading: Reading, *, split: str = "test",
        protocol: Protocol = "stateful", condition: str = "", note: str = "",
    ) -> Finding:  # fmt: skip
        """Perplexity of ``a`` against that of ``b``; not tested where one of them is missing."""
        if a is None or b is None:
            return not_tested(key, claim, lacking(a, b))
        found = perplexity_finding(self.reports, key, claim, (a, b), reading, split, protocol)
        return replace(found, condition=condition, note="; ".join(filter(None, (note, found.note))))

    def perplexities(
        self, key: str, claim: Claim, what: str, a: Side, b: Side, reading: Reading, gap: Difference | None,
        sources: tuple[str, ...], *, condition: str = "", note: str = "",
    ) -> Finding:  # fmt: skip
        """Two perplexities that are not those of two whole models, and the difference of their logarithms."""
        return measured(
            key, claim, what, a, b, reading, gap, sources, ratio=True, margin=self.margin, condition=condition,
            note=note,
        )  # fmt: skip

    def probe(self, name: str | None) -> ProbeFile | None:
        """Of a model; None where there is none."""
        return None if name is None else self.reports.probes.models.get(name)

    def gradients(self, name: str | None) -> dict[int, Gradients]:
        """By finished seed of a model; empty where there is none, or it carries no state."""
        return {} if name is None else gradients_by_seed(self.reports, name)

    def contexts(self, name: str | None) -> dict[int, Context]:
        """By finished seed of a model; empty where there is none, or it is not read from left to right."""
        return {} if name is None else contexts_by_seed(self.reports, name)

    def by_seed(
        self, key: str, claim: Claim, what: str, a: tuple[str, Values], b: tuple[str, Values | float], reading: Reading,
        sources: tuple[str, ...], *, scale: Scale = "difference", condition: str = "", note: str = "",
    ) -> Finding:  # fmt: skip
        """What the probes found by seed, against another or against a number that is known."""
        name, other = b
        known = other if isinstance(other, Mapping) else dict.fromkeys(a[1], other)
        found = over_seeds(key, claim, what, a, (name, known), reading, scale, confidence=self.confidence)
        return replace(
            found, condition=condition, note="; ".join(filter(None, (note, found.note))), sources=sources,
            form=lambda value: number(value, 3),
        )  # fmt: skip


def exact(
    key: str, claim: Claim, what: str, a: tuple[str, float], b: tuple[str, float], reading: Reading,
    sources: tuple[str, ...], note: str = "",
) -> Finding:  # fmt: skip
    """Two numbers without chance."""
    return replace(counted(key, claim, what, a, b, reading), form=number, sources=sources, note=note)


def measured(
    key: str, claim: Claim, what: str, a: Side, b: Side, reading: Reading, gap: Difference | None,
    sources: tuple[str, ...], *, ratio: bool = False, margin: float = 0.0, condition: str = "", note: str = "",
) -> Finding:  # fmt: skip
    """Two sides and the difference that decides (of logarithms where ``ratio``)."""
    return Finding(
        key, claim, what, a, b, reading, "ratio" if ratio else "difference", gap, judge(reading, gap, margin), margin,
        condition=condition, form=lambda value: number(value, 3), note=note, sources=sources,
    )  # fmt: skip


def lacking(*names: str | None) -> str:
    """Why models do not compare: params.yaml has none, or no seed of it came to its end."""
    found = [name for name in names if name is not None]
    if len(found) < len(names):
        return "params.yaml names no model to compare" + (f" with {found[0]}" if found else "")
    return f"every seed of {' or '.join(found)} diverged"


def constant(value: float) -> Estimate:
    """A number that is known."""
    return Estimate(value, value, value, 1)


def estimate(found: Interval | None) -> Estimate | None:
    """An interval of a report; None where it is missing or its mean is infinite."""
    return None if found is None or found.mean is None else Estimate(found.mean, found.low, found.high, 1)


def half_width(value: Estimate | None) -> float | None:
    """Of a symmetric interval; None where there is none."""
    return None if value is None or value.low is None or value.high is None else (value.high - value.low) / 2.0


def logarithm(value: Estimate) -> Estimate:
    """Of positive numbers."""
    low, high = (None if limit is None else math.log(limit) for limit in (value.low, value.high))
    return Estimate(math.log(value.mean), low, high, value.count)


def apart(a: Estimate | None, b: Estimate | None) -> Difference | None:
    """Difference of two estimates from their own intervals (MOVER).

    ``low = a - b - sqrt((a - low_a)^2 + (high_b - b)^2)``, ``high`` likewise: Newcombe's interval 10 for two Wilson
    intervals (Statistics in Medicine 17, 1998), Zou & Donner's for any (27, 2008). It takes the two as independent,
    so it is too wide where they rest on the same positions or documents and rise and fall together.

    Returns:
        None where a side is missing.

    >>> apart(Estimate(3.0, 2.0, 5.0, 9), constant(1.0))
    Difference(mean=2.0, low=1.0, high=4.0, method='MOVER', seeds=())
    """
    if a is None or b is None:
        return None
    gap = a.mean - b.mean
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Difference(gap, None, None, "none")
    low, high = math.hypot(a.mean - a.low, b.high - b.mean), math.hypot(a.high - a.mean, b.mean - b.low)
    return Difference(gap, gap - low, gap + high, "MOVER")
