"""The hidden size with which a model has as many parameters as another: what an equal comparison needs."""

from __future__ import annotations

from bisect import bisect_left

import torch

from nextword.config import ModelParams
from nextword.models import build_model

TOLERANCE = 0.01
"""Largest share by which the numbers of parameters may differ."""


def hidden_parameters(params: ModelParams) -> int:
    """Trainable parameters outside embedding and output layer: recurrent layers, and the projection after them."""
    with torch.device("meta"):  # counted, never filled
        model = build_model(params.model_copy(update={"adaptive_softmax": None}), 2, 0)
    return model.num_parameters()["recurrent"] + sum(weight.numel() for weight in model.projection.parameters())


def matched_size(params: ModelParams) -> int:
    """The hidden size with which ``params`` comes nearest to the parameters of what its ``match`` names.

    Raises:
        ValueError: the nearest is further off than 1%, or another hidden size was given beside ``match``.
    """
    assert params.match is not None
    wanted = hidden_parameters(params.model_copy(update=params.match.model_dump()))
    found = nearest_size(params, wanted)
    excess = hidden_parameters(params.model_copy(update={"hidden_size": found})) - wanted
    if abs(excess) > TOLERANCE * wanted:
        raise ValueError(
            f"no hidden size has the {wanted:,} parameters of match {params.match.kind} {params.match.hidden_size} "
            f"within {TOLERANCE:.0%}; the nearest is {found}, with {wanted + excess:,}: match a larger size"
        )
    if "hidden_size" in params.model_fields_set and params.hidden_size != found:
        raise ValueError(f"match gives hidden_size {found}, not {params.hidden_size}; leave hidden_size out")
    return found


def nearest_size(params: ModelParams, wanted: int) -> int:
    """The hidden size with which ``params`` comes nearest to ``wanted`` parameters outside embedding and output layer.

    The smaller one where two are as near.
    """
    embedding = params.embedding_size

    def excess(size: int) -> int:
        return hidden_parameters(params.model_copy(update={"hidden_size": size})) - wanted

    # Above the embedding's size there are c + b (H - E) + a (H - E)^2 parameters: three counts tell all, and below too.
    one, two, three = (excess(embedding + more) for more in (1, 2, 3))
    a = (three - 2 * two + one) // 2
    b = two - one - 3 * a
    c = one - a - b
    high = bisect_left(range(wanted), 0, lo=1, key=lambda size: c + (b + a * (size - embedding)) * (size - embedding))
    # Where what comes out is of the embedding's size nothing need be projected: the count falls, maybe at high - 1.
    sizes = {size: excess(size) for size in (high, high - 1, high - 2, embedding, embedding // 2) if size >= 1}
    return min(sizes, key=lambda size: (abs(sizes[size]), size))
