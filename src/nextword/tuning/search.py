"""A random search by synchronous successive halving, kept in an Optuna study.

The study's database is the whole state of a search: a trial's values by rung are its intermediate values, written as
each training ends, so a search that was killed at any point goes on and ends as if it had not been.

The draws come before any result, by Optuna's RandomSampler from one seed: they are the same for every model, and the
values of the first rung are independent draws of one distribution, which the estimators of Dodge et al. (2019) and Tang
et al. (2020) need (a sampler that learns from results would break both). Halving is Jamieson & Talwalkar (2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from nextword.config import ModelParams, Params, TrainParams, TuneParams
from nextword.config.conditions import of_search
from nextword.files import digest
from nextword.pool import Pool
from nextword.stage import Progress
from nextword.text.ids import EncodedCorpus, load_ids
from nextword.training.placement import Devices, find_devices
from nextword.tuning.trial import Outcome, run_trial

_REPORTED = "reported"
_SECONDS = "seconds at {tokens} tokens"


def tune_model(params: Params, model: str, ids: Path, work: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Search learning rate and dropout of one model, as :class:`~nextword.config.TuneParams` says.

    A search that was interrupted goes on; one whose report was written (:func:`close_study`) begins anew.

    Args:
        params: the whole tree.
        model: key under ``models:``.
        ids: folder that ``encode`` wrote.
        work: receives ``MODEL.db``, an Optuna study in SQLite.
        progress: called with trainings done and in all.

    Returns:
        the report of the model (reports/tune/NAME.json): ``settings`` with the lowest nats of valid at the last rung,
        empty where every trial diverged; ``budget``; ``trials`` with ``valid_nats`` by rung, infinite for a
        training that diverged; ``seconds`` of training, over all trials.

    Raises:
        ValueError: no such model, ids missing, or fewer tokens than one update takes.
    """
    params.require_model(model)
    corpus, devices = load_ids(ids), find_devices(params.train.accelerator, params.train.precision)
    rungs = rungs_of(params.tune, params.train)
    workers = min(devices.num_devices, params.train.max_parallel_runs or devices.num_devices)
    with _opened(params, model, corpus, devices, work) as study, Pool(workers) as pool:
        search = _Search(study, params, model, ids, devices, progress)
        going = study.get_trials(deepcopy=False)
        for rung, tokens in enumerate(rungs):
            trials = search.train(going, tokens, pool)
            last = rung == len(rungs) - 1
            kept = len(trials) if last else params.tune.trials // 2 ** (rung + 1)
            ranked = sorted(trials, key=lambda trial: (trial.intermediate_values[tokens], trial.number))
            for trial in ranked[kept:]:
                study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            going = ranked[:kept]
        for trial in going:
            study.tell(trial.number, trial.intermediate_values[rungs[-1]], skip_if_finished=True)
        return _report(model, params.tune, rungs, study.get_trials(deepcopy=False), going[0])


def close_study(params: Params, model: str, ids: Path, work: Path) -> None:
    """Mark the study as reported: it stays for reading, and the next search begins anew."""
    with _opened(params, model, load_ids(ids), find_devices(params.train.accelerator), work) as study:
        study.set_user_attr(_REPORTED, True)


def rungs_of(tune: TuneParams, train: TrainParams) -> tuple[int, ...]:
    """Tokens on which a trial is trained at each rung.

    Raises:
        ValueError: fewer tokens than one update takes.
    """
    if tune.tokens < (window := train.batch_size * train.bptt):
        raise ValueError(
            f"tune.tokens is {tune.tokens:,} and one update takes {train.batch_size} x {train.bptt} = {window:,}; "
            "raise tune.tokens"
        )
    return tuple(tune.tokens * 2**rung for rung in range(tune.halvings + 1))


def draws(tune: TuneParams) -> list[dict[str, float]]:
    """Settings of all trials, the same for every model."""
    spaces = _spaces(tune)
    study = optuna.create_study(sampler=RandomSampler(tune.seed))
    return [study.ask(spaces).params for _ in range(tune.trials)]


def fingerprint(params: Params, model: str, corpus: EncodedCorpus, accelerator: str) -> str:
    """SHA-256 of everything that a result of the search depends on."""
    return digest([
        of_search(params, model), accelerator, corpus.tokenizer_sha256, corpus["train"].sha256, corpus["valid"].sha256,
    ])  # fmt: skip


class _Search:
    def __init__(
        self, study: optuna.Study, params: Params, model: str, ids: Path, devices: Devices, progress: Progress | None
    ) -> None:
        self.study, self.ids, self.devices, self.progress = study, ids, devices, progress
        self.model: ModelParams = params.models[model]
        self.train_params, self.tune = params.train, params.tune
        self.done, self.of = 0, sum(params.tune.trials // 2**rung for rung in range(params.tune.halvings + 1))

    def train(self, trials: Sequence[FrozenTrial], tokens: int, pool: Pool) -> list[FrozenTrial]:
        """The trials with their values at this rung; those that have them are not trained again."""
        waiting = [trial for trial in trials if tokens not in trial.intermediate_values]
        self._count(len(trials) - len(waiting))
        steps = tokens // (self.train_params.batch_size * self.train_params.bptt)
        jobs = [
            (self.ids, self.model.model_copy(update=trial.params), self.train_params, steps, self.tune.seed,
             self._device(place))
            for place, trial in enumerate(waiting)
        ]  # fmt: skip

        def keep(number: int, outcome: Outcome) -> None:
            trial = Trial(self.study, waiting[number]._trial_id)
            trial.set_user_attr(_SECONDS.format(tokens=tokens), outcome.seconds)
            trial.report(outcome.valid_nats, tokens)
            self._count(1)

        pool.run(run_trial, jobs, keep)
        numbers = {trial.number for trial in trials}
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.number in numbers]

    def _device(self, place: int) -> str:
        return "cpu" if self.devices.accelerator == "cpu" else f"cuda:{place % self.devices.num_devices}"

    def _count(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(self.done, self.of)


@contextmanager
def _opened(params: Params, model: str, corpus: EncodedCorpus, devices: Devices, work: Path) -> Iterator[optuna.Study]:
    """The study of this search, all its trials begun; earlier ones of the model that were reported are removed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # ours is a bar
    work.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{work / model}.db")
    try:
        name = fingerprint(params, model, corpus, devices.accelerator)
        for found in optuna.get_all_study_summaries(storage, include_best_trial=False):
            if found.study_name != name or found.user_attrs.get(_REPORTED):
                optuna.delete_study(study_name=found.study_name, storage=storage)
        study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        spaces = _spaces(params.tune)
        for settings in draws(params.tune)[len(study.get_trials(deepcopy=False)) :]:
            # RUNNING, with its settings, in one write: a kill leaves no trial without them.
            study.add_trial(create_trial(state=TrialState.RUNNING, params=settings, distributions=spaces))
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _spaces(tune: TuneParams) -> dict[str, BaseDistribution]:
    return {
        "learning_rate": FloatDistribution(*tune.learning_rate, log=True),
        "dropout": FloatDistribution(*tune.dropout),
    }


def _report(
    model: str, tune: TuneParams, rungs: Sequence[int], trials: Sequence[FrozenTrial], best: FrozenTrial
) -> dict[str, Any]:
    found = math.isfinite(best.intermediate_values[rungs[-1]])
    return {
        "model": model,
        "searched": True,
        "settings": dict(best.params) if found else {},
        "budget": {
            "trials": tune.trials,
            "halvings": tune.halvings,
            "tokens_by_rung": list(rungs),
            "tokens_in_all": sum(tune.trials // 2**rung * tokens for rung, tokens in enumerate(rungs)),
        },
        "trials": [
            {
                "number": trial.number,
                "learning_rate": trial.params["learning_rate"],
                "dropout": trial.params["dropout"],
                "rungs": [
                    {"tokens": tokens, "valid_nats": trial.intermediate_values[tokens]}
                    for tokens in rungs
                    if tokens in trial.intermediate_values
                ],
            }
            for trial in trials
        ],
        "seconds": math.fsum(
            value for trial in trials for key, value in trial.user_attrs.items() if key.startswith("seconds")
        ),
    }
