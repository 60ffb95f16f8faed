"""The networks that are compared: a plain tanh network, each cure of the lecture notes, and LSTM and GRU.

All have the same hidden size in every layer, but for an LSTM that has the GRU's number of parameters instead. The rules
across layers need two of them, so a plain network of two stands beside those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nextword.config import ModelParams
from nextword.models.sizes import hidden_parameters, nearest_size


@dataclass(frozen=True)
class Variant:
    """A network by the keys of ``models:`` in params.yaml."""

    label: str
    keys: dict[str, Any]
    match: str | None = None
    """The kind to whose number of parameters, at the hidden size of all, its own comes as near as whole sizes allow: at
    these sizes 1% is out of reach."""

    def params(self, input_size: int, hidden_size: int) -> ModelParams:
        """Of its recurrent stack, which reads vectors of ``input_size``."""
        own = ModelParams(embedding_size=input_size, hidden_size=hidden_size, tie_weights=False, **self.keys)
        if self.match is None:
            return own
        wanted = hidden_parameters(own.model_copy(update={"kind": self.match}))
        return own.model_copy(update={"hidden_size": nearest_size(own, wanted)})


VARIANTS: dict[str, Variant] = {
    "tanh": Variant("tanh", {"kind": "rnn"}),
    "relu": Variant("ReLU", {"kind": "rnn_relu"}),
    "identity": Variant("ReLU, identity", {"kind": "rnn_relu", "recurrent_init": "identity"}),
    "residual_time": Variant("residual in time", {"kind": "rnn_residual"}),
    "tanh_2": Variant("tanh, 2 layers", {"kind": "rnn", "num_layers": 2}),
    "residual": Variant("residual, 2 layers", {"kind": "rnn", "num_layers": 2, "connection": "residual"}),
    "highway": Variant("highway, 2 layers", {"kind": "rnn", "num_layers": 2, "connection": "highway"}),
    "lstm": Variant("LSTM", {"kind": "lstm"}),
    "lstm_matched": Variant("LSTM, GRU's parameters", {"kind": "lstm"}, match="gru"),
    "gru": Variant("GRU", {"kind": "gru"}),
    "gru_reset_after": Variant("GRU, resets after", {"kind": "gru_reset_after"}),
}
"""Every variant by its name, the uncured one first."""
