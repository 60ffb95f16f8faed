"""The search: equal draws, fair halving, a kill at any point; settings that are applied; what the report says."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from probe_fixtures import encode

from nextword.config import ModelParams, Params, ScheduleParams, TrainParams, TuneParams
from nextword.evaluation.neural import score_split
from nextword.models import build_model
from nextword.report.tables import finite
from nextword.text.ids import load_ids
from nextword.training.brief import train_briefly
from nextword.training.placement import Devices
from nextword.tuning import search
from nextword.tuning.outcome import describe, figures, rows
from nextword.tuning.search import close_study, draws, fingerprint, rungs_of, tune_model
from nextword.tuning.trial import Outcome, run_trial

ROOT = Path(__file__).resolve().parents[2]
TRAIN = TrainParams(batch_size=4, bptt=8, precision="float32", schedule=ScheduleParams(warmup=0.25))
SIZE = {"embedding_size": 8, "hidden_size": 8}
PARAMS = Params(
    train=TRAIN,
    models={
        "lstm": ModelParams(kind="lstm", **SIZE),
        "gru": ModelParams(kind="gru", dropout=0.3, **SIZE),
        "rnn": ModelParams(kind="rnn", **SIZE),
    },
    tune=TuneParams(models=("lstm", "gru"), trials=9, tokens=320, halvings=2, seed=5),
)
KEPT = (9, 4, 2)
"""Trials at each rung."""


def with_tune(**changes: Any) -> Params:
    return PARAMS.model_copy(update={"tune": PARAMS.tune.model_copy(update=changes)})


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    texts = {
        split: [" ".join(f"w{word}" for word in rng.integers(6, size=120)) for _ in range(documents)]
        for split, documents in (("train", 6), ("valid", 3), ("test", 1))
    }
    return encode(tmp_path_factory.mktemp("tuning"), **texts).folder


class Fake:
    """Stands for a training; the value depends on settings and steps alone, and the ranking turns with the steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[float, int]] = []
        self.kill_at: int | None = None
        self.lost: set[float] = set()
        monkeypatch.setattr(search, "run_trial", self)
        monkeypatch.setattr(search, "find_devices", lambda *_: Devices("cpu", (0,), 1))

    def __call__(
        self, ids: Path, model: ModelParams, train: TrainParams, steps: int, seed: int, device: str
    ) -> Outcome:
        if len(self.calls) == self.kill_at:
            self.kill_at = None
            raise KeyboardInterrupt
        self.calls.append((model.dropout, steps))
        return Outcome(self.value(model.learning_rate, model.dropout, steps), 0.5)

    def value(self, learning_rate: float, dropout: float, steps: int) -> float:
        if dropout in self.lost:
            return math.inf
        return 5.0 + abs(math.log(learning_rate / 0.01)) + math.sin(37 * dropout * steps) - 0.1 * math.log(steps)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch)


# ----------------------------------------------------------------------------------------------- the search


def test_draws_are_within_the_ranges_and_the_first_are_those_of_a_smaller_search() -> None:
    found = draws(with_tune(trials=500).tune)
    rates = np.log([draw["learning_rate"] for draw in found])
    dropouts = np.array([draw["dropout"] for draw in found])
    low, high = np.log(PARAMS.tune.learning_rate)
    assert low <= rates.min() and rates.max() <= high and dropouts.min() >= 0 and dropouts.max() <= 0.4
    # log-uniform and uniform: means within four standard errors
    assert abs(rates.mean() - (low + high) / 2) < 4 * (high - low) / math.sqrt(12 * 500)
    assert abs(dropouts.mean() - 0.2) < 4 * 0.4 / math.sqrt(12 * 500)
    assert abs(np.corrcoef(rates, dropouts)[0, 1]) < 4 / math.sqrt(500)
    assert draws(PARAMS.tune) == found[:9]
    assert draws(with_tune(seed=6).tune) != found[:9]


def test_the_better_half_goes_on_from_the_start_with_twice_the_tokens(ids: Path, tmp_path: Path, fake: Fake) -> None:
    done: list[tuple[int, int]] = []
    report = tune_model(PARAMS, "gru", ids, tmp_path, lambda *count: done.append(count))
    assert done[-1] == (sum(KEPT), sum(KEPT)) and [d for d, _ in done] == sorted(d for d, _ in done)
    assert report["budget"] == {
        "trials": 9, "halvings": 2, "tokens_by_rung": [320, 640, 1280], "tokens_in_all": 9 * 320 + 4 * 640 + 2 * 1280,
    }  # fmt: skip
    assert [steps for _, steps in fake.calls] == [10] * 9 + [20] * 4 + [40] * 2  # windows of 4 x 8 tokens
    trials = report["trials"]
    assert [{key: trial[key] for key in ("learning_rate", "dropout")} for trial in trials] == draws(PARAMS.tune)
    for trial in trials:
        for rung in trial["rungs"]:
            assert rung["valid_nats"] == fake.value(trial["learning_rate"], trial["dropout"], rung["tokens"] // 32)
    for rung, (before, after) in enumerate(pairwise(KEPT)):
        there = sorted((trial for trial in trials if len(trial["rungs"]) > rung), key=lambda t: value_at(t, rung))
        assert len(there) == before
        assert {trial["number"] for trial in trials if len(trial["rungs"]) > rung + 1} == {
            trial["number"] for trial in there[:after]
        }
    best = min((trial for trial in trials if len(trial["rungs"]) == 3), key=lambda trial: value_at(trial, 2))
    assert report["settings"] == {key: best[key] for key in ("learning_rate", "dropout")}
    assert report["seconds"] == 0.5 * sum(KEPT)


def value_at(trial: dict[str, Any], rung: int) -> float:
    return float(trial["rungs"][rung]["valid_nats"])


def test_every_model_gets_the_same_trials_and_the_study_says_who_was_pruned(
    ids: Path, tmp_path: Path, fake: Fake
) -> None:
    other, report = (tune_model(PARAMS, name, ids, tmp_path) for name in ("lstm", "gru"))
    assert other["trials"] == report["trials"] and other["budget"] == report["budget"]
    with opened(tmp_path) as study:
        states = [trial.state.name for trial in study.get_trials()]
        assert states == ["COMPLETE" if len(trial["rungs"]) == 3 else "PRUNED" for trial in report["trials"]]
        assert study.best_params == report["settings"]


def opened(folder: Path) -> Any:
    return search._opened(PARAMS, "gru", CORPUS[0], Devices("cpu", (0,), 1), folder)


CORPUS: list[Any] = []


@pytest.fixture(autouse=True)
def _corpus(ids: Path) -> None:
    CORPUS[:] = [load_ids(ids)]


def test_a_search_that_was_killed_again_and_again_goes_on(ids: Path, tmp_path: Path, fake: Fake) -> None:
    whole = tune_model(PARAMS, "gru", ids, tmp_path / "whole")
    fake.calls.clear()
    for kill_at in (0, 1, 8, 9, 12, 13, 14):
        fake.kill_at = kill_at
        with pytest.raises(KeyboardInterrupt):
            tune_model(PARAMS, "gru", ids, tmp_path / "killed")
        assert len(fake.calls) == kill_at
    assert tune_model(PARAMS, "gru", ids, tmp_path / "killed") == whole
    assert len(fake.calls) == sum(KEPT), "a training that had ended was done again"


def test_a_kill_while_trials_are_begun_loses_none(
    ids: Path, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "draws", lambda tune: draws(tune)[:4])
    with opened(tmp_path) as study:
        assert len(study.get_trials()) == 4
    monkeypatch.undo()
    with opened(tmp_path) as study:
        assert [trial.params for trial in study.get_trials()] == draws(PARAMS.tune)


def test_a_search_that_ended_is_taken_up_until_it_is_reported(ids: Path, tmp_path: Path, fake: Fake) -> None:
    report = tune_model(PARAMS, "gru", ids, tmp_path)
    assert tune_model(PARAMS, "gru", ids, tmp_path) == report and len(fake.calls) == sum(KEPT)
    close_study(PARAMS, "gru", ids, tmp_path)
    storage = f"sqlite:///{tmp_path}/gru.db"
    assert optuna.study.get_all_study_names(storage)  # it stays for reading
    assert tune_model(PARAMS, "gru", ids, tmp_path) == report and len(fake.calls) == 2 * sum(KEPT)


def test_another_search_does_not_take_up_the_old_one(ids: Path, tmp_path: Path, fake: Fake) -> None:
    tune_model(PARAMS, "gru", ids, tmp_path)
    tune_model(with_tune(tokens=640), "gru", ids, tmp_path)
    assert len(fake.calls) == 2 * sum(KEPT)
    tune_model(PARAMS, "gru", ids, tmp_path)  # and the old one is gone
    assert len(fake.calls) == 3 * sum(KEPT)


def test_the_fingerprint_holds_what_matters_and_no_more(ids: Path) -> None:
    corpus = load_ids(ids)

    def of(model: dict[str, Any] | None = None, train: dict[str, Any] | None = None, **tune: Any) -> str:
        models = PARAMS.models | {"gru": PARAMS.models["gru"].model_copy(update=model or {})}
        changed = with_tune(**tune).model_copy(update={"models": models, "train": TRAIN.model_copy(update=train or {})})
        return fingerprint(changed, "gru", corpus, "cpu")

    plain = of()
    for same in (
        of({"learning_rate": 0.5, "dropout": 0.1, "seeds": (7,), "group": "other", "max_epochs": 9}),
        of(train={"seeds": (4,), "max_parallel_runs": 3, "max_epochs": 2}),
        of(models=("gru",)),
    ):
        assert same == plain
    others = [of({"hidden_size": 9}), of(train={"bptt": 9}), of(trials=10), of(seed=6), of(dropout=(0.0, 0.5))]
    assert len({plain, *others}) == 6


def test_a_setting_that_diverges_is_the_worst_and_never_a_nan(ids: Path, tmp_path: Path, fake: Fake) -> None:
    fake.lost = {draw["dropout"] for draw in draws(PARAMS.tune)[:8]}
    report = finite(tune_model(PARAMS, "gru", ids, tmp_path))
    json.dumps(report, allow_nan=False)
    assert report["settings"] == draws(PARAMS.tune)[8]
    assert [trial["rungs"][0]["valid_nats"] is None for trial in report["trials"]] == [True] * 8 + [False]
    assert figures(report)["diverged_trainings"] == 8 + 3 + 1
    assert f"valid perplexity {math.exp(value_at(report['trials'][8], 2)):.1f}" in describe(report)


def test_where_all_diverge_nothing_is_set(ids: Path, tmp_path: Path, fake: Fake) -> None:
    fake.lost = {draw["dropout"] for draw in draws(PARAMS.tune)}
    report = finite(tune_model(PARAMS, "gru", ids, tmp_path))
    assert report["settings"] == {} and "best_valid_nats" not in figures(report)
    assert describe(report) == "every setting of gru diverged: it keeps its own"
    assert all(row["valid_perplexity"] is None for row in rows(report)) and len(rows(report)) == sum(KEPT)


def test_too_few_tokens() -> None:
    with pytest.raises(ValueError, match=r"tune\.tokens is 31 and one update takes 4 x 8 = 32; raise tune\.tokens"):
        rungs_of(with_tune(tokens=31).tune, TRAIN)
    assert rungs_of(with_tune(tokens=32).tune, TRAIN) == (32, 64, 128)


def test_one_training(ids: Path) -> None:
    model = PARAMS.models["lstm"].model_copy(update={"learning_rate": 0.02, "dropout": 0.2})
    outcome = run_trial(ids, model, TRAIN, 30, 3, "cpu")  # past the end of train, which has 22 windows
    corpus = load_ids(ids)
    torch.manual_seed(3)
    network = build_model(model, corpus.vocab_size, corpus.eos_id)
    text = corpus["train"]
    train_briefly(network, text.ids, TRAIN, 0.02, 30, starts=text.document_starts)
    nats, _ = score_split(network.eval(), corpus["valid"], "stateful", 2)
    assert outcome.valid_nats == pytest.approx(nats.astype(float).mean(), rel=1e-6)
    lost = run_trial(ids, model.model_copy(update={"learning_rate": 1e38}), TRAIN, 30, 3, "cpu")
    assert lost.valid_nats == math.inf and lost.seconds > 0


def test_the_number_of_processes_changes_nothing(ids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = with_tune(trials=4, halvings=1)
    found = []
    for workers in (1, 2):
        monkeypatch.setattr(search, "find_devices", lambda *_, n=workers: Devices("cpu", tuple(range(n)), n))
        found.append(tune_model(params, "gru", ids, tmp_path / str(workers)))
        assert found[-1].pop("seconds") > 0
    assert found[0] == found[1]
    assert len({rung["valid_nats"] for trial in found[0]["trials"] for rung in trial["rungs"]}) == 6
