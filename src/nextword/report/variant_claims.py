"""What the lecture notes say of the LSTM ablations and of the variants of the RNN, and how each is read as a number.

The notes' words are translated from ``reference/lecture-notes-zh.md``: its section on the ablation experiment (results
of Greff et al., LSTM: A Search Space Odyssey, 2015) and those on the variants of the RNN and on vanishing gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nextword.config import ModelParams
from nextword.report.finding import Reading
from nextword.report.tables import Cell


def read_as(reading: Reading, margin: float) -> str:
    """A reading in words; ``margin`` is the share of perplexity up to which two are called comparable."""
    share = f"{100 * margin:g}%"
    return {
        "higher": f"its perplexity is higher by more than {share}",
        "lower": f"its perplexity is lower by more than {share}",
        "equal": f"the perplexities differ by at most {share}",
        "not higher": f"its perplexity is not higher by more than {share}",
        "not lower": f"its perplexity is not lower by more than {share}",
        "much higher": f"its perplexity is higher by more than {share}",
        "slightly higher": f"its perplexity is higher by at most {share}",
    }[reading]


@dataclass(frozen=True)
class Claim:
    """What the notes say of a model; no reading where perplexity cannot show it right or wrong."""

    text: str = ""
    reading: Reading | None = None
    """Of its perplexity against that of the model with which the claim compares it."""


@dataclass(frozen=True)
class Family:
    """A group of models, the one among them that measures the others, and the claims about them."""

    name: str
    """Of the files that are written."""
    title: str
    group: str
    baseline: Callable[[ModelParams], bool]
    """The first model of the group for which this holds measures the others; without one there is no table."""
    short: str | None
    """What the table calls that model; None: its name."""
    traits: Mapping[str, Callable[[ModelParams], Cell]]
    """Columns that say what a model is, by heading."""
    shown: frozenset[str]
    """Keys of params.yaml that the traits show."""
    claim: Callable[[ModelParams], Claim]
    against: Callable[[ModelParams, ModelParams], bool]
    """(own, other): whether the claim about ``own`` is a comparison with ``other``; the first that fits is taken."""
    notes: tuple[str, ...]


# ------------------------------------------------------------------------------------- LSTM ablations

_GATE_LOST = "without any one of the main gates the error rises markedly"
_ACTIVATION_LOST = "performance drops a lot: the activations matter for what the gates can express"

ABLATIONS: dict[str, tuple[str, str, Claim]] = {
    "lstm_peephole": (
        "V", "vanilla: three gates with peepholes", Claim("all gates and activations in place: the lowest error"),
    ),
    "lstm_nig": ("NIG", "no input gate: i = 1", Claim(_GATE_LOST, "much higher")),
    "lstm_nfg": (
        "NFG", "no forget gate: f = 1", Claim(f"{_GATE_LOST}, most of all without the forget gate", "much higher"),
    ),
    "lstm_nog": ("NOG", "no output gate: o = 1", Claim(_GATE_LOST, "much higher")),
    "lstm_niaf": ("NIAF", "no input activation: g is linear", Claim(_ACTIVATION_LOST, "much higher")),
    "lstm_noaf": ("NOAF", "no output activation: h = o * c", Claim(_ACTIVATION_LOST, "much higher")),
    "lstm_cifg": (
        "CIFG", "coupled input and forget gate: i = 1 - f",
        Claim("fewer parameters, slightly worse, but still close to the standard LSTM", "slightly higher"),
    ),
    "lstm": ("NP", "no peepholes", Claim("little effect: peepholes are not a key part", "equal")),
    "lstm_fgr": (
        "FGR", "full gate recurrence: every gate sees all gates of the step before",
        Claim("many more parameters, but no better; may even overfit", "not lower"),
    ),
}  # fmt: skip
"""Variant, what it means and what the notes say of it, by kind."""


def _variant(model: ModelParams) -> Cell:
    name, meaning, _ = ABLATIONS.get(model.kind, (model.kind, "", Claim()))
    return Cell(name, meaning)


ABLATION = Family(
    name="ablation",
    title="LSTM ablations",
    group="ablation",
    baseline=lambda model: model.kind == "lstm_peephole",
    short="V",
    traits={"variant": _variant},
    shown=frozenset({"kind"}),
    claim=lambda model: ABLATIONS[model.kind][2] if model.kind in ABLATIONS else Claim(),
    against=lambda _, other: other.kind == "lstm_peephole",
    notes=(
        "The notes speak of classification error (Greff et al. 2015: speech, handwriting, music); here a language "
        "model's perplexity is measured. They conclude that the forget gate and the output activation matter most.",
    ),
)

# --------------------------------------------------------------------------------------- RNN variants

CELLS: dict[str, tuple[str, str]] = {
    "rnn": ("tanh", ""),
    "rnn_relu": ("ReLU", "ReLU has derivative 0 or 1, so gradients vanish less than with tanh"),
}
"""Activation and what the notes say of it, by kind."""
INITS: dict[str, str] = {
    "identity": "an identity matrix starts with gradients kept near their size, against vanishing over long chains",
}
DEEP = "more layers raise expressive power and abstraction, but vanishing and exploding gradients make training harder"
CONNECTIONS: dict[str, Claim] = {
    "residual": Claim("gives gradients a direct path: deep RNNs train more easily and perform better", "lower"),
    "highway": Claim("like the residual, with a gate between identity and layer: gradients can flow", "lower"),
    "dense": Claim("everything is connected to everything directly: gradients can flow", "lower"),
}


def _rnn_claim(model: ModelParams) -> Claim:
    connection = CONNECTIONS.get(model.connection, Claim())
    deep = DEEP if model.num_layers > 1 and connection.reading is None else ""
    texts = (CELLS.get(model.kind, ("", ""))[1], INITS.get(model.recurrent_init, ""), deep, connection.text)
    return Claim("; ".join(filter(None, texts)), connection.reading)


def _plain_stack(own: ModelParams, other: ModelParams) -> bool:
    same = ("kind", "num_layers", "hidden_size", "recurrent_init")
    return other.connection == "plain" and all(getattr(own, key) == getattr(other, key) for key in same)


RNN_VARIANTS = Family(
    name="rnn_variants",
    title="RNN variants",
    group="rnn",
    baseline=lambda _: True,
    short=None,
    traits={
        "activation": lambda model: Cell(CELLS.get(model.kind, (model.kind, ""))[0]),
        "recurrent init": lambda model: Cell(model.recurrent_init),
        "layers": lambda model: Cell(str(model.num_layers), number=True),
        "connection": lambda model: Cell(model.connection),
    },
    shown=frozenset({"kind", "recurrent_init", "num_layers", "connection"}),
    claim=_rnn_claim,
    against=_plain_stack,
    notes=(
        "What the notes say of activation, initialisation and depth is about gradients and expressive power: test "
        "perplexity does not decide it. That a connection across layers helps to train a deep RNN is read as a lower "
        "test perplexity, after the same training, than the plain stack of the same cell, depth and width.",
    ),
)
