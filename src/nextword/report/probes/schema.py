"""``reports/probe/NAME.json`` as typed objects.

Only what the report shows is declared; further keys are ignored. JSON has no infinity: where a field can be infinite
its description says that ``null`` stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from nextword.report.schema import Report

Curve = tuple[float | None, ...]
"""Values by lag; ``null`` is infinite."""


def floats(curve: Iterable[float | None]) -> list[float]:
    """The values of a curve with infinity for ``null``."""
    return [math.inf if value is None else value for value in curve]


class Interval(Report):
    """A mean with its interval."""

    mean: float | None
    low: float | None = None
    high: float | None = None


class Proportion(Report):
    """A share of runs with Wilson's interval."""

    count: int
    of: int
    rate: float
    low: float
    high: float


# ------------------------------------------------------------------------------------------ gradients


class HalfLife(Report):
    """In how many tokens a norm falls to half."""

    status: Literal["falls", "grows", "lasts"]
    tokens: float | None
    """``null`` unless it falls."""
    low: float | None
    high: float | None
    """``null`` is beyond the longest lag."""
    doubling_tokens: float | None = None
    halving_tokens: float | None = None
    """On average from the first lag above 0 on; ``null`` where it does not fall."""
    halving_low: float | None = None
    halving_high: float | None = None


class Norm(Report):
    """A norm by lag, over positions."""

    lags: tuple[int, ...]
    positions: int
    quantiles: dict[str, Curve]
    half_life: HalfLife
    growth: float | None
    """Factor a token after the first; ``null`` is infinite."""


class Bound(Report):
    """The notes' bound ``(beta_W beta_h)^lag``, and whether the norms keep to it."""

    beta_W: float
    beta_h: float
    lags: tuple[int, ...]
    values: Curve
    holds: bool
    violations: int
    checked: int
    largest_share: float | None


class Layer(Report):
    """Gradients through one layer's own recurrence."""

    layer: int
    h: Norm
    c: Norm | None
    c_direct: Norm | None
    bound: Bound | None
    loss_by_weights: Norm


class Flow(Report):
    """Gradients of a model at one set of weights."""

    method: str
    max_lag: int
    layers: tuple[Layer, ...]
    stack: Norm


class Gradients(Report):
    """Gradients before and after training."""

    initial: Flow
    trained: Flow


# -------------------------------------------------------------------------------- context, embeddings


class Treated(Report):
    """Loss with so many tokens of context left as they are; ``null`` is infinite."""

    length: int
    nats: Interval
    increase: Interval


class Document(Report):
    """Loss with the whole document before the target."""

    nats: Interval


class EffectiveLength(Report):
    """Tokens of context that a model uses; ``null`` is more than the longest length."""

    tokens: float | None
    low: float | None
    high: float | None
    tolerance: float


class Context(Report):
    """Use of context."""

    num_targets: int
    lengths: tuple[int, ...]
    document: Document
    truncated: tuple[Treated, ...]
    shuffled: tuple[Treated, ...]
    dropped_frequent: tuple[Treated, ...]
    dropped_rare: tuple[Treated, ...]
    effective_length: EffectiveLength


class Neighbour(Report):
    """A type and its cosine to the word asked for."""

    word: str
    cosine: float


class Neighbours(Report):
    """A word with those nearest to it."""

    word: str
    neighbours: tuple[Neighbour, ...]


class Accuracy(Report):
    """Share of the covered questions that are answered right, with Wilson's interval."""

    correct: int
    accuracy: float
    low: float
    high: float


class Questions(Report):
    """Answers to a part of the analogies."""

    name: str
    questions: int
    covered: int
    add: Accuracy | None
    mul: Accuracy | None


class Analogies(Report):
    """Answers to a file of analogies."""

    file: str
    candidates: int
    sections: tuple[Questions, ...]
    total: Questions
    semantic: Questions
    syntactic: Questions


class Similarity(Report):
    """Agreement with what people say of pairs of words."""

    file: str
    pairs: int
    covered: int
    spearman: float | None
    low: float | None
    high: float | None


class MapWord(Report):
    """A word in two dimensions."""

    word: str
    x: float
    y: float
    count: int


class WordMap(Report):
    """The most frequent words in two dimensions."""

    method: str
    words: tuple[MapWord, ...]
    explained_share: float | None
    trustworthiness: float | None


class Embeddings(Report):
    """What a model's embeddings hold."""

    vocab_size: int
    embedding_size: int
    neighbours: tuple[Neighbours, ...]
    missing: tuple[str, ...]
    analogies: Analogies | None
    similarity: Similarity | None
    map: WordMap


class SeedProbe(Report):
    """What was measured on one seed."""

    seed: int
    gradients: Gradients | None
    context: Context | None


class ProbeFile(Report):
    """``reports/probe/NAME.json``."""

    model: str
    kind: str
    split: str
    seeds: Annotated[tuple[SeedProbe, ...], Field(min_length=1)]
    embeddings: Embeddings
    """Of the first seed."""
    left_out: dict[str, str]
    """Why a part is ``null``."""

    @property
    def gradients(self) -> Gradients | None:
        """Of the first seed, whose curves are shown."""
        return self.seeds[0].gradients

    @property
    def context(self) -> Context | None:
        """Of the first seed."""
        return self.seeds[0].context
