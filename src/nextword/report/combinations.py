"""Models put together (Mikolov's classic): with the best n-gram, a cache, dynamic evaluation, their own other seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nextword.config import CompareParams
from nextword.evaluation.bootstrap import Crossed, block_sums, crossed_difference
from nextword.evaluation.combination import best_weight, ensemble, mix
from nextword.evaluation.statistics import Estimate, mean_interval
from nextword.report.collect import Neural, Reports
from nextword.report.crossed import edges_of
from nextword.report.leaderboard import best_ngram, exp_estimate
from nextword.report.section import Section
from nextword.report.tables import (
    DASH,
    Cell,
    Table,
    count,
    estimate_cell,
    flat_estimate,
    number,
    percent,
    ratio_parts,
)

if TYPE_CHECKING:
    from nextword.report.plots import Plot

Floats = NDArray[np.float64]

GROUP = "main"
"""Group of the models that are combined."""
NAMES = {
    "alone": "alone",
    "ngram": "+ n-gram",
    "cache": "+ cache",
    "cache_ngram": "+ cache + n-gram",
    "dynamic": "+ dynamic",
    "dynamic_ngram": "+ dynamic + n-gram",
    "all": "+ cache + dynamic + n-gram",
    "ensemble": "ensemble",
    "ensemble_ngram": "ensemble + n-gram",
}
"""What is shown for each combination, in the order of the rows."""


@dataclass(frozen=True)
class Combination:
    """One model, combined in one way."""

    model: str
    name: str
    """Key of :data:`NAMES`."""
    seeds: tuple[int, ...]
    test: Estimate
    """Perplexity; interval over seeds."""
    against_alone: Crossed | None
    """Nats a target less those of the model alone."""
    ngram_weight: Estimate | None
    """Weight of the n-gram model, mean over seeds."""


@dataclass(frozen=True)
class _Scored:
    """Nats a target of one model and seed."""

    test: Floats
    valid: Floats | None
    """None where not all of it was scored."""
    ngram_weight: float | None = None


def combinations(reports: Reports) -> list[Combination]:
    """All combinations of the models of group main, model by model; empty where no nats were saved."""
    models = [
        model
        for name, model in reports.left_to_right.items()
        if reports.params.models[name].group == GROUP and model.finished and (reports.nats.folder / name).is_dir()
    ]
    if not models:
        return []
    name = best_ngram(reports.ngrams)
    ngram = None if name is None else _Scored(reports.nats.ngram(name, "test"), reports.nats.ngram(name, "valid"))
    edges = edges_of(reports, "test")
    return [row for model in models for row in _of_model(reports, model, ngram, edges)]


def _of_model(
    reports: Reports, model: Neural, ngram: _Scored | None, edges: NDArray[np.int64]
) -> Iterator[Combination]:
    ways = {seed: _ways(reports, model, seed) for seed in model.finished}
    plain = [of_seed["alone"] for of_seed in ways.values()]
    alone = {seed: block_sums(of_seed["alone"].test, edges) for seed, of_seed in ways.items()}
    mixed = {seed: _of_seed(of_seed, ngram) for seed, of_seed in ways.items()}
    for name in NAMES:
        found = {seed: of_seed[name] for seed, of_seed in mixed.items() if name in of_seed}
        if found:
            base = np.array([alone[seed] for seed in found])
            yield _row(reports.params.compare, model.name, name, tuple(found), list(found.values()), base, edges)
    if len(plain) > 1:
        whole = ensemble([one.valid for one in plain if one.valid is not None])
        together = {"ensemble": _Scored(ensemble([one.test for one in plain]), whole)}
        if ngram is not None:
            together["ensemble_ngram"] = _with_ngram(together["ensemble"], ngram)
        for name, one in together.items():
            base = np.mean(list(alone.values()), axis=0, keepdims=True)
            yield _row(reports.params.compare, model.name, name, tuple(alone), [one], base, edges)


def _ways(reports: Reports, model: Neural, seed: int) -> dict[str, _Scored]:
    """The model alone, and adapting to the text where it was scored so."""

    def nats(split: str, way: str) -> Floats:
        return reports.nats.neural(model.name, seed, split, way)

    adaptive = model.evaluations[seed].adaptive
    return {"alone": _Scored(nats("test", "stateful"), nats("valid", "stateful"))} | {
        way: _Scored(nats("test", way), nats("valid", way) if "valid" in adaptive[way].splits else None)
        for way in ("cache", "dynamic")
        if way in adaptive
    }


def _of_seed(ways: dict[str, _Scored], ngram: _Scored | None) -> dict[str, _Scored]:
    """Every combination of one seed."""
    if ngram is None:
        return ways
    plain = _with_ngram(ways["alone"], ngram)
    found = ways | {"ngram": plain}
    for way in ("cache", "dynamic"):
        if way in ways:
            found[f"{way}_ngram"] = _with_ngram(ways[way], ngram, plain.ngram_weight)
    if "cache" in ways and "dynamic" in ways:
        halves = _Scored(mix([ways["cache"].test, ways["dynamic"].test], [0.5, 0.5]), None)
        found["all"] = _with_ngram(halves, ngram, plain.ngram_weight)
    return found


def _with_ngram(one: _Scored, ngram: _Scored, otherwise: float | None = None) -> _Scored:
    """Mix in the n-gram model, its weight fitted on valid; ``otherwise`` where valid was not scored whole."""
    weight = otherwise
    if one.valid is not None and ngram.valid is not None:
        weight = best_weight(one.valid, ngram.valid)
    assert weight is not None
    return _Scored(mix([one.test, ngram.test], [1.0 - weight, weight]), None, weight)


def _row(
    rule: CompareParams,
    model: str,
    name: str,
    seeds: tuple[int, ...],
    scored: Sequence[_Scored],
    alone_SD: Floats,
    edges: NDArray[np.int64],
) -> Combination:
    """One row; ``alone_SD`` has the nats of the model alone for each of ``scored``, the same training on both sides."""
    sums_SD, sizes = np.array([block_sums(one.test, edges) for one in scored]), np.diff(edges)
    gap = None
    if name != "alone" and np.isfinite(alone_SD).all():
        nothing = np.zeros((1, len(sizes)))  # gains are paired: one side against zero
        gap = crossed_difference(
            sums_SD - alone_SD, nothing, sizes, rule.confidence, rule.resamples,
            a_exact=name.startswith("ensemble"), b_exact=True,
        )  # fmt: skip
    nats = (sums_SD.sum(1) / sizes.sum()).tolist()
    finite = all(map(math.isfinite, nats))
    weights = [one.ngram_weight for one in scored if one.ngram_weight is not None]
    return Combination(
        model=model,
        name=name,
        seeds=seeds,
        test=exp_estimate(mean_interval(nats, rule.confidence))
        if finite
        else Estimate(math.inf, None, None, len(nats)),
        against_alone=gap,
        ngram_weight=mean_interval(weights, rule.confidence) if weights else None,
    )


def combinations_section(reports: Reports) -> Section | None:
    """A row a combination; None where no nats were saved."""
    rows = combinations(reports)
    if not rows:
        return None
    records = [_record(row) for row in rows]
    tree = {
        "confidence": reports.params.compare.confidence,
        "ngram": best_ngram(reports.ngrams),
        "notes": list(_notes(reports, rows)),
        "rows": records,
    }
    return Section("combinations", _table(reports, rows), records, tree, "models", _sources(rows))


def _sources(rows: list[Combination]) -> tuple[str, ...]:
    return (*dict.fromkeys(f"evaluate@{row.model}" for row in rows), "ngram")


def _table(reports: Reports, rows: list[Combination]) -> Table:
    best = number(min(row.test.mean for row in rows))
    body = []
    for row in rows:
        span = sum(other.model == row.model for other in rows)
        ratio, limits = (DASH, "") if row.against_alone is None else ratio_parts(row.against_alone)
        body.append((
            Cell(row.model, rows=span) if row.name == "alone" else None,
            Cell(NAMES[row.name]),
            estimate_cell(row.test, bold=number(row.test.mean) == best),
            Cell(ratio, limits, number=True),
            estimate_cell(row.ngram_weight, percent),
            Cell(count(len(row.seeds)), number=True),
        ))  # fmt: skip
    headings = (
        "model", "combination", "test perplexity, stateful", "against the model alone", "weight of the n-gram", "seeds",
    )  # fmt: skip
    return Table("Models combined", headings, tuple(body), _notes(reports, rows))


def _notes(reports: Reports, rows: list[Combination]) -> tuple[str, ...]:
    level = f"{100 * reports.params.compare.confidence:g}%"
    names = {row.name for row in rows}
    notes = []
    if ngram := best_ngram(reports.ngrams):
        notes.append(
            f"+ n-gram: linear interpolation with the n-gram model that is best on valid ({ngram.replace('_', ' ')}); "
            "its weight is fitted on valid, for each seed. It begins anew at each line."
        )
    if names & {"cache", "dynamic"}:
        notes.append(
            "+ cache: the neural cache of Grave et al. (2017). + dynamic: dynamic evaluation. Both learn from words of "
            "test once these are scored, from nothing else of it. Where valid was not scored so, the n-gram model has "
            "the weight fitted for the model alone. With all three, cache and dynamic evaluation count alike."
        )
    if "ensemble" in names:
        notes.append("ensemble: mean probability over the seeds; its interval is over documents, seeds held.")
    return (
        *notes,
        f"Perplexity: geometric mean over seeds with its {level} t-interval. Against the model alone: ratio of "
        f"perplexities with the {level} interval of the crossed bootstrap over documents and seeds, each seed against "
        "itself (an ensemble against the mean of its seeds).",
        "Published for another corpus (Penn Treebank; Mikolov 2012): recurrent network 124.7, + Kneser-Ney 5-gram "
        "105.7, + cache 97.5.",
    )


def _record(row: Combination) -> dict[str, Any]:
    gap = row.against_alone
    ratio = None if gap is None else exp_estimate(Estimate(gap.mean, gap.low, gap.high, len(row.seeds)))
    return {
        "model": row.model,
        "combination": row.name,
        "seeds": " ".join(map(str, row.seeds)),
        **flat_estimate("test_perplexity", row.test),
        **flat_estimate("ratio", ratio),
        **{name: getattr(gap, name, None) for name in ("method", "effect", "num_blocks", "freedom", "documents_share")},
        **flat_estimate("ngram_weight", row.ngram_weight),
    }


def combinations_plot(reports: Reports) -> Iterator[Plot]:
    """Test perplexity of every combination, a line a model. Save it inside :func:`nextword.report.style.settings`."""
    from nextword.report.palette import PAPER, Looks  # these bring matplotlib
    from nextword.report.plots import Plot
    from nextword.report.style import legend, new_figure, settings

    rows = [row for row in combinations(reports) if np.isfinite(row.test.mean)]
    models = list(dict.fromkeys(row.model for row in rows))[::-1]
    if not models:
        return
    looks = Looks(tuple(name for name in NAMES if "ngram" not in name))
    with settings():
        figure, axes = new_figure(height=1.8 + 0.42 * len(models))
        for name in NAMES:
            points = [(row.test.mean, models.index(row.model)) for row in rows if row.name == name]
            look = "alone" if name == "ngram" else name.removesuffix("_ngram")
            if points:
                axes.plot(
                    *zip(*points, strict=True), looks.marker(look), color=looks.colour(look), label=NAMES[name],
                    markerfacecolor=looks.colour(look) if look != name or name == "all" else PAPER[0],
                )  # fmt: skip
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(-0.6, len(models) - 0.4)
        axes.set_xlabel("test perplexity, stateful")
        legend(axes, columns=2)
    yield Plot(
        "combinations", "Models combined",
        "Test perplexity of each model alone and combined, filled where the n-gram model is mixed in. Weights are "
        "fitted on valid.", figure, "models", _sources(rows),
    )  # fmt: skip
