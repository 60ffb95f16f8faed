"""The networks that are compared: a plain tanh network, each cure of the lecture notes, and LSTM and GRU.

All have the same hidden size in every layer. The rules across layers need two of them, so a plain network of two stands
beside those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextword.config import ModelParams


@dataclass(frozen=True)
class Variant:
    """A network by the keys of ``models:`` in params.yaml."""

    label: str
    keys: dict[str, Any]

    def params(self, input_size: int, hidden_size: int) -> ModelParams:
        """Of its recurrent stack, which reads vectors of ``input_size``."""
        return ModelParams(embedding_size=input_size, hidden_size=hidden_size, **self.keys)


VARIANTS: dict[str, Variant] = {
    "tanh": Variant("tanh", {"kind": "rnn"}),
    "relu": Variant("ReLU", {"kind": "rnn_relu"}),
    "identity": Variant("ReLU, identity", {"kind": "rnn_relu", "recurrent_init": "identity"}),
    "residual_time": Variant("residual in time", {"kind": "rnn_residual"}),
    "tanh_2": Variant("tanh, 2 layers", {"kind": "rnn", "num_layers": 2}),
    "residual": Variant("residual, 2 layers", {"kind": "rnn", "num_layers": 2, "connection": "residual"}),
    "highway": Variant("highway, 2 layers", {"kind": "rnn", "num_layers": 2, "connection": "highway"}),
    "lstm": Variant("LSTM", {"kind": "lstm"}),
    "gru": Variant("GRU", {"kind": "gru"}),
}
"""Every variant by its name, the uncured one first."""
