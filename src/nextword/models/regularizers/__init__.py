"""Regularisers of recurrent language models, one a file; all of them rest in evaluation mode."""

from nextword.models.regularizers.activation_penalty import activation_penalty
from nextword.models.regularizers.dropout import Dropout
from nextword.models.regularizers.embedding_dropout import EmbeddingDropout
from nextword.models.regularizers.state_drop import StateDrop
from nextword.models.regularizers.variational_dropout import VariationalDropout, build_dropout
from nextword.models.regularizers.weight_drop import WeightDrop

__all__ = [
    "Dropout",
    "EmbeddingDropout",
    "StateDrop",
    "VariationalDropout",
    "WeightDrop",
    "activation_penalty",
    "build_dropout",
]
