"""Language models. ``MODELS`` maps a ``kind`` of params.yaml to what builds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nextword.models.cells import CELLS
from nextword.models.nnlm import NNLM
from nextword.models.recurrent import RecurrentLM

if TYPE_CHECKING:
    from nextword.config import ModelParams
    from nextword.models.language_model import LanguageModel

MODELS: dict[str, Callable[[ModelParams, int, int], LanguageModel]] = {
    "nnlm": NNLM,
    **{kind: RecurrentLM for kind in CELLS},
}


def check_model(params: ModelParams) -> None:
    """Check what needs knowledge of the models.

    Raises:
        ValueError: unknown kind, a key that the kind has no use for, or an engine that cannot run it.
    """
    from nextword.models.scan import resolve_engine

    if params.kind not in MODELS:
        raise ValueError(f"unknown kind {params.kind!r}; allowed: {', '.join(sorted(MODELS))}")
    if params.kind == "nnlm":
        if params.window is None:
            raise ValueError("kind nnlm needs `window`, the number of preceding words it sees, e.g. window: 4")
        if params.num_layers != 1 or params.engine != "auto":
            raise ValueError("kind nnlm has one hidden layer and no engine; remove `num_layers` and `engine`")
        if params.direct_connections and params.tie_weights:
            raise ValueError("direct_connections widens the output layer, which cannot be tied; set tie_weights: false")
    else:
        if params.window is not None or params.direct_connections:
            raise ValueError(f"kind {params.kind} has no `window` and no `direct_connections`; remove them")
        resolve_engine(CELLS[params.kind], params.engine)
    if params.forget_bias is not None and params.kind != "lstm":
        raise ValueError(f"kind {params.kind} has no forget gate; remove `forget_bias`")


def build_model(params: ModelParams, vocab_size: int, eos_id: int) -> LanguageModel:
    """Build an untrained model; its weights are drawn from torch's global generator.

    Raises:
        ValueError: as :func:`check_model`.
    """
    check_model(params)
    return MODELS[params.kind](params, vocab_size, eos_id)
