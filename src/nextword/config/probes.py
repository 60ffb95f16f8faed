"""The sections of ``params.yaml`` for the probes: experiments on trained models, and small trainings of their own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nextword.config.base import AsTuple, Count, Positive, Section, Seed, Seeds

Lags = Annotated[tuple[Count, ...], AsTuple, Field(min_length=1)]
Rates = Annotated[tuple[Positive, ...], AsTuple, Field(min_length=1)]
Words = Annotated[tuple[str, ...], AsTuple]


class GradientParams(Section):
    """Gradient flow: the norm of dh_t/dh_k against the lag t - k."""

    max_lag: Count = 48
    """Longest lag t - k in tokens."""
    positions: Count = 16
    """Places in test at which t stands; the spread is over them."""
    exact_size: Count = 1024
    """Where the states of all layers together hold at most so many numbers, the Jacobians themselves are multiplied out
    and their norms are exact; else norms come from power iteration, at fewer lags."""
    power_iterations: Count = 12
    """Steps of the power iteration for a spectral norm."""


class ContextParams(Section):
    """Use of context by trained models (Khandelwal et al. 2018)."""

    lengths: Lags = (1, 2, 4, 8, 16, 32)
    """Tokens of context that are left, or left as they are."""
    targets: Count = 500
    """Targets of test that are scored under every length."""
    tolerance: Positive = 0.01
    """The effective context length is the shortest whose loss is within this share of that with the whole document."""


class EmbeddingParams(Section):
    """What the embeddings of trained models hold."""

    words: Words = ("war", "peace", "congress", "tax", "children", "russia", "year", "freedom")
    """Words whose nearest neighbours are listed; those not in the vocabulary are named and left out."""
    neighbours: Count = 5
    """Neighbours a word."""
    map_words: Count = 120
    """Most frequent words of the 2-D map."""
    map_method: Literal["tsne", "pca"] = "tsne"
    """t-SNE keeps more neighbours near; the principal components take 2 s less a model."""
    analogies: str | None = None
    """A file in the format of questions-words.txt (Mikolov et al. 2013), or null."""
    similarity: str | None = None
    """A file of lines ``word word score``, or null."""


class ProbeParams(Section):
    """What stage ``probe@MODEL`` measures on a trained model: gradients and context on every seed."""

    seed: Seed = 0
    """Of the positions and targets drawn."""
    gradients: GradientParams = GradientParams()
    context: ContextParams = ContextParams()
    embeddings: EmbeddingParams = EmbeddingParams()


class MemoryParams(Section):
    """The memory tasks, and the cures for vanishing gradients, at one size and one budget for every variant."""

    tasks: Annotated[
        tuple[Literal["copy", "adding", "temporal_order", "brackets"], ...], AsTuple, Field(min_length=1)
    ] = ("copy", "adding", "temporal_order", "brackets")  # fmt: skip
    """Which tasks are trained."""
    lags: Lags = (5, 10, 20, 40, 80)
    """Lags in steps, ascending, from 2 on; a seed goes on to the next only where it has solved this one."""
    hidden_size: Count = 32
    """H of every variant."""
    batch_size: Count = 32
    """Sequences a step, drawn anew at each."""
    steps: Count = 350
    """Updates for each lag, learning rate and seed."""
    learning_rates: Rates = (4e-3, 1.5e-2)
    """Tried for every variant and task with the first seed; all seeds take the one that gets furthest."""
    seeds: Seeds = (0, 1, 2)
    """Initialisations and data."""

    @model_validator(mode="after")
    def _ascending(self) -> MemoryParams:
        if self.lags[0] < 2 or list(self.lags) != sorted(set(self.lags)):
            raise ValueError(f"lags {list(self.lags)} must rise and start at 2 or more, e.g. [5, 10, 20]")
        return self


class ExplodingParams(Section):
    """Exploding gradients: the scale of the recurrent initialisation against clipping."""

    scales: Rates = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
    """Factors of an orthogonal recurrent matrix."""
    clip_norm: Positive = 1.0
    """Norm for the runs with clipping."""
    hidden_size: Count = 64
    """H of the tanh and ReLU networks trained."""
    learning_rate: Positive = 0.5
    """Of plain SGD."""
    steps: Count = 45
    """Updates on the training text."""
    seeds: Seeds = (0, 1, 2)
    """Initialisations."""


class WindowParams(Section):
    """The NNLM's fixed window."""

    windows: Lags = (1, 2, 4, 8)
    """How many preceding words it sees."""
    references: Words = ("rnn",)
    """Kinds of recurrent models, which have no window, trained alike beside it; may be empty."""
    embedding_size: Count = 128
    hidden_size: Count = 128
    """E and H of every model."""
    learning_rate: Positive = 4e-3
    """Of every model."""
    train_tokens: Count = 350_000
    """Tokens each is trained on, once; all of train where it has fewer."""
    seeds: Seeds = (0,)
    """Initialisations."""


class SparsityParams(Section):
    """Sparsity of n-grams against order and size of the corpus."""

    fractions: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AsTuple] = (
        0.05, 0.1, 0.25, 0.5, 1.0,
    )  # fmt: skip
    """Shares of train counted: documents in a random order, the last one cut at a line."""
    seed: Seed = 0
    """Of that order."""
    smoothings: Words = ("mle", "modified_kneser_ney")
    """Smoothings compared at each."""
