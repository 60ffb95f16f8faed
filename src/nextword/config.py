"""``params.yaml`` as a frozen, typed tree. This module is the only reader of that file.

Every section of the file is one class below, every key one field; the docstring under a field is its
documentation. Unknown keys, wrong types and values out of range raise :class:`ValueError` with the place in the
file, the value given, the values allowed and, for a misspelt key, its nearest neighbour.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# ---------------------------------------------------------------------------------------------- text


class SotuSource(Section):
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
    valid: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """Share of the documents (by size in bytes) that go to valid; likewise test."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    seed: Seed = 0


class CorpusParams(Section):
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
    batch_size: Count = 32
    """Lines or documents scored side by side. No figure depends on it."""
    train_sample_tokens: Count = 60_000
    """Train perplexity is measured on the first whole documents of train that hold this many tokens."""


class CompareParams(Section):
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
    experiment: Annotated[str, Field(min_length=1)] = "nextword"
    """MLflow experiment that receives the runs."""
    register_models: bool = True
    """Log the best seed of each model as a pyfunc model and register it under its name."""


class Params(Section):
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
            raise ValueError(f"no model {name!r} in {PARAMS_FILE}; models: {', '.join(self.models)}")

    def seeds_of(self, model: str) -> tuple[int, ...]:
        """Seeds with which ``model`` is trained."""
        return self.models[model].seeds or self.train.seeds


def load_params(path: str | os.PathLike[str] = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml`` (YAML 1.2, as DVC reads it: ``1e-3`` is a number).

    Raises:
        ValueError: the file is missing, is not YAML, or holds an unknown key or a value that is not allowed; the
            message names the place, the value, what is allowed and what to do.
    """
    path = Path(path)
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} not found; run from the project folder, or copy one of profiles/*.yaml") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping with the keys {', '.join(Params.model_fields)}")
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        raise ValueError("\n".join([f"{path} has {error.error_count()} error(s):", *_explain(error)])) from None
    _check_names(params, path)
    return params


def _check_names(params: Params, path: Path) -> None:
    """Names that other rooms define: kinds of model, smoothings."""
    from nextword.models import check_model
    from nextword.ngram import SMOOTHINGS

    for name in params.ngram.smoothings:
        if name not in SMOOTHINGS:
            raise ValueError(
                f"{path}: ngram.smoothings: unknown smoothing {name!r};{_nearest(name, SMOOTHINGS)} "
                f"allowed: {', '.join(SMOOTHINGS)}"
            )
    for name, model in params.models.items():
        try:
            check_model(model)
        except ValueError as error:
            raise ValueError(f"{path}: models.{name}: {error}") from None


def _distinct_seeds(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 0:
        raise ValueError("give at least one seed")
    if len(set(map(str, value))) != len(value):
        raise ValueError(f"seeds {list(value)} repeat; each seed may be given once")
    return tuple(value)


def _explain(error: ValidationError) -> Iterator[str]:
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"] if part != "[key]")
        if item["type"] == "extra_forbidden":
            known = _fields_at(item["loc"][:-1])
            key = str(item["loc"][-1])
            yield f"  {place}: unknown key;{_nearest(key, known)} allowed: {', '.join(known)}"
        elif item["type"] == "missing":
            yield f"  {place}: missing; add it"
        elif item["type"] == "value_error":
            yield f"  {place}: {item['ctx']['error']}"
        else:
            yield f"  {place}: got {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _fields_at(place: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in place:
        if part == "models":
            section = ModelParams
        elif part in section.model_fields:
            inner = section.model_fields[str(part)].annotation
            section = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else section
    return list(section.model_fields)


def _nearest(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" did you mean {close[0]!r}?" if close else ""
