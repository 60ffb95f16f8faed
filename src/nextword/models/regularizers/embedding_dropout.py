"""Dropout of whole word types.

Shapes: T time steps, B batch, E embedding size, V vocabulary size.
"""

from __future__ import annotations

from torch import Tensor, nn

from nextword.models.regularizers.dropout import dropout


class EmbeddingDropout(nn.Module):
    """Looks words up in an embedding some types of which are dropped, wherever they stand in the window.

    ``x = m_w * E(w) / (1 - p)``, ``m_w ~ Bernoulli(1 - p)`` for each type. The embedding matrix itself stays whole, so
    an output layer tied to it is untouched. Source: Gal & Ghahramani (2016), section 4.2; Merity et al. (2018), 4.3.

    Args:
        p: probability with which a type is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, embedding: nn.Embedding, tokens_TB: Tensor) -> Tensor:
        """Embeddings of the words, (T, B, E)."""
        x: Tensor = embedding(tokens_TB)
        if not self.training or self.p == 0.0:
            return x
        mask_V = dropout(x.new_ones(embedding.num_embeddings), self.p)
        return x * mask_V[tokens_TB].unsqueeze(-1)
