"""The memory tasks' generators: well formed, no leak of the answer, chance as computed, solvable."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, chisquare, pearsonr

from nextword.probes.memory.tasks import TASKS, Adding, Batch, Brackets, Copy, TemporalOrder

CLASSES = [name for name, task in TASKS.items() if task.metric == "accuracy"]
LAGS = [2, 3, 5, 8, 21]
MANY = 20_000
ONCE_IN_A_MILLION = 1e-6
"""The tests are of fixed seeds and of thousands of tables, so a smaller p-value is a leak."""


def draw(name: str, lag: int, batch: int, seed: int = 0) -> Batch:
    return TASKS[name].draw(np.random.default_rng(seed), lag, batch)


def symbols(batch: Batch) -> np.ndarray:
    return batch.x_TBI.argmax(-1).numpy()


def lengths(name: str, lag: int) -> int:
    return {"copy": lag + 2 * Copy.LENGTH, "brackets": lag + 2}.get(name, lag)


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("name", TASKS)
def test_shapes_and_types(name: str, lag: int) -> None:
    task, batch = TASKS[name], draw(name, lag, 7)
    answers = Copy.LENGTH if name == "copy" else 1
    assert batch.x_TBI.shape == (lengths(name, lag), 7, task.num_inputs) and batch.x_TBI.dtype == torch.float32
    assert batch.answer_AB.shape == (answers, 7)
    if name in CLASSES:
        assert batch.answer_AB.dtype == torch.int64
        assert int(batch.answer_AB.min()) >= 0 and int(batch.answer_AB.max()) < task.num_outputs
        assert torch.equal(batch.x_TBI.sum(-1), torch.ones(lengths(name, lag), 7))
        assert set(batch.x_TBI.unique().tolist()) == {0.0, 1.0}
    else:
        assert batch.answer_AB.dtype == torch.float32


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_gives_the_same_sequences_and_another_gives_others(name: str) -> None:
    first, again, other = draw(name, 12, 16, 3), draw(name, 12, 16, 3), draw(name, 12, 16, 4)
    assert torch.equal(first.x_TBI, again.x_TBI) and torch.equal(first.answer_AB, again.answer_AB)
    assert not torch.equal(first.x_TBI, other.x_TBI)


# ------------------------------------------------------------------ every answer is there to be found: an oracle


def solve(name: str, x: np.ndarray) -> np.ndarray:
    """The answer from the input alone, by the task's rule."""
    if name == "adding":
        return (x[..., 0] * x[..., 1]).sum(0, keepdims=True)
    seen = x.argmax(-1)
    if name == "copy":
        return seen[: Copy.LENGTH]
    if name == "brackets":
        return seen[:1]
    letters = [column[column < 2] for column in seen.T]
    return np.array([[2 * first + second for first, second in letters]])


@pytest.mark.parametrize("lag", LAGS)
@pytest.mark.parametrize("name", TASKS)
def test_an_oracle_meets_the_criterion(name: str, lag: int) -> None:
    task, batch = TASKS[name], draw(name, lag, 500)
    answer = torch.from_numpy(solve(name, batch.x_TBI.numpy()))
    assert torch.allclose(answer.double(), batch.answer_AB.double(), atol=1e-6)
    output = answer[..., None].float() if name == "adding" else torch.eye(task.num_outputs)[answer]
    assert task.solved(task.measure(output, batch.answer_AB))


def test_criteria() -> None:
    assert TASKS["copy"].solved(0.99) and not TASKS["copy"].solved(0.9899)
    assert TASKS["adding"].solved(0.0099) and not TASKS["adding"].solved(0.01)


# --------------------------------------------------------------------------------------------- chance


@pytest.mark.parametrize("name", TASKS)
def test_chance_is_what_the_best_constant_scores_and_no_constant_scores_more(name: str) -> None:
    task, batch = TASKS[name], draw(name, 20, MANY)
    chance, shape = task.chance(), (*batch.answer_AB.shape, task.num_outputs)
    if name == "adding":
        constants = {value: torch.full(shape, value) for value in (0.8, 1.0, 1.2)}
        errors = {value: float(task.loss(output, batch.answer_AB)) for value, output in constants.items()}
        assert min(errors, key=errors.__getitem__) == 1.0
        assert errors[1.0] == pytest.approx(chance["loss"], rel=0.03)
        assert task.measure(constants[1.0], batch.answer_AB) == errors[1.0]
        return
    assert float(task.loss(torch.zeros(shape), batch.answer_AB)) == pytest.approx(chance["loss"], rel=1e-6)
    for guess in range(task.num_outputs):
        output = torch.eye(task.num_outputs)[guess].expand(shape)
        value = task.measure(output, batch.answer_AB)
        assert value == pytest.approx(chance["metric"], abs=5 * (0.25 / batch.answer_AB.numel()) ** 0.5)
    assert chance["loss"] == pytest.approx(-np.log(chance["metric"]))


@pytest.mark.parametrize("name", CLASSES)
def test_answers_are_uniform(name: str) -> None:
    for answers in draw(name, 15, MANY).answer_AB.numpy():
        assert chisquare(np.bincount(answers, minlength=TASKS[name].num_outputs)).pvalue > ONCE_IN_A_MILLION


# ------------------------------------------------------------------------------------------- no leak


def assert_independent(seen: np.ndarray, answers: np.ndarray) -> None:
    table = np.zeros((seen.max() + 1, answers.max() + 1))
    np.add.at(table, (seen, answers), 1)
    table = table[table.sum(1) > 0]
    if len(table) > 1:
        assert chi2_contingency(table).pvalue > ONCE_IN_A_MILLION


@pytest.mark.parametrize("lag", [5, 8, 21])
def test_copy_shows_letters_nowhere_but_at_the_start(lag: int) -> None:
    batch = draw("copy", lag, MANY)
    after = symbols(batch)[Copy.LENGTH :]
    assert (after == after[:, :1]).all()
    assert after[:, 0].tolist() == [*[Copy.LETTERS] * lag, Copy.LETTERS + 1, *[Copy.LETTERS] * (Copy.LENGTH - 1)]
    first, second = batch.answer_AB.numpy()
    assert_independent(first, second)


@pytest.mark.parametrize("lag", [5, 8, 21])
def test_brackets_say_nothing_of_the_one_to_close(lag: int) -> None:
    batch = draw("brackets", lag, MANY)
    seen, answers = symbols(batch), batch.answer_AB[0].numpy()
    for step in range(1, lag + 1):
        assert_independent(seen[step], answers)
    for step in range(1, lag):
        assert_independent(seen[step] * 10 + seen[step + 1], answers)
    assert (seen[-1] == Brackets.QUESTION).all()
    opened = np.stack([(seen[1:-1] == kind).sum(0) for kind in range(Brackets.KINDS)])
    for count in opened:
        assert_independent(count, answers)


@pytest.mark.parametrize("lag", [0, 1, 2, 7, 12])
def test_distractors_are_balanced_brackets(lag: int) -> None:
    for column in Brackets().balanced(np.random.default_rng(0), lag, 300).T:
        stack: list[int] = []
        for symbol in column[column != Brackets.WORD]:
            if symbol < Brackets.KINDS:
                stack.append(symbol)
            else:
                assert stack.pop() == symbol - Brackets.KINDS
        assert not stack and (column == Brackets.WORD).sum() == lag % 2


def test_every_balanced_shape_is_as_probable() -> None:
    shapes = (Brackets().balanced(np.random.default_rng(0), 8, MANY) < Brackets.KINDS).T
    _, counts = np.unique(shapes, axis=0, return_counts=True)
    assert len(counts) == 14  # the Catalan number of 4 pairs
    assert chisquare(counts).pvalue > ONCE_IN_A_MILLION


@pytest.mark.parametrize("lag", [2, 5, 8, 21, 40])
def test_temporal_order_shows_two_letters_and_nothing_else_depends_on_them(lag: int) -> None:
    batch = draw("temporal_order", lag, MANY)
    seen, answers = symbols(batch), batch.answer_AB[0].numpy()
    assert ((seen < 2).sum(0) == 2).all()
    assert (seen[lag // 2 + 1 :] >= 2).all()
    for row in np.maximum(seen, 1):  # the letters made one: where they stand, and all distractors
        assert_independent(row, answers)
    first, second = answers // 2, answers % 2
    assert_independent(first, second)
    if lag >= 20:
        places = np.array([np.flatnonzero(column < 2) for column in seen.T])
        assert places[:, 0].min() == lag // 10 and places[:, 0].max() == 2 * lag // 10 - 1
        assert places[:, 1].min() == 4 * lag // 10 and places[:, 1].max() == 5 * lag // 10 - 1


@pytest.mark.parametrize("lag", [2, 5, 8, 21])
def test_adding_tells_nothing_by_its_marks_or_its_other_numbers(lag: int) -> None:
    batch = draw("adding", lag, MANY)
    numbers, marks = batch.x_TBI.numpy().transpose(2, 0, 1)
    answers = batch.answer_AB[0].numpy()
    half = lag // 2
    assert set(np.unique(marks)) <= {0.0, 1.0}
    assert (marks[:half].sum(0) == 1).all() and (marks[half:].sum(0) == 1).all()
    assert numbers.min() >= 0 and numbers.max() < 1
    large = (answers > 1.0).astype(np.int64)
    for row in marks.astype(np.int64):
        assert_independent(row, large)
    for row, mark in zip(numbers, marks, strict=True):
        if (other := mark == 0).sum() > 100:
            assert pearsonr(row[other], answers[other]).pvalue > ONCE_IN_A_MILLION


def test_the_leak_test_finds_a_leak() -> None:
    class Leaking(TemporalOrder):
        def draw(self, random: np.random.Generator, lag: int, batch: int) -> Batch:
            fair = super().draw(random, lag, batch)
            told = random.random(batch) < 0.1
            fair.x_TBI[-1, told] = torch.eye(self.num_inputs)[2 + fair.answer_AB[0, told]]
            return fair

    batch = Leaking().draw(np.random.default_rng(0), 8, MANY)
    with pytest.raises(AssertionError):
        assert_independent(symbols(batch)[-1], batch.answer_AB[0].numpy())


def test_adding_is_a_mean_squared_error() -> None:
    output, answer = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[1.5, 2.0]])
    assert Adding().measure(output, answer) == pytest.approx(0.125)
