"""Reading the reports: what is taken, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from report_fixtures import edit, make_params, write_reports

from nextword.config import NgramParams
from nextword.report.collect import collect

MODELS = ("lstm", "gru")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_reports(tmp_path, make_params(MODELS))


def test_exactly_the_models_of_params_are_read(folder: Path) -> None:
    assert list(collect(make_params(("gru",)), folder).neural) == ["gru"]
    assert list(collect(make_params(("gru", "lstm")), folder).neural) == ["gru", "lstm"]


def test_exactly_the_ngrams_of_params_are_read(folder: Path) -> None:
    params = make_params(MODELS, ngram=NgramParams(max_order=2, smoothings=("kneser_ney", "mle")))
    assert list(collect(params, folder).ngrams) == ["kneser_ney_1", "kneser_ney_2", "mle_1", "mle_2"]


def test_values_come_by_finished_seed(tmp_path: Path) -> None:
    params = make_params(("lstm",))
    lstm = collect(params, write_reports(tmp_path, params, {"lstm": [1]})).neural["lstm"]
    assert (lstm.seeds, lstm.finished, lstm.diverged) == ((0, 1, 2), (0, 2), (1,))
    assert lstm.training("tokens_per_second").keys() == {0, 2}
    metrics = lstm.metrics("test", "stateful")[0]
    assert lstm.log_perplexity("test", "stateful")[0] == metrics.nats / metrics.num_targets  # type: ignore[operator]
    assert metrics.perplexity == pytest.approx(math.exp(metrics.log_perplexity))
    assert lstm.metrics("test", "reset").keys() == {0, 2}
    assert lstm.metrics("dev", "reset") == {}


def test_a_diverged_seed_that_was_evaluated_is_left_out(folder: Path) -> None:
    edit(folder / "train" / "lstm.json", lambda tree: tree["runs"][2].update(status="diverged"))
    assert collect(make_params(MODELS), folder).neural["lstm"].metrics("test", "reset").keys() == {0, 1}


def test_run_ids_of_the_stages_of_params(folder: Path) -> None:
    assert list(collect(make_params(("gru",)), folder).runs) == ["train@gru"]


@pytest.mark.parametrize("missing", ["ngram.json", "corpus.json", "ids.json", "train/lstm.json", "evaluate/gru.json"])
def test_a_missing_report_is_named_with_its_stage(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=r"not found; run `dvc repro"):
        collect(make_params(MODELS), folder)


def test_broken_reports_are_named(folder: Path) -> None:
    path = folder / "train" / "gru.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"gru\.json is not JSON"):
        collect(make_params(MODELS), folder)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="must hold a mapping"):
        collect(make_params(MODELS), folder)
    path.write_text(json.dumps({"model": "gru"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"gru\.json: kind: field required; run `dvc repro -f train@gru`"):
        collect(make_params(MODELS), folder)


def test_reports_of_other_seeds_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"model lstm are of seeds \[0, 1, 2\], params.yaml has \[0, 1\]"):
        collect(make_params(MODELS, seeds=(0, 1)), folder)


def test_a_trained_seed_must_be_evaluated(folder: Path) -> None:
    edit(folder / "evaluate" / "gru.json", lambda tree: tree["runs"].pop())
    with pytest.raises(ValueError, match=r"gru: seeds \[2\] are trained but not evaluated"):
        collect(make_params(MODELS), folder)


@pytest.mark.parametrize("count", ["num_targets", "num_oov"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_unequal_targets_are_refused(folder: Path, split: str, count: str) -> None:
    def drop_one(tree: dict) -> None:  # type: ignore[type-arg]
        tree["runs"][1]["splits"][split]["reset"][count] -= 1

    edit(folder / "evaluate" / "gru.json", drop_one)
    with pytest.raises(ValueError, match=f"{split} was not the same for all models: .*gru seed 1 reset has"):
        collect(make_params(MODELS), folder)


def test_ngrams_must_have_the_targets_of_the_neural_models(folder: Path) -> None:
    def drop_one(tree: dict) -> None:  # type: ignore[type-arg]
        for entry in tree["models"].values():
            entry["splits"]["test"]["reset"]["num_targets"] -= 1

    edit(folder / "ngram.json", drop_one)
    with pytest.raises(ValueError, match="test was not the same for all models"):
        collect(make_params(MODELS), folder)
