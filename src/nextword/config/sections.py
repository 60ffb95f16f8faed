"""The sections of ``params.yaml``: one class a section, one field a key, documented by the docstring under it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nextword.config.base import AsTuple, Count, Fraction, NonNegative, Positive, Section, Seeds
from nextword.config.comparison import (
    AdaptiveParams,
    CapacityParams,
    CompareParams,
    PublishedParams,
    ThroughputParams,
    TuneParams,
)
from nextword.config.corpus import CorpusParams, TokenizerParams
from nextword.config.probes import ExplodingParams, MemoryParams, ProbeParams, SparsityParams, WindowParams

# ------------------------------------------------------------------------------------------- n-grams


class NgramParams(Section):
    """Which n-gram models are estimated."""

    max_order: Annotated[int, Field(ge=1, le=20)] = 5
    """Orders 1 to this one are estimated and evaluated, for every smoothing."""
    smoothings: Annotated[tuple[str, ...], AsTuple, Field(min_length=1)] = (
        "mle", "add_k", "jelinek_mercer", "katz", "absolute_discounting", "kneser_ney", "modified_kneser_ney",
    )  # fmt: skip
    """Names in ``nextword.ngram.SMOOTHINGS``."""
    add_k: Positive = 0.01
    """The k of add-k smoothing."""
    katz_cutoff: Annotated[int, Field(ge=1, le=50)] = 5
    """Katz: counts above this are not discounted (Katz 1987 has 5)."""
    arpa: bool = True
    """Write the best model as an ARPA file."""


# --------------------------------------------------------------------------------- models and training


class SizeParams(Section):
    """A recurrent network by its size."""

    kind: str
    hidden_size: Count
    num_layers: Count = 1


class ModelParams(Section):
    """One entry under ``models:``. What a ``kind`` has no use for must be left out."""

    kind: str
    """Name in ``nextword.models.MODELS``."""
    group: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = "main"
    """Models of a group are trained alike and compare; ``ablation`` and ``rnn`` each have a table in the report."""
    embedding_size: Count = 200
    hidden_size: Count = 200
    """Left out where ``match`` is given, which solves for it."""
    match: SizeParams | None = None
    """Take the hidden size with which the model has as many parameters, embedding and output layer aside, as one of
    this kind and size that is otherwise alike: within 1%."""
    num_layers: Count = 1
    last_hidden_size: Count | None = None
    """Hidden size of the last layer, e.g. that of the embedding it is tied to (Merity 2018); null: ``hidden_size``."""
    window: Count | None = None
    """NNLM only: how many preceding words it sees (n - 1)."""
    direct_connections: bool = False
    """NNLM only: Bengio's optional linear map from the embeddings to the output."""
    tie_weights: bool = True
    """Share the input embedding with the output layer (Press & Wolf 2017; Inan et al. 2017)."""
    adaptive_softmax: Annotated[tuple[Count, ...], AsTuple, Field(min_length=1)] | None = None
    """Cutoffs in the vocabulary, for a large one: the types before the first are predicted one by one, those from each
    cutoff to the next as members of a cluster, with ever narrower vectors (Grave 2017). They should come by frequency,
    as those of tokenizers word and char do. Needs tie_weights: false; null is the plain softmax."""
    connection: Literal["plain", "residual", "highway", "dense"] = "plain"
    """What a layer reads: the layer below; that plus what the layer below read (He 2015); a gated mixture of the two
    (Srivastava 2015); the outputs of all layers below (Huang 2017)."""
    bidirectional: bool = False
    """Predict each word from the words before it and the words after it: pseudo-perplexity, in a table of its own."""
    dropout: Fraction = 0.0
    """On the embedding, between layers and before the output."""
    dropout_input: Fraction | None = None
    """On the embedding; null takes ``dropout``."""
    dropout_hidden: Fraction | None = None
    """Between layers; null takes ``dropout``."""
    dropout_output: Fraction | None = None
    """Before the output layer; null takes ``dropout``."""
    dropout_embedding: Fraction = 0.0
    """Share of the types whose embedding is dropped whole in a window (Gal & Ghahramani 2016)."""
    weight_drop: Fraction = 0.0
    """Share of the recurrent weights dropped for a window (Merity 2018)."""
    dropout_recurrent: Fraction = 0.0
    """Share of the units of the state before that each gate does not see in a window (Gal & Ghahramani 2016)."""
    variational: bool = False
    """One dropout mask for all time steps of a window (Gal & Ghahramani 2016) instead of one a step."""
    activation_penalty: NonNegative = 0.0
    """AR: factor of the mean square of the last layer's outputs after dropout, added to the loss (Merity 2017)."""
    temporal_penalty: NonNegative = 0.0
    """TAR: factor of the mean square of the change of the last layer's output from step to step (Merity 2017)."""
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"
    """Recurrent matrices at the start; identity with kind rnn_relu is the IRNN (Le 2015)."""
    recurrent_scale: Positive | None = None
    """Factor of an orthogonal or identity recurrent matrix; null: 1."""
    init_scale: Positive | None = None
    """Weights are drawn from U(-init_scale, init_scale); null: 1/sqrt(hidden_size), embeddings 0.1."""
    forget_bias: float | None = None
    """Cells with a forget gate: its initial bias; null leaves it to the cell (1.0; Jozefowicz 2015)."""
    engine: Literal["auto", "fused", "compiled", "scan", "graph", "loop"] = "auto"
    """What runs the recurrent layers (nextword.models.scan); auto takes the fastest that computes the cell."""
    checkpoint_steps: Count | None = None
    """Keep activations of the recurrent layers only at each so many steps and compute them again in the backward
    pass: memory for time, the same numbers. null keeps all."""
    learning_rate: Positive = 1e-3
    """Peak learning rate of the schedule."""
    seeds: Seeds | None = None
    """Seeds of this model; null takes ``train.seeds``."""
    max_epochs: Count | None = None
    """Epochs of this model; null takes ``train.max_epochs``."""


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

    seeds: Seeds = (0, 1, 2)
    batch_size: Count = 20
    """Parallel streams over all devices together; must divide by ``devices_per_run``."""
    bptt: Count = 35
    """Time steps between truncations of back-propagation."""
    random_bptt: bool = False
    """Cut the text anew in each epoch, into as many windows as before: mostly of about ``bptt`` steps, one in twenty of
    half as many; the learning rate follows their length (Merity 2018, section 5). For sgd and nt_asgd."""
    accumulate: Count = 1
    """Parts into which each device cuts its streams, computed one after the other for each step: the same results in
    less memory. The streams of a device must divide by it."""
    max_epochs: Count = 6
    early_stopping_patience: Annotated[int, Field(ge=0)] | None = None
    """Stop after this many epochs without a better valid loss; null trains to the end. The best epoch is kept."""
    optimizer: Literal["adamw", "sgd", "nt_asgd"] = "adamw"
    """nt_asgd: SGD that starts to average its weights once the valid loss stops falling (Merity 2018)."""
    nonmonotone_interval: Count = 5
    """nt_asgd: averaging starts when the valid loss is no better than its best of more than so many epochs ago."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    momentum: Fraction = 0.0
    """sgd and nt_asgd."""
    schedule: ScheduleParams = ScheduleParams()
    clip_norm: Positive | None = 1.0
    """Largest global L2 norm of the gradient; null does not clip."""
    loss_scale: Literal["mean", "per_stream"] = "mean"
    """The loss that is differentiated: nats per target, or nats per stream (summed over the window: Zaremba 2014)."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device computes it natively, else float32. float16: on GPUs, with loss
    scaling. Evaluation is always float32."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices_per_run: Count | Literal["all"] = 1
    """1: as many runs at once as there are devices (on CPU: one thread-pinned process a core); N: DDP over N."""
    checkpoint_seconds: NonNegative = 20.0
    """Time between two checkpoints, from which an interrupted run goes on bit for bit; longer where they are slow, so
    that they take at most 2% of the time. 0: after each step."""
    max_parallel_runs: Count | None = None
    """Upper bound for the runs at once; null: as many as there are devices."""

    @model_validator(mode="after")
    def _consistent(self) -> TrainParams:
        if self.random_bptt and (self.optimizer == "adamw" or self.bptt < 20):
            raise ValueError(
                "random_bptt scales the steps of sgd and nt_asgd by the length of windows of about 20 steps or more, "
                f"and there are optimizer {self.optimizer} and bptt {self.bptt}; change these, or remove random_bptt"
            )
        return self.require_parts(1 if self.devices_per_run == "all" else self.devices_per_run)

    def require_parts(self, devices: int) -> TrainParams:
        """Raise ValueError where the batch cannot be cut alike for so many devices; else return itself."""
        if self.batch_size % (devices * self.accumulate):
            parts = f"{devices} devices" + (f" times accumulate {self.accumulate}" if self.accumulate > 1 else "")
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by {parts}; "
                f"take a multiple of {devices * self.accumulate}"
            )
        return self


# ------------------------------------------------------------------------------- evaluation and report


class EvaluateParams(Section):
    """How trained models are scored."""

    batch_size: Count = 32
    """Lines or documents scored side by side. No figure depends on it."""
    train_sample_tokens: Count = 60_000
    """Train perplexity is measured on the first whole documents of train that hold this many tokens."""
    adaptive: AdaptiveParams = AdaptiveParams()


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
    published: dict[str, PublishedParams] = Field(default_factory=dict)
    """By name under ``models``; no stage reads it."""
    tune: TuneParams = TuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    probe: ProbeParams = ProbeParams()
    memory: MemoryParams = MemoryParams()
    exploding: ExplodingParams = ExplodingParams()
    window: WindowParams = WindowParams()
    sparsity: SparsityParams = SparsityParams()
    capacity: CapacityParams = CapacityParams()
    throughput: ThroughputParams = ThroughputParams()
    compare: CompareParams = CompareParams()
    tracking: TrackingParams = TrackingParams()

    @model_validator(mode="after")
    def _named_models_exist(self) -> Params:
        for place, names in (("tune.models", self.tune.models), ("published", self.published)):
            if unknown := [name for name in names if name not in self.models]:
                raise ValueError(f"{place} has {', '.join(unknown)}; models: {', '.join(self.models)}")
        return self

    def with_settings(self, model: str, settings: Mapping[str, float]) -> Params:
        """The same with other settings of one model: those that tuning found."""
        changed = self.models[model].model_copy(update=dict(settings))
        return self.model_copy(update={"models": {**self.models, model: changed}})

    def require_model(self, name: str) -> None:
        """Raise ValueError where params.yaml has no model ``name``."""
        if name not in self.models:
            raise ValueError(f"no model {name!r} in params.yaml; models: {', '.join(self.models)}")

    def epochs_of(self, model: str) -> int:
        """Epochs for which ``model`` is trained."""
        return self.models[model].max_epochs or self.train.max_epochs

    def seeds_of(self, model: str) -> tuple[int, ...]:
        """Seeds with which ``model`` is trained."""
        return self.models[model].seeds or self.train.seeds
