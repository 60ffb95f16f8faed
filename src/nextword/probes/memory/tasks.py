"""Tasks that are solved by remembering: what is asked at the end was shown many steps before, and nowhere else.

A batch is drawn anew at each step of the training, so there is nothing to overfit. The lag has the unit of the papers:
blank steps for ``copy``, steps between the brackets for ``brackets``, the length of the sequence for ``adding`` and
``temporal_order``, where what must be remembered lies in its first half or is spread over it.

Shapes: T time steps, B sequences, I input size, A answers of a sequence (read from its last A steps), C outputs.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

Integers = NDArray[np.int64]
Metric = Literal["accuracy", "mean_squared_error"]


class Batch(NamedTuple):
    """Sequences and what is asked at their ends."""

    x_TBI: Tensor
    """float32: symbols as unit vectors, numbers as themselves."""
    answer_AB: Tensor
    """Classes (int64) or numbers (float32), one for each of the last A steps."""


class Task:
    """A generator of sequences with its criterion.

    The base is a classification of each answer: the loss is the cross-entropy in nats, solved is 99% right.
    """

    num_inputs: ClassVar[int]
    """I."""
    num_outputs: ClassVar[int]
    """C."""
    metric: ClassVar[Metric] = "accuracy"
    criterion: ClassVar[float] = 0.99
    """At least this accuracy, or less than this mean squared error, on fresh sequences."""

    def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:
        """``batch`` sequences at a lag of ``lag`` >= 2 steps."""
        raise NotImplementedError

    def loss(self, output_ABC: Tensor, answer_AB: Tensor) -> Tensor:
        """What is differentiated, a scalar."""
        return cross_entropy(output_ABC.flatten(0, 1), answer_AB.flatten())

    def measure(self, output_ABC: Tensor, answer_AB: Tensor) -> float:
        """The metric."""
        return float((output_ABC.argmax(-1) == answer_AB).double().mean())

    def solved(self, value: float) -> bool:
        """Whether a value of the metric meets the criterion."""
        return value >= self.criterion

    def chance(self) -> dict[str, float]:
        """Loss and metric of the best answer without any memory of the sequence."""
        return {"loss": math.log(self.num_outputs), "metric": 1.0 / self.num_outputs}


class Copy(Task):
    """Repeat ``LENGTH`` letters after ``lag`` blanks, from a cue on.

    Input: letters, ``lag`` blanks, the cue, ``LENGTH - 1`` blanks. The letters are independent and uniform, so an
    answer depends on one letter alone, ``LENGTH + lag`` steps before it.

    Source: Hochreiter & Schmidhuber, Long Short-Term Memory (1997), experiment 2 (one symbol); with several as in
    Arjovsky, Shah & Bengio, Unitary Evolution Recurrent Neural Networks (2016), section 4.1 (ten of eight letters),
    where the loss is on the letters alone here.
    """

    LETTERS, LENGTH = 2, 2
    num_inputs = LETTERS + 2
    num_outputs = LETTERS

    def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:  # noqa: D102
        letters = random.integers(self.LETTERS, size=(self.LENGTH, batch))
        symbols = np.full((2 * self.LENGTH + lag, batch), self.LETTERS)
        symbols[: self.LENGTH] = letters
        symbols[self.LENGTH + lag] = self.LETTERS + 1
        return Batch(one_hot(symbols, self.num_inputs), torch.from_numpy(letters))


class Adding(Task):
    """Add the two marked ones among ``lag`` numbers.

    Input: at each step a number from U[0, 1] and a mark, which is 1 at one step of each half and 0 elsewhere. Answer:
    the sum, a mean of 1 and a variance of 2/12; so the constant 1 has a mean squared error of 1/6.

    Source: Hochreiter & Schmidhuber (1997), experiment 4; in this form Le, Jaitly & Hinton, A Simple Way to Initialize
    Recurrent Networks of Rectified Linear Units (2015), section 4.1, and Arjovsky et al. (2016), section 4.2.
    """

    num_inputs = 2
    num_outputs = 1
    metric = "mean_squared_error"
    criterion = 0.01

    def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:  # noqa: D102
        numbers = random.random((lag, batch), dtype=np.float32)
        marks, column = np.zeros_like(numbers), np.arange(batch)
        marks[random.integers(lag // 2, size=batch), column] = 1.0
        marks[random.integers(lag // 2, lag, size=batch), column] = 1.0
        total = (numbers * marks).sum(0, keepdims=True)
        return Batch(torch.from_numpy(np.stack([numbers, marks], -1)), torch.from_numpy(total))

    def loss(self, output_ABC: Tensor, answer_AB: Tensor) -> Tensor:  # noqa: D102
        return mse_loss(output_ABC.squeeze(-1), answer_AB)

    def measure(self, output_ABC: Tensor, answer_AB: Tensor) -> float:  # noqa: D102
        return float(self.loss(output_ABC, answer_AB))

    def solved(self, value: float) -> bool:  # noqa: D102
        return value < self.criterion

    def chance(self) -> dict[str, float]:  # noqa: D102
        return {"loss": 1 / 6, "metric": 1 / 6}


class TemporalOrder(Task):
    """Tell which of two letters came first and which second: AA, AB, BA or BB.

    Input: ``lag`` symbols, one letter at a step from the second tenth, one at a step from the fifth, distractors from
    four other letters elsewhere. In sequences of fewer than 20 steps a tenth is one step or none and counts as one.

    Source: Hochreiter & Schmidhuber (1997), experiment 6a; places as in Pascanu, Mikolov & Bengio, On the difficulty of
    training recurrent neural networks (2013), section 4.1.
    """

    DISTRACTORS = 4
    num_inputs = 2 + DISTRACTORS
    num_outputs = 4

    def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:  # noqa: D102
        symbols = random.integers(2, self.num_inputs, size=(lag, batch))
        letters, column = random.integers(2, size=(2, batch)), np.arange(batch)
        for number, (letter, tenth) in enumerate(zip(letters, (1, 4), strict=True)):
            start = max(number, tenth * lag // 10)
            symbols[random.integers(start, max(start + 1, (tenth + 1) * lag // 10), size=batch), column] = letter
        return Batch(one_hot(symbols, self.num_inputs), torch.from_numpy(2 * letters[:1] + letters[1:]))


class Brackets(Task):
    """Close the bracket that was opened ``lag`` steps before, over a balanced text of other brackets.

    Input: an opening bracket of one of ``KINDS`` kinds, ``lag`` distractors, the question. Answer: the kind that
    closes. The distractors are a random balanced string of brackets of all kinds, every shape of it equally probable
    (cycle lemma: Dvoretzky & Motzkin 1947) and every pair of any kind; where the lag is odd, one of them is a word.
    It is the subject-verb agreement over nested clauses of Linzen, Dupoux & Goldberg, Assessing the Ability of LSTMs to
    Learn Syntax-Sensitive Dependencies (2016), in the form of a Dyck language.
    """

    KINDS = 4
    WORD, QUESTION = 2 * KINDS, 2 * KINDS + 1
    num_inputs = 2 * KINDS + 2
    num_outputs = KINDS

    def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:  # noqa: D102
        kinds = random.integers(self.KINDS, size=batch)
        parts = [kinds[None], self.balanced(random, lag, batch), np.full((1, batch), self.QUESTION)]
        return Batch(one_hot(np.concatenate(parts), self.num_inputs), torch.from_numpy(kinds[None]))

    def balanced(self, random: np.random.Generator, length: int, batch: int) -> Integers:
        """Balanced strings, (length, batch): kind k opens as k and closes as ``KINDS + k``."""
        pairs, column = length // 2, np.arange(batch)
        # of the rotations of n + 1 steps down and n up just one stays at or above 0 until its last step, a step down
        steps = random.permuted(np.tile(np.repeat([1, -1], [pairs, pairs + 1])[:, None], batch), axis=0)
        first = steps.cumsum(0).argmin(0) + 1
        steps = steps[(np.arange(2 * pairs)[:, None] + first) % (2 * pairs + 1), column]
        # the brackets of one depth, in order of time, are pair after pair
        order = np.argsort(steps.cumsum(0) + (steps < 0), axis=0, kind="stable")
        symbols = np.empty((2 * pairs, batch), np.int64)
        symbols[order, column] = np.repeat(random.integers(self.KINDS, size=(pairs, batch)), 2, axis=0)
        symbols += self.KINDS * (steps < 0)
        if length % 2 == 0:
            return symbols
        place = random.integers(length, size=batch)
        step = np.arange(length)[:, None]
        earlier = np.concatenate([symbols, symbols[:1] if pairs else np.zeros((1, batch), np.int64)])
        return np.where(step == place, self.WORD, earlier[step - (step > place), column])


TASKS: dict[str, Task] = {
    "copy": Copy(),
    "adding": Adding(),
    "temporal_order": TemporalOrder(),
    "brackets": Brackets(),
}
"""Every task by its name in params.yaml."""


def one_hot(symbols_TB: Integers, size: int) -> Tensor:
    """Symbols as unit vectors, (T, B, size)."""
    return torch.from_numpy(np.eye(size, dtype=np.float32)[symbols_TB])
