"""Dropout of the state that a recurrent layer reads."""

from __future__ import annotations

from torch import Tensor, nn

from nextword.models.regularizers.dropout import dropout


class StateDrop(nn.Module):
    """Each gate loses some units of ``h_{t-1}``, the same at all steps of a window.

    ``U_g h`` becomes ``U_g (m_g * h) / (1 - p)``, ``m_g ~ Bernoulli(1 - p)`` by unit, as columns of ``U_g`` that are
    dropped: so one mask serves the whole batch, and every engine. Source: Gal & Ghahramani, A Theoretically Grounded
    Application of Dropout in Recurrent Neural Networks (2016), eq. 7 (untied weights), who draw one for each text of
    the batch.

    Args:
        p: probability with which a unit is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights for a window, by name, of the shapes given: (gates * H, H), vectors left whole."""
        if not self.training or self.p == 0.0:
            return weights
        return {name: self._drop(weight) if weight.dim() == 2 else weight for name, weight in weights.items()}

    def _drop(self, weight: Tensor) -> Tensor:
        size = weight.shape[1]
        by_gate = weight.reshape(-1, size, size)
        mask = dropout(by_gate.new_ones(len(by_gate), 1, size), self.p)
        return (by_gate * mask).reshape(weight.shape)
