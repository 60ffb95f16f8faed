"""Read the reports of the models that params.yaml names, and check that they may stand in one table."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from nextword.config import Params
from nextword.paths import IDS
from nextword.report.nats import SavedNats
from nextword.report.probes.experiments import (
    EXPERIMENTS,
    ExplodingFile,
    MemoryFile,
    Probes,
    SparsityFile,
    WindowFile,
)
from nextword.report.probes.networks import CapacityFile, ThroughputFile
from nextword.report.probes.schema import ProbeFile
from nextword.report.schema import (
    EvaluateFile,
    EvaluateRun,
    Metrics,
    NgramEntry,
    NgramFile,
    Protocol,
    Report,
    TrainFile,
    TrainRun,
    TuneFile,
)
from nextword.tuning import tuned

AnyReport = TypeVar("AnyReport", bound=Report)


@dataclass(frozen=True)
class Neural:
    """What is known of one neural model: its training and its evaluation, by seed."""

    name: str
    train: TrainFile
    runs: dict[int, TrainRun]
    """Every seed, diverged ones too."""
    evaluations: dict[int, EvaluateRun]
    """The finished seeds alone: no mean holds a diverged one."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds."""
        return tuple(self.runs)

    @property
    def finished(self) -> tuple[int, ...]:
        """Seeds whose training came to its end."""
        return tuple(seed for seed, run in self.runs.items() if run.status == "finished")

    @property
    def diverged(self) -> tuple[int, ...]:
        """Seeds that met a loss that is not finite."""
        return tuple(seed for seed, run in self.runs.items() if run.status == "diverged")

    def unlike(self, other: Neural, *but: str) -> str:
        """How the two trainings ran differently, in words; empty where they ran alike and their speeds compare.

        Seed by seed over those that both have, where their difference rests on them (two or more); else over all. What
        differs by nature, and so cannot be alike, is named in ``but`` and left out.
        """
        common = [seed for seed in self.finished if seed in other.finished]
        parts = []
        for field in (field for field in ("engine", "precision", "device", "threads") if field not in but):
            if len(common) >= 2:
                ways = [[str(getattr(model.runs[s], field)) for s in common] for model in (self, other)]
            else:
                ways = [sorted({str(getattr(model.runs[s], field)) for s in model.finished}) for model in (self, other)]
            if ways[0] != ways[1]:
                parts.append(f"{field} {' against '.join('/'.join(dict.fromkeys(way)) for way in ways)}")
        return ", ".join(parts)

    def training(self, field: str) -> dict[int, float]:
        """A field of :class:`TrainRun` by finished seed; seeds without it are left out."""
        values = {seed: getattr(self.runs[seed], field) for seed in self.finished}
        return {seed: float(value) for seed, value in values.items() if value is not None}

    def speed(self, field: str) -> dict[int, float]:
        """The same of the seeds that ran with as many threads as most did (as few, of equals): their times compare."""
        threads = Counter(self.runs[seed].threads for seed in self.finished)
        most = min(threads, key=lambda number: (-threads[number], number or 0), default=None)
        return {seed: value for seed, value in self.training(field).items() if self.runs[seed].threads == most}

    def metrics(self, split: str, protocol: Protocol) -> dict[int, Metrics]:
        """Scores by finished seed; empty where there are none."""
        found = {seed: run.splits.get(split, {}).get(protocol) for seed, run in self.evaluations.items()}
        return {seed: metrics for seed, metrics in found.items() if metrics is not None}

    def log_perplexity(self, split: str, protocol: Protocol) -> dict[int, float]:
        """Nats per target by finished seed."""
        return {seed: metrics.log_perplexity for seed, metrics in self.metrics(split, protocol).items()}

    def generalization_gap(self) -> dict[int, float]:
        """Nats a target of test less those of train, stateful, by finished seed."""
        train, test = (self.log_perplexity(split, "stateful") for split in ("train_sample", "test"))
        return {seed: test[seed] - train[seed] for seed in test if seed in train}


@dataclass(frozen=True)
class Reports:
    """All that the comparison is made from."""

    params: Params
    """With the settings that tuning found."""
    neural: dict[str, Neural]
    """In the order of params.yaml."""
    ngrams: dict[str, NgramEntry]
    """By smoothing in the order of params.yaml, then by order."""
    orders: dict[int, dict[str, Any]]
    """Sparsity figures by n-gram order."""
    corpus: dict[str, Any]
    ids: dict[str, Any]
    probes: Probes
    nats: SavedNats
    tuning: dict[str, TuneFile]
    """By model; those that were not searched too."""
    runs: dict[str, Any]
    """MLflow's run ids by stage; empty where nothing was tracked."""

    @property
    def left_to_right(self) -> dict[str, Neural]:
        """Models whose perplexity is that of the text."""
        return {name: model for name, model in self.neural.items() if not self.params.models[name].bidirectional}

    @property
    def bidirectional(self) -> dict[str, Neural]:
        """Models that see the words on both sides: their figures are pseudo-perplexities and compare with no other."""
        return {name: model for name, model in self.neural.items() if self.params.models[name].bidirectional}

    @property
    def perplexity_margin(self) -> float:
        """Practical margin of every ratio of perplexities, as a logarithm (nats a target)."""
        return math.log1p(self.params.compare.margin)

    @property
    def num_targets(self) -> int:
        """Targets of test, the same for every model here."""
        return next(metrics.num_targets for _, split, metrics in _scores(self.neural, self.ngrams) if split == "test")


def collect(params: Params, folder: Path, ids: Path = IDS) -> Reports:
    """Read the reports of exactly the models, smoothings and orders that ``params`` names.

    Raises:
        ValueError: a report is missing, is not what its stage writes, is of other seeds than ``params``, or the
            models were not scored on the same targets.
    """
    counted = _read(folder / "ngram.json", NgramFile, "ngram")
    ngrams = {
        name: entry
        for smoothing in params.ngram.smoothings
        for name, entry in sorted(counted.models.items(), key=lambda item: item[1].order)
        if entry.smoothing == smoothing and entry.order <= params.ngram.max_order
    }
    neural = {name: _neural(params, folder, name) for name in params.models}
    tuning = {name: _read(folder / "tune" / f"{name}.json", TuneFile, f"tune@{name}") for name in params.models}
    for name in tuning:
        params = tuned(params, name, folder / "tune")
    _check_equal_targets(neural, ngrams)
    return Reports(
        params=params,
        neural=neural,
        ngrams=ngrams,
        orders=counted.orders,
        corpus=_json(folder / "corpus.json", "prepare"),
        ids=_json(folder / "ids.json", "encode"),
        probes=_probes(params, folder),
        nats=SavedNats(folder / "nats", ids),
        tuning=tuning,
        runs=_run_ids(folder / "runs", params),
    )


def stage_names(params: Params) -> tuple[str, ...]:
    """Every stage before the comparison, in the order in which they run."""
    of_models = (f"{stage}@{name}" for stage in ("tune", "train", "evaluate", "probe") for name in params.models)
    return "prepare", "encode", "ngram", *of_models, *EXPERIMENTS


def _run_ids(folder: Path, params: Params) -> dict[str, Any]:
    """Run ids of the stages of ``params``; a stage that was not tracked has none. ``train/gru.json`` is train@gru."""
    stages = [stage for stage in stage_names(params) if stage not in EXPERIMENTS]
    paths = {stage: [folder / f"{stage}.json", folder / f"{stage.replace('@', '/')}.json"] for stage in stages}
    paths |= {name: [folder / "experiments" / f"{name}.json"] for name in EXPERIMENTS}
    found = {
        stage: _json(path, stage)
        for stage, choices in paths.items()
        for path in dict.fromkeys(choices)
        if path.exists()
    }
    return {stage: run for stage, run in found.items() if run}  # nothing ran where tune has a model left out


def _probes(params: Params, folder: Path) -> Probes:
    experiments = folder / "experiments"
    return Probes(
        models={name: _read(folder / "probe" / f"{name}.json", ProbeFile, f"probe@{name}") for name in params.models},
        memory=_read(experiments / "memory.json", MemoryFile, "memory"),
        exploding=_read(experiments / "exploding.json", ExplodingFile, "exploding"),
        window=_read(experiments / "window.json", WindowFile, "window"),
        sparsity=_read(experiments / "sparsity.json", SparsityFile, "sparsity"),
        capacity=_read(experiments / "capacity.json", CapacityFile, "capacity"),
        throughput=_read(experiments / "throughput.json", ThroughputFile, "throughput"),
    )


def _neural(params: Params, folder: Path, name: str) -> Neural:
    train = _read(folder / "train" / f"{name}.json", TrainFile, f"train@{name}")
    evaluate = _read(folder / "evaluate" / f"{name}.json", EvaluateFile, f"evaluate@{name}")
    runs = {run.seed: run for run in sorted(train.runs, key=lambda run: run.seed)}
    wanted = params.seeds_of(name)
    if set(runs) != set(wanted):
        raise ValueError(
            f"reports of model {name} are of seeds {sorted(runs)}, params.yaml has {sorted(wanted)}; "
            f"run `dvc repro train@{name} evaluate@{name}`"
        )
    scored = {run.seed: run for run in evaluate.runs}
    finished = [seed for seed, run in runs.items() if run.status == "finished"]
    if missing := [seed for seed in finished if seed not in scored]:
        raise ValueError(
            f"model {name}: seeds {missing} are trained but not evaluated; run `dvc repro evaluate@{name}`"
        )
    return Neural(name, train, runs, {seed: scored[seed] for seed in finished})


def _scores(neural: dict[str, Neural], ngrams: dict[str, NgramEntry]) -> Iterator[tuple[str, str, Metrics]]:
    """(who, split, metrics) of everything that was scored."""
    for name, model in neural.items():
        for seed, run in model.evaluations.items():
            for split, protocols in run.splits.items():
                for protocol, metrics in protocols.items():
                    yield f"{name} seed {seed} {protocol}", split, metrics
    for name, entry in ngrams.items():
        for split, protocols in entry.splits.items():
            for protocol, metrics in protocols.items():
                yield f"{name} {protocol}", split, metrics


def _check_equal_targets(neural: dict[str, Neural], ngrams: dict[str, NgramEntry]) -> None:
    first: dict[str, tuple[str, Metrics]] = {}
    for who, split, metrics in _scores(neural, ngrams):
        other, known = first.setdefault(split, (who, metrics))
        for count in ("num_targets", "num_oov"):
            if getattr(metrics, count) != getattr(known, count):
                raise ValueError(
                    f"{split} was not the same for all models: {other} has {count} {getattr(known, count)}, {who} has "
                    f"{getattr(metrics, count)}; their perplexities do not compare: run `dvc repro` to score all anew"
                )
    if "test" not in first:
        raise ValueError("no model was scored on test: every seed diverged and there is no n-gram model")


def _json(path: Path, stage: str) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} not found; run `dvc repro {stage}`") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it and run `dvc repro {stage}`") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping; run `dvc repro {stage}`")
    return tree


def _read(path: Path, kind: type[AnyReport], stage: str) -> AnyReport:
    try:
        return kind.model_validate(_json(path, stage))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: {place}: {first['msg'].lower()}; run `dvc repro -f {stage}`") from None
