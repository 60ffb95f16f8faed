"""How layers are joined: what a layer hands on to the next one, given its own output and what it read.

With ``s^0 = E(w_{t-1})``, layer l computes ``h^l = RNN(s^{l-1})`` and hands on ``s^l``, a rule's joint of ``h^l`` and
``s^{l-1}``; the output layer reads ``s^L``. A rule works with every cell.

Shapes: T time steps, B batch, I what a layer reads, H hidden size, W what it hands on.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Plain(nn.Module):
    """``s^l = h^l``; the base of all rules.

    Args:
        input_size: I.
        hidden_size: H.
    """

    first: ClassVar[int] = 1
    """The first layer (from 1) that the rule joins; what the one below hands on has another width than its output."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.width = hidden_size
        """W."""

    def initialize(self, scale: float) -> None:
        """Draw the weights, where there are any, from U(-scale, scale)."""

    def forward(self, own: Tensor, read: Tensor) -> Tensor:
        """What the layer hands on, (T, B, W), from its output (T, B, H) and what it read (T, B, I)."""
        return own


class Residual(Plain):
    """``s^l = h^l + s^{l-1}`` from layer 2 on (He et al. 2015)."""

    first = 2

    def forward(self, own: Tensor, read: Tensor) -> Tensor:  # noqa: D102
        return own + read


class Highway(Plain):
    """``s^l = T * h^l + (1 - T) * s^{l-1}``, ``T = sigmoid(W_T s^{l-1} + b_T)``, from layer 2 on.

    Source: Srivastava, Greff & Schmidhuber, Highway Networks (2015), eq. 3; ``b_T`` starts at -1, so that a layer first
    carries more than it transforms (section 2.2).
    """

    first = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.weight = nn.Parameter(torch.empty(hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))

    def initialize(self, scale: float) -> None:  # noqa: D102
        nn.init.uniform_(self.weight, -scale, scale)
        nn.init.constant_(self.bias, -1.0)

    def forward(self, own: Tensor, read: Tensor) -> Tensor:  # noqa: D102
        return read + torch.sigmoid(linear(read, self.weight, self.bias)) * (own - read)


class Dense(Plain):
    """``s^l = [s^{l-1}; h^l] = [E; h^1; ...; h^l]``: a layer, and the output layer, reads all below it.

    Source: Huang et al., Densely Connected Convolutional Networks (2017), eq. 2; for recurrent language models Godin et
    al., Improving Language Modeling using Densely Connected Recurrent Neural Networks (2017).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.width = input_size + hidden_size

    def forward(self, own: Tensor, read: Tensor) -> Tensor:  # noqa: D102
        return torch.cat([read, own], dim=-1)


CONNECTIONS: dict[str, type[Plain]] = {"plain": Plain, "residual": Residual, "highway": Highway, "dense": Dense}
"""Every rule by its name in params.yaml."""
