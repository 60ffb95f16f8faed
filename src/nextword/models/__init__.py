"""Language models. ``MODELS`` maps a ``kind`` of params.yaml to what builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nextword.models.bidirectional import BidirectionalLM
from nextword.models.cells import CELLS
from nextword.models.nnlm import NNLM
from nextword.models.recurrent import RecurrentLM
from nextword.models.scan import resolve_engine

if TYPE_CHECKING:
    from nextword.config import ModelParams
    from nextword.models.language_model import LanguageModel

MODELS: dict[str, Callable[[ModelParams, int, int], LanguageModel]] = {
    "nnlm": NNLM,
    **{kind: RecurrentLM for kind in CELLS},
}


_NNLM_ONLY = ("window", "direct_connections")
_RECURRENT_ONLY = (
    "num_layers", "last_hidden_size", "engine", "connection", "bidirectional", "dropout_hidden", "weight_drop",
    "dropout_recurrent", "variational", "activation_penalty", "temporal_penalty", "recurrent_init", "recurrent_scale",
    "forget_bias", "checkpoint_steps",
)  # fmt: skip


def check_model(params: ModelParams) -> None:
    """Check what needs knowledge of the models.

    Raises:
        ValueError: unknown kind, a key that the kind has no use for, or an engine that cannot run it.
    """
    if params.kind not in MODELS:
        raise ValueError(f"unknown kind {params.kind!r}; allowed: {', '.join(sorted(MODELS))}")
    useless = [
        key
        for key in (_RECURRENT_ONLY if params.kind == "nnlm" else _NNLM_ONLY)
        if getattr(params, key) != type(params).model_fields[key].default
    ]
    if useless:
        keys = " and no ".join(f"`{key}`" for key in useless)
        raise ValueError(f"kind {params.kind} has no {keys}; leave that out")
    _check_output(params)
    if params.kind == "nnlm":
        _check_nnlm(params)
    else:
        _check_recurrent(params)


def _check_output(params: ModelParams) -> None:
    cutoffs = params.adaptive_softmax
    if cutoffs is None:
        return
    if list(cutoffs) != sorted(set(cutoffs)):
        raise ValueError(f"adaptive_softmax {list(cutoffs)} must rise, e.g. [2000, 20000]")
    if params.tie_weights:
        raise ValueError(
            "adaptive_softmax has narrower vectors for rare words than the embedding, which cannot be tied to it; "
            "set tie_weights: false"
        )


def _check_nnlm(params: ModelParams) -> None:
    if params.window is None:
        raise ValueError("kind nnlm needs `window`, the number of preceding words it sees, e.g. window: 4")
    if params.direct_connections and params.tie_weights:
        raise ValueError("direct_connections widens the output layer, which cannot be tied; set tie_weights: false")


def _check_recurrent(params: ModelParams) -> None:
    cell = CELLS[params.kind]
    resolve_engine(cell, params.engine)
    if params.engine == "graph" and params.checkpoint_steps is not None:
        raise ValueError("engine graph records whole windows, so none is computed again; remove checkpoint_steps")
    if params.num_layers == 1 and params.connection != "plain":
        raise ValueError(
            f"connection {params.connection} joins layers, and there is one; set num_layers to 2 or more, "
            "or remove `connection`"
        )
    if params.num_layers == 1 and params.dropout_hidden is not None:
        raise ValueError("dropout_hidden falls between layers, and there is one; remove it, or set dropout_output")
    if params.last_hidden_size is not None and (params.num_layers == 1 or params.connection != "plain" or params.match):
        raise ValueError(
            "last_hidden_size is for two layers or more with connection plain and without match; remove it, "
            "or set hidden_size"
        )
    if params.recurrent_scale is not None and params.recurrent_init == "uniform":
        raise ValueError(
            "recurrent_scale is the factor of an orthogonal or identity matrix; set recurrent_init to one of them, "
            "or set init_scale"
        )
    if params.forget_bias is not None and "f" not in cell.gates:
        raise ValueError(f"kind {params.kind} has no forget gate; remove `forget_bias`")


def build_model(params: ModelParams, vocab_size: int, eos_id: int) -> LanguageModel:
    """Build an untrained model; its weights are drawn from torch's global generator.

    Raises:
        ValueError: as :func:`check_model`, or the vocabulary ends before a cutoff of ``adaptive_softmax``.
    """
    check_model(params)
    if params.adaptive_softmax is not None and params.adaptive_softmax[-1] >= vocab_size:
        raise ValueError(
            f"adaptive_softmax {list(params.adaptive_softmax)}: the vocabulary has {vocab_size} types; take cutoffs "
            "below that, or leave adaptive_softmax out"
        )
    build = BidirectionalLM if params.bidirectional else MODELS[params.kind]
    return build(params, vocab_size, eos_id)
