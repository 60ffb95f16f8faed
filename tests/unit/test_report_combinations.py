"""Combination rows from saved nats whose mixtures are known."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nats_fixtures import DOCUMENTS
from numpy.typing import NDArray
from report_fixtures import edit, make_params, read_reports, write_reports

from nextword.config import NgramParams
from nextword.evaluation.bootstrap import block_sums, crossed_difference
from nextword.evaluation.combination import best_weight
from nextword.report.collect import Reports
from nextword.report.combinations import NAMES, Combination, combinations, combinations_plot, combinations_section
from nextword.report.nats import SavedNats
from nextword.report.style import settings, svg
from nextword.report.tables import markdown

Floats = NDArray[np.float64]

SEEDS = (0, 1, 2)
NGRAM = "modified_kneser_ney_2"


def probabilities(who: str, seed: int, split: str) -> Floats:
    """(N,) probabilities; each model is good at other targets."""
    size = sum(DOCUMENTS[split])
    rng = np.random.default_rng([*who.encode(), seed, len(split)])
    drawn: Floats = rng.uniform(0.05, 0.9, size).astype(np.float32).astype(np.float64)
    return drawn


def save(path: Path, who: str, seed: int, split: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, -np.log(probabilities(who, seed, split)).astype(np.float32))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """lstm is scored in every way, rnn_small plain and with one seed; irnn is of another group."""
    folder = tmp_path_factory.mktemp("combinations")
    models: dict[str, dict[str, Any]] = {
        "lstm": {}, "rnn_small": {"seeds": (0,)}, "gru": {"group": "other"}, "gru_unsaved": {},
    }  # fmt: skip
    params = make_params(models, SEEDS, ngram=NgramParams(max_order=2, smoothings=("modified_kneser_ney",)))
    write_reports(folder, params)
    edit(folder / "evaluate" / "rnn_small.json", lambda tree: tree["runs"][0].pop("adaptive"))
    nats = folder / "other_nats"
    for split in ("valid", "test"):
        save(nats / "ngram" / f"{NGRAM}.{split}.reset.npy", "ngram", 0, split)
        save(nats / "rnn_small" / f"seed-0.{split}.stateful.npy", "rnn_small", 0, split)
        for seed in SEEDS:
            for way in ("stateful", "cache", "dynamic"):
                if (way, split) != ("dynamic", "valid"):
                    save(nats / "lstm" / f"seed-{seed}.{split}.{way}.npy", way, seed, split)
    read = read_reports(params, folder)
    return dataclasses.replace(read, nats=dataclasses.replace(read.nats, folder=nats))


@pytest.fixture(scope="module")
def rows(reports: Reports) -> dict[tuple[str, str], Combination]:
    return {(row.model, row.name): row for row in combinations(reports)}


def test_every_combination_in_order(rows: dict[tuple[str, str], Combination]) -> None:
    assert [name for model, name in rows if model == "lstm"] == list(NAMES)
    assert [name for model, name in rows if model == "rnn_small"] == ["alone", "ngram"]
    assert {model for model, _ in rows} == {"lstm", "rnn_small"}  # of group main, with saved nats


def by_hand(name: str, seed: int) -> float:
    """Nats a target, from probabilities."""

    def fitted(a: Floats, b: Floats) -> float:
        return best_weight(-np.log(a), -np.log(b))

    def p(who: str, split: str = "test") -> Floats:
        return probabilities(who, 0 if who == "ngram" else seed, split)

    plain = fitted(p("stateful", "valid"), p("ngram", "valid"))
    cached = fitted(p("cache", "valid"), p("ngram", "valid"))
    seeds = {
        split: np.mean([probabilities("stateful", s, split) for s in SEEDS], axis=0) for split in ("valid", "test")
    }
    together = fitted(seeds["valid"], p("ngram", "valid"))
    mixture = {
        "alone": p("stateful"),
        "ngram": (1 - plain) * p("stateful") + plain * p("ngram"),
        "cache": p("cache"),
        "cache_ngram": (1 - cached) * p("cache") + cached * p("ngram"),
        "dynamic": p("dynamic"),
        "dynamic_ngram": (1 - plain) * p("dynamic") + plain * p("ngram"),
        "all": (1 - plain) * (p("cache") + p("dynamic")) / 2 + plain * p("ngram"),
        "ensemble": seeds["test"],
        "ensemble_ngram": (1 - together) * seeds["test"] + together * p("ngram"),
    }[name]
    return float(-np.log(mixture).mean())


@pytest.mark.parametrize("name", NAMES)
def test_perplexity_is_that_of_the_mixture(rows: dict[tuple[str, str], Combination], name: str) -> None:
    nats = np.mean([by_hand(name, seed) for seed in SEEDS])
    row = rows["lstm", name]
    assert row.test.mean == pytest.approx(np.exp(nats), rel=1e-6)
    if row.against_alone is not None:
        alone = np.mean([by_hand("alone", seed) for seed in SEEDS])
        assert row.against_alone.mean == pytest.approx(nats - alone, abs=1e-6)
        assert row.against_alone.low is not None and row.against_alone.num_blocks == 8


def test_each_seed_is_compared_with_itself(rows: dict[tuple[str, str], Combination]) -> None:
    edges = np.cumsum([0, *DOCUMENTS["test"]])
    nats = {
        way: np.array([block_sums(-np.log(probabilities(way, seed, "test")), edges) for seed in SEEDS])
        for way in ("stateful", "dynamic")
    }
    zero = np.zeros((1, len(edges) - 1))
    wanted = crossed_difference(nats["dynamic"] - nats["stateful"], zero, DOCUMENTS["test"], b_exact=True)
    found = rows["lstm", "dynamic"].against_alone
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(wanted.low, abs=1e-6), pytest.approx(wanted.high, abs=1e-6))


def test_an_ensemble_has_no_seeds_of_its_own(rows: dict[tuple[str, str], Combination]) -> None:
    row = rows["lstm", "ensemble"]
    assert row.seeds == SEEDS and row.test.low is None
    assert row.against_alone is not None and row.against_alone.documents_share == 1.0
    assert row.against_alone.high is not None and row.against_alone.high < 0.0  # Jensen's inequality


def test_one_seed_has_no_interval(rows: dict[tuple[str, str], Combination]) -> None:
    gap = rows["rnn_small", "ngram"].against_alone
    assert gap is not None and (gap.low, gap.method) == (None, "none") and gap.mean < 0.0


def test_weights_are_those_of_the_ngram(rows: dict[tuple[str, str], Combination]) -> None:
    weight = rows["lstm", "ngram"].ngram_weight
    assert weight is not None and weight.count == 3 and 0.3 < weight.mean < 0.7
    assert rows["lstm", "cache"].ngram_weight is None


def test_section_and_plot_are_the_same_again(reports: Reports) -> None:
    section = combinations_section(reports)
    assert section is not None and section == combinations_section(reports)
    assert (section.name, section.chapter, len(section.records)) == ("combinations", "models", 11)
    assert len({tuple(record) for record in section.records}) == 1
    text = markdown(section.table)
    assert "| lstm | + cache + n-gram |" in text and "(modified kneser ney 2)" in text and "None" not in text
    pictures = []
    for _ in range(2):
        (plot,) = combinations_plot(reports)
        with settings():
            pictures.append(svg(plot.figure))
    assert pictures[0] == pictures[1] and "ensemble + n-gram" in pictures[0]


def test_nothing_where_no_nats_were_saved(reports: Reports, tmp_path: Path) -> None:
    bare = dataclasses.replace(reports, nats=SavedNats(tmp_path, tmp_path))
    assert combinations_section(bare) is None and list(combinations_plot(bare)) == []


def test_without_ngrams_there_are_the_others(reports: Reports) -> None:
    names = {row.name for row in combinations(dataclasses.replace(reports, ngrams={})) if row.model == "lstm"}
    assert names == {"alone", "cache", "dynamic", "ensemble"}


def test_an_infinite_loss_has_no_ratio_and_its_mixture_is_finite(reports: Reports, tmp_path: Path) -> None:
    shutil.copytree(reports.nats.folder, tmp_path / "nats")
    path = tmp_path / "nats" / "rnn_small" / "seed-0.test.stateful.npy"
    nats = np.load(path)
    nats[7] = np.inf
    np.save(path, nats)
    broken = dataclasses.replace(reports, nats=dataclasses.replace(reports.nats, folder=tmp_path / "nats"))
    alone, mixed = (row for row in combinations(broken) if row.model == "rnn_small")
    assert alone.test.mean == np.inf and np.isfinite(mixed.test.mean) and mixed.against_alone is None
    section = combinations_section(broken)
    assert section is not None and "∞" in markdown(section.table)
    assert len(list(combinations_plot(broken))) == 1
