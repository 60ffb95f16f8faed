"""Recurrent cells: each class states one cell's equations and nothing else."""

from nextword.models.cells.base import CELLS, Cell, CellState, HCState, HState, tanh
from nextword.models.cells.gru import GRU, GRUResetAfter
from nextword.models.cells.lstm import (
    LSTM,
    CoupledGates,
    FullGateRecurrence,
    NoForgetGate,
    NoInputActivation,
    NoInputGate,
    NoOutputActivation,
    NoOutputGate,
    PeepholeLSTM,
)
from nextword.models.cells.rnn import RNN, ReLURNN, ResidualRNN

__all__ = [
    "CELLS", "GRU", "LSTM", "RNN", "Cell", "CellState", "CoupledGates", "FullGateRecurrence", "GRUResetAfter",
    "HCState", "HState", "NoForgetGate", "NoInputActivation", "NoInputGate", "NoOutputActivation", "NoOutputGate",
    "PeepholeLSTM", "ReLURNN", "ResidualRNN", "tanh",
]  # fmt: skip
