"""The sections of ``params.yaml``: one class a section, one field a key, documented by the docstring under it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """One part of the tree: frozen, and nothing but the keys it names."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _distinct_seeds(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 0:
        raise ValueError("give at least one seed")
    if len(set(map(str, value))) != len(value):
        raise ValueError(f"seeds {list(value)} repeat; each seed may be given once")
    return tuple(value)


# ---------------------------------------------------------------------------------------------- text


class SotuSource(Section):
    """The built-in corpus: addresses of US presidents to Congress."""

    from_year: Annotated[int, Field(ge=1790, le=2100)] = 1945
    """First year of the addresses that are kept."""
    to_year: Annotated[int, Field(ge=1790, le=2100)] = 2026
    """Last year of the addresses that are kept."""

    @model_validator(mode="after")
    def _ordered(self) -> SotuSource:
        if self.from_year > self.to_year:
            raise ValueError(f"from_year {self.from_year} is after to_year {self.to_year}; swap them")
        return self


class TextSource(Section):
    """The user's own files."""

    path: str | None = None
    """A UTF-8 text file, or a folder whose ``*.txt`` files are one document each; split by document."""
    train: str | None = None
    """The user's own split: three files (or folders), given together and instead of ``path``."""
    valid: str | None = None
    test: str | None = None
    documents: Literal["file", "blank_line", "line"] = "blank_line"
    """What separates documents inside a single file: nothing (the file is one), blank lines, or every line end."""

    @model_validator(mode="after")
    def _one_way(self) -> TextSource:
        own = [self.train, self.valid, self.test]
        if self.path is not None and any(own):
            raise ValueError("give either `path` (split here) or `train`, `valid` and `test` (your own split)")
        if any(own) and not all(own):
            raise ValueError("your own split needs all of `train`, `valid` and `test`")
        return self


class HubSource(Section):
    """A Hugging Face dataset."""

    name: str | None = None
    """Name of a Hugging Face dataset, as in ``datasets.load_dataset(name)``."""
    config: str | None = None
    revision: str | None = None
    """Commit, tag or branch of the dataset; give a commit for runs that others can repeat."""
    text_column: str = "text"
    train: str = "train"
    """Names of the dataset's own splits; where ``valid`` or ``test`` is null, train is split by document."""
    valid: str | None = "validation"
    test: str | None = "test"
    documents: Literal["row", "split"] = "row"
    """What is one document: each row, or all rows of a split (whose rows are consecutive lines of running text)."""


class SplitParams(Section):
    """How documents are dealt out to train, valid and test."""

    valid: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """Share of the documents (by size in bytes) that go to valid; likewise test."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    seed: Seed = 0


class CorpusParams(Section):
    """Where the text comes from."""

    source: Literal["sotu", "text", "hub"] = "sotu"
    sotu: SotuSource = SotuSource()
    text: TextSource = TextSource()
    hub: HubSource = HubSource()
    split: SplitParams = SplitParams()
    """Used where the source brings no split of its own. Always by document, never by line."""
    allow_outside: bool = False
    """Let ``text`` paths lie outside the project folder."""

    @model_validator(mode="after")
    def _source_given(self) -> CorpusParams:
        if self.source == "text" and self.text.path is None and self.text.train is None:
            raise ValueError("source `text` needs `text.path`, or `text.train`, `text.valid` and `text.test`")
        if self.source == "hub" and not self.hub.name:
            raise ValueError("source `hub` needs `hub.name`, e.g. `Salesforce/wikitext`")
        return self


class TokenizerParams(Section):
    """How text becomes ids."""

    kind: Literal["word", "bpe", "unigram", "wordpiece", "char", "byte"] = "word"
    vocab_size: Annotated[int, Field(ge=2)] | None = 5000
    """Largest number of types, special tokens included; null keeps every type of train (word and char only)."""
    lowercase: bool = True
    """Lower-case before tokenizing (NFC normalisation is always done)."""
    pre_tokenizer: Literal["words_and_punctuation", "whitespace"] = "words_and_punctuation"
    """How ``word`` cuts a line: punctuation apart from words, or at white space alone (text already tokenized)."""

    @model_validator(mode="after")
    def _size_needed(self) -> TokenizerParams:
        if self.vocab_size is None and self.kind in ("bpe", "unigram", "wordpiece"):
            raise ValueError(f"tokenizer `{self.kind}` needs a `vocab_size`; null is for word, char and byte")
        return self


# ------------------------------------------------------------------------------------------- n-grams


class NgramParams(Section):
    """Which n-gram models are estimated."""

    max_order: Annotated[int, Field(ge=1, le=20)] = 5
    """Orders 1 to this one are estimated and evaluated, for every smoothing."""
    smoothings: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "mle", "add_k", "jelinek_mercer", "katz", "absolute_discounting", "kneser_ney", "modified_kneser_ney",
    )  # fmt: skip
    """Names in ``nextword.ngram.SMOOTHINGS``."""
    add_k: Positive = 0.01
    """The k of add-k smoothing."""
    katz_cutoff: Annotated[int, Field(ge=1, le=50)] = 5
    """Katz: counts above this are not discounted (Katz 1987 has 5)."""
    arpa: bool = True
    """Write the best model as an ARPA file."""

    @field_validator("smoothings", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


# --------------------------------------------------------------------------------- models and training


class ModelParams(Section):
    """One entry under ``models:``. What a ``kind`` has no use for must be left out."""

    kind: str
    """Name in ``nextword.models.MODELS``."""
    embedding_size: Count = 200
    hidden_size: Count = 200
    num_layers: Count = 1
    window: Count | None = None
    """NNLM only: how many preceding words it sees (n - 1)."""
    direct_connections: bool = False
    """NNLM only: Bengio's optional linear map from the embeddings to the output."""
    tie_weights: bool = True
    """Share the input embedding with the output layer (Press & Wolf 2017; Inan et al. 2017)."""
    dropout: Fraction = 0.0
    """On the embedding, between layers and before the output."""
    init_scale: Positive | None = None
    """Weights are drawn from U(-init_scale, init_scale); null: 1/sqrt(hidden_size), embeddings 0.1."""
    forget_bias: float | None = None
    """LSTM only: initial bias of the forget gate; null leaves it to the cell (1.0; Jozefowicz 2015)."""
    engine: Literal["auto", "scan", "fused"] = "auto"
    learning_rate: Positive = 1e-3
    """Peak learning rate of the schedule."""
    seeds: tuple[Seed, ...] | None = None
    """Seeds of this model; null takes ``train.seeds``."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return _distinct_seeds(value)


class ScheduleParams(Section):
    """How the learning rate moves."""

    kind: Literal["constant", "one_cycle", "cosine", "plateau", "decay"] = "one_cycle"
    warmup: Fraction = 0.1
    """one_cycle, cosine: share of the steps in which the rate rises."""
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """plateau, decay: the rate is multiplied by this."""
    decay_from_epoch: Count = 5
    """decay: first epoch (counted from 1) with a lowered rate; lowered again at each one after it (Zaremba 2014)."""
    patience: Annotated[int, Field(ge=0)] = 0
    """plateau: epochs without a better valid loss that are let pass before the rate is lowered."""


class TrainParams(Section):
    """Conditions that are the same for every model."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    batch_size: Count = 20
    """Parallel streams over all devices together; must divide by ``devices_per_run``."""
    bptt: Count = 35
    """Time steps between truncations of back-propagation."""
    max_epochs: Count = 6
    early_stopping_patience: Annotated[int, Field(ge=0)] | None = None
    """Stop after this many epochs without a better valid loss; null trains to the end. The best epoch is kept."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    momentum: Fraction = 0.0
    """sgd only."""
    schedule: ScheduleParams = ScheduleParams()
    clip_norm: Positive | None = 1.0
    """Largest global L2 norm of the gradient; null does not clip."""
    loss_scale: Literal["mean", "per_stream"] = "mean"
    """The loss that is differentiated: nats per target, or nats per stream (summed over the window: Zaremba 2014)."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device computes it natively, else float32. Evaluation is always float32."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices_per_run: Count | Literal["all"] = 1
    """1: as many runs at once as there are devices (on CPU: one thread-pinned process a core); N: DDP over N."""
    max_parallel_runs: Count | None = None
    """Upper bound for the runs at once; null: as many as there are devices."""

    @field_validator("seeds", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return _distinct_seeds(value)

    @model_validator(mode="after")
    def _divides(self) -> TrainParams:
        if self.devices_per_run != "all" and self.batch_size % self.devices_per_run:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by devices_per_run {self.devices_per_run}; "
                f"take a multiple of {self.devices_per_run}"
            )
        return self


# ------------------------------------------------------------------------------- evaluation and report


class EvaluateParams(Section):
    """How trained models are scored."""

    batch_size: Count = 32
    """Lines or documents scored side by side. No figure depends on it."""
    train_sample_tokens: Count = 60_000
    """Train perplexity is measured on the first whole documents of train that hold this many tokens."""


class CompareParams(Section):
    """What the last stage compares."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    lstm: str = "lstm"
    """Name under ``models:`` of the LSTM side of the comparison table."""
    gru: tuple[str, ...] = ("gru", "gru_reset_after")
    """Names under ``models:`` of the GRU side."""

    @field_validator("gru", mode="before")
    @classmethod
    def _tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class TrackingParams(Section):
    """Where MLflow's runs go."""

    experiment: Annotated[str, Field(min_length=1)] = "nextword"
    """MLflow experiment that receives the runs."""
    register_models: bool = True
    """Log the best seed of each model as a pyfunc model and register it under its name."""


class Params(Section):
    """The whole of params.yaml."""

    corpus: CorpusParams = CorpusParams()
    tokenizer: TokenizerParams = TokenizerParams()
    ngram: NgramParams = NgramParams()
    train: TrainParams = TrainParams()
    models: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ModelParams], Field(min_length=1)]
    evaluate: EvaluateParams = EvaluateParams()
    compare: CompareParams = CompareParams()
    tracking: TrackingParams = TrackingParams()

    def require_model(self, name: str) -> None:
        """Raise ValueError where params.yaml has no model ``name``."""
        if name not in self.models:
            raise ValueError(f"no model {name!r} in params.yaml; models: {', '.join(self.models)}")

    def seeds_of(self, model: str) -> tuple[int, ...]:
        """Seeds with which ``model`` is trained."""
        return self.models[model].seeds or self.train.seeds
