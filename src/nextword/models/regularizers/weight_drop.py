"""Dropout of recurrent weights."""

from __future__ import annotations

from torch import Tensor, nn

from nextword.models.regularizers.dropout import dropout


class WeightDrop(nn.Module):
    """DropConnect on the recurrent matrices of a cell, one mask for a window.

    ``W = M * W / (1 - p)``, ``M ~ Bernoulli(1 - p)``; vectors (biases, peepholes) stay whole. Source: Merity, Keskar &
    Socher, Regularizing and Optimizing LSTM Language Models (2018), section 2; Wan et al. (2013).

    Args:
        p: probability with which a weight is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights for a window, by name, of the shapes given."""
        return {name: dropout(w, self.p, self.training) if w.dim() == 2 else w for name, w in weights.items()}
