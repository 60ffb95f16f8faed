"""Adaptive evaluation of all seeds: settings by valid, what is reported and what is saved."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from adaptive_fixtures import build, dynamic, make_corpus, plain_nats

from nextword.config import EvaluateParams, ModelParams, Params, TrainParams
from nextword.config.comparison import AdaptiveParams, CacheParams, DynamicParams
from nextword.evaluation.adaptive import score_adaptively
from nextword.evaluation.adaptive.cache import cache_log_prob, choose_cache, mix_cache
from nextword.evaluation.adaptive.dynamic import Rule, gradient_scale
from nextword.evaluation.neural import evaluate_model, head
from nextword.evaluation.rule import Scorer
from nextword.models import build_model
from nextword.report.schema import EvaluateFile
from nextword.text import EncodedCorpus
from nextword.training.artifacts import ModelDescription, save_model


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return make_corpus(tmp_path_factory.mktemp("adaptive"))


def test_settings_are_the_best_of_the_grid_on_valid(corpus: EncodedCorpus) -> None:
    models = {seed: build(corpus, kind="gru") for seed in (3, 4)}
    splits = {
        "valid": corpus["valid"], "test": corpus["test"],
        "valid_sample": head(corpus["valid"], 70), "train_head": head(corpus["train"], 70),
    }  # fmt: skip
    params = AdaptiveParams(
        cache=CacheParams(size=15, thetas=(0.1, 1.0, 5.0), weights=(0.05, 0.3, 0.6)),
        dynamic=DynamicParams(steps=7, learning_rates=(1e-4, 1e-2, 1.0), decay=0.1),
    )
    plain = {(seed, key): plain_nats(model, splits[key]) for seed, model in models.items() for key in ("valid", "test")}
    found = score_adaptively(models, splits, plain, params, 2)
    with ThreadPoolExecutor(2) as pool:
        together = score_adaptively(models, splits, plain, params, 2, pool.map)
    model, sample = models[3], splits["valid_sample"]
    for way in ("cache", "dynamic"):
        assert found[3][way].settings == found[4][way].settings == together[3][way].settings
        for key, (nats, _) in found[3][way].scores.items():
            assert nats.shape == (splits[key].num_tokens,) and nats.dtype == np.float32
            np.testing.assert_array_equal(nats, together[4][way].scores[key][0])

    chosen = choose_cache(model, sample, plain[3, "valid"][: sample.num_tokens], params.cache, 2)  # type: ignore[arg-type]
    assert found[3]["cache"].settings == chosen
    own = plain_nats(model, sample)
    totals = {
        (theta, weight): mix_cache(own, cache_log_prob(model, sample, 15, [theta], 2)[0], weight).sum()
        for theta in (0.1, 1.0, 5.0) for weight in (0.05, 0.3, 0.6)
    }  # fmt: skip
    assert (chosen["theta"], chosen["weight"]) == min(totals, key=lambda key: totals[key])
    (log_cache,) = cache_log_prob(model, corpus["valid"], 15, [chosen["theta"]], 2)
    expected = mix_cache(plain[3, "valid"], log_cache, chosen["weight"])
    np.testing.assert_allclose(found[3]["cache"].scores["valid"][0], expected, rtol=1e-6)

    scale = gradient_scale(model, splits["train_head"], 7)
    by_rate = {rate: dynamic(model, sample, Rule(rate, 7, 0.1), scale) for rate in (1e-4, 1e-2, 1.0)}
    best = min(by_rate, key=lambda rate: float(by_rate[rate].sum()))
    assert found[3]["dynamic"].settings == {"learning_rate": best, "steps": 7, "decay": 0.1}
    np.testing.assert_array_equal(found[3]["dynamic"].scores["valid_sample"][0], by_rate[best])
    ways = score_adaptively(models, splits, plain, params.model_copy(update={"dynamic": None}), 2)
    assert set(ways[3]) == {"cache"}


@pytest.mark.parametrize(("group", "adaptive"), [("main", ["cache", "dynamic"]), ("rnn", [])])
def test_evaluation_reports_and_saves_them(
    corpus: EncodedCorpus, tmp_path: Path, group: str, adaptive: list[str]
) -> None:
    leaf = ModelParams(kind="gru", group=group, embedding_size=12, hidden_size=12, seeds=(5, 2, 7))
    ways = AdaptiveParams(tune_tokens=70, dynamic=DynamicParams(seeds=2, steps=10, learning_rates=(0.05,)))
    evaluate = EvaluateParams(train_sample_tokens=100, adaptive=ways)
    params = Params(models={"one": leaf}, evaluate=evaluate, train=TrainParams(accelerator="cpu"))
    for seed in (5, 2, 7):
        torch.manual_seed(seed)
        model = build_model(leaf, corpus.vocab_size, corpus.eos_id)
        description = ModelDescription("one", leaf, corpus.vocab_size, corpus.eos_id, corpus.tokenizer_sha256, seed)
        save_model(model, description, tmp_path / "models" / f"seed-{seed}")
    threads = torch.get_num_threads()
    try:
        shown: list[int] = []
        nats = tmp_path / "nats"
        report = evaluate_model(
            params, "one", corpus.folder, tmp_path / "models", nats, lambda seed, run: shown.append(seed)
        )
    finally:
        torch.set_num_threads(threads)
    assert shown == [5, 2, 7]
    runs = EvaluateFile.model_validate(report).runs
    assert [sorted(run.adaptive) for run in runs] == [adaptive, adaptive, adaptive[:1]]
    splits = {"valid": corpus["valid"], "valid_sample": head(corpus["valid"], 70), "test": corpus["test"]}
    of_way = {"cache": {"valid", "test"}, "dynamic": {"valid_sample", "test"}}
    for run in runs:
        for way, one in run.adaptive.items():
            assert set(one.splits) == of_way[way]
            for key, metrics in one.splits.items():
                saved = np.load(nats / f"seed-{run.seed}.{key}.{way}.npy")
                assert saved.dtype == np.float32
                expected = Scorer(corpus, splits[key]).summarize(saved)
                assert metrics.perplexity == pytest.approx(expected["perplexity"], rel=1e-12)
                assert (metrics.top1_accuracy is None) == (way == "cache")
            assert one.splits["test"].perplexity != run.splits["test"]["stateful"].perplexity
    assert len(list(nats.iterdir())) == 3 * 6 + (3 * 2 + 2 * 2 if adaptive else 0)
