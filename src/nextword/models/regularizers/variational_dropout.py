"""Dropout with one mask for all time steps.

Shapes: T time steps, B batch, W width.
"""

from __future__ import annotations

from torch import Tensor, nn

from nextword.models.regularizers.dropout import Dropout, dropout


class VariationalDropout(nn.Module):
    """Dropout whose mask is drawn for a column of a window and holds at each of its steps.

    ``y_t = m * x_t / (1 - p)``, ``m ~ Bernoulli(1 - p)``. Source: Gal & Ghahramani, A Theoretically Grounded
    Application of Dropout in Recurrent Neural Networks (2016), section 4.

    Args:
        p: probability of zero.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x_TBW: Tensor) -> Tensor:
        """The input with the same units dropped at all time steps, (T, B, W)."""
        if not self.training or self.p == 0.0:
            return x_TBW
        return x_TBW * dropout(x_TBW.new_ones(x_TBW.shape[1:]), self.p)


def build_dropout(p: float, variational: bool) -> nn.Module:
    """Dropout with a mask a window, or a mask a time step."""
    return VariationalDropout(p) if variational else Dropout(p)
