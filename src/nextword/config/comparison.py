"""The sections of ``params.yaml`` for a fair comparison: tuning, adaptation, capacity, throughput, statistics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from nextword.config.base import AsTuple, Count, Fraction, Positive, Section, Seed, Seeds
from nextword.config.probes import Lags, Rates, Words

Shares = Annotated[tuple[Fraction, ...], AsTuple, Field(min_length=1)]
Range = Annotated[tuple[float, float], AsTuple]


class PublishedParams(Section):
    """A result from the literature that a model of a profile repeats (``make paper``)."""

    source: Annotated[str, Field(min_length=1)]
    """Paper and table."""
    valid: Positive | None = None
    """Perplexity on valid, and on test."""
    test: Positive
    within: Positive = 1.0
    """The result is met where test perplexity is at most this much above the published one."""
    milestones: Annotated[tuple[Positive, ...], AsTuple] = ()
    """Perplexities on valid; the seconds of training until each are told."""


class TuneParams(Section):
    """Stage ``tune@MODEL``: a random search by successive halving, the same for every model that is tuned.

    Every model is tried with the same settings: ``trials`` draws of learning rate and dropout. Each is trained on
    ``tokens`` tokens of train under the whole schedule and scored on valid; the better half goes on, from the start,
    with twice the tokens, ``halvings`` times. So all models get the same number of trials and of tokens.
    """

    models: Words = ()
    """Names under ``models:``; the others keep their own settings."""
    trials: Count = 8
    """Settings tried."""
    tokens: Count = 80_000
    """Tokens of train on which each is trained at first; more than train holds are several epochs. The fewer, the
    higher is the learning rate that looks best: keep the last rung near the final training, or the range low."""
    halvings: Annotated[int, Field(ge=0, le=10)] = 2
    """How often the better half goes on with twice the tokens."""
    learning_rate: Range = (2e-3, 4e-2)
    """Peak learning rate, drawn log-uniformly between these."""
    dropout: Range = (0.0, 0.4)
    """``dropout``, drawn uniformly between these."""
    seed: Seed = 0
    """Of the draws and of every training."""

    @model_validator(mode="after")
    def _ranges(self) -> TuneParams:
        low, high = self.learning_rate
        if not 0 < low <= high:
            raise ValueError(f"learning_rate {[low, high]} must be [low, high] with 0 < low <= high")
        low, high = self.dropout
        if not 0 <= low <= high < 1:
            raise ValueError(f"dropout {[low, high]} must be [low, high] with 0 <= low <= high < 1")
        if self.trials < 2**self.halvings:
            raise ValueError(
                f"{self.trials} trials cannot be halved {self.halvings} times; "
                f"set trials to {2**self.halvings} or more, or halvings lower"
            )
        return self


class CacheParams(Section):
    """Neural cache (Grave, Joulin & Usunier 2017): words of like hidden states, seen not long ago, become likelier."""

    size: Count = 500
    """Tokens remembered."""
    thetas: Rates = (0.2, 0.4, 0.8, 1.6)
    """Flatness of the cache's distribution; the best on valid is taken."""
    weights: Shares = (0.05, 0.1, 0.2)
    """Weight of the cache in the mixture; the best on valid is taken."""


class DynamicParams(Section):
    """Dynamic evaluation (Mikolov 2010; Krause 2018): gradient steps on what has just been scored."""

    seeds: Count | None = 2
    """How many seeds of each model, the first ones; null: all. It takes as long as some epochs of training."""
    steps: Count = 40
    """Tokens scored between two updates."""
    learning_rates: Rates = (1e-3, 2e-3)
    """Of gradients divided by their size on train; the best on valid is taken."""
    decay: Fraction = 0.002
    """Pull towards the trained weights at each update."""


class AdaptiveParams(Section):
    """Models that learn from the test text as they read it; rows of their own beside the plain scores."""

    groups: Words = ("main",)
    """Groups of models that are scored so too; bidirectional models never are."""
    tune_tokens: Count = 10_000
    """Settings are chosen on so many tokens of valid; dynamic evaluation measures gradients on as many of train."""
    cache: CacheParams | None = CacheParams()
    dynamic: DynamicParams | None = DynamicParams()


class CapacityParams(Section):
    """What LSTM and GRU can hold: random text by heart, train text without regularisation, and what that costs."""

    embedding_size: Count = 48
    """Another one than the hidden size, so that every network has the projection before the tied output."""
    hidden_size: Count = 64
    """Of LSTM and both GRUs; beside them stands an LSTM of the GRU's number of parameters."""
    learning_rates: Rates = (1e-2, 2e-2)
    """The one with the lower loss on the shortest text is taken, for each model and kind of text, by the first seed."""
    random_vocabulary: Count = 64
    """Types of the random text, all as likely."""
    random_tokens: Lags = (4_000, 16_000)
    """Lengths of the random text."""
    random_epochs: Count = 50
    """Epochs on it."""
    train_tokens: Lags = (10_000, 20_000, 40_000)
    """Sizes of the part of train."""
    seen_tokens: Count = 80_000
    """Tokens trained on in all, the same for each size."""
    seeds: Seeds = (0, 1)


class ThroughputParams(Section):
    """Training speed of LSTM and GRU against batch size and devices."""

    embedding_size: Count = 96
    """As of ``capacity``."""
    hidden_size: Count = 128
    """Of LSTM and both GRUs; beside them stands an LSTM of the GRU's number of parameters."""
    batch_sizes: Lags = (1, 4, 20, 80)
    """Columns side by side."""
    devices: Annotated[tuple[Count, ...], AsTuple] | None = None
    """Numbers of devices (threads on CPU) tried; null: 1 and all there are."""
    seconds: Positive = 1.0
    """Time measured at each point, divided among the turns."""
    repeats: Count = 3
    """Turns of each model with the others; the interval is over them."""


class CompareParams(Section):
    """What the last stage compares, and by what rule."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    margin: Fraction = 0.02
    """Practical margin: two perplexities are called comparable where they differ by at most this share."""
    lstm: str = "lstm"
    """Name under ``models:`` of the LSTM side of the comparison table."""
    gru: Annotated[tuple[str, ...], AsTuple] = ("gru", "gru_reset_after")
    """Names under ``models:`` of the GRU side."""
    lstm_matched: str | None = None
    """Name under ``models:`` of an LSTM with as many parameters as the GRUs (see ``match``), or null."""
    resamples: Annotated[int, Field(ge=2)] = 2_000
    """Bootstrap resamples of documents and seeds."""
    block_tokens: Count | None = None
    """Documents are cut into blocks of about so many tokens before they are resampled; null: whole documents."""
