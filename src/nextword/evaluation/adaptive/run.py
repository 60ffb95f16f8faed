"""All seeds of a model by all ways to adapt; settings are chosen on valid, for each seed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nextword.config.comparison import AdaptiveParams, CacheParams, DynamicParams
from nextword.evaluation.adaptive.cache import cache_log_prob, choose_cache, mix_cache
from nextword.evaluation.adaptive.dynamic import Rule, Scores, documents, gradient_scale, score_dynamically
from nextword.models.language_model import LanguageModel
from nextword.text.ids import Ids, Split

Models = Mapping[int, LanguageModel]
Nats = NDArray[np.floating[Any]]
Map = Callable[..., Iterable[Any]]
"""As the built-in ``map``; may compute side by side."""


class Adapted(NamedTuple):
    """One seed, adapted in one way."""

    settings: dict[str, float]
    scores: dict[str, tuple[NDArray[np.float32], NDArray[np.int32] | None]]
    """By split: nats of every target, and the number of types held more probable where it is known."""


def score_adaptively(
    models: Models,
    splits: Mapping[str, Split],
    plain: Mapping[tuple[int, str], Nats],
    params: AdaptiveParams,
    batch_size: int,
    run: Map = map,
) -> dict[int, dict[str, Adapted]]:
    """Score valid and test with a cache, and a sample of valid and test dynamically.

    Args:
        models: by seed; left-to-right, in evaluation mode.
        splits: ``valid``, ``test``; ``valid_sample``, the first lines of valid, on which settings are chosen; and
            ``train_head``, which tells dynamic evaluation how large gradients are.
        plain: by seed and split (valid, test), the nats under the stateful protocol.
        params: what to try.
        batch_size: documents side by side, where no figure depends on it.
        run: in place of ``map``.

    Returns:
        by seed and way: ``cache``; ``dynamic`` of the first ``params.dynamic.seeds``.
    """
    adapted: dict[int, dict[str, Adapted]] = {seed: {} for seed in models}
    if params.cache:
        for seed, one in zip(models, _cached(models, splits, plain, params.cache, batch_size, run), strict=True):
            adapted[seed]["cache"] = one
    if params.dynamic:
        first = dict(list(models.items())[: params.dynamic.seeds])
        for seed, one in zip(first, _dynamic(first, splits, params.dynamic, run), strict=True):
            adapted[seed]["dynamic"] = one
    return adapted


def _cached(
    models: Models,
    splits: Mapping[str, Split],
    plain: Mapping[tuple[int, str], Nats],
    params: CacheParams,
    batch_size: int,
    run: Map,
) -> Iterable[Adapted]:
    def adapt(seed: int) -> Adapted:
        model, sample = models[seed], splits["valid_sample"]
        settings = choose_cache(model, sample, plain[seed, "valid"][: sample.num_tokens], params, batch_size)
        theta, weight = settings["theta"], settings["weight"]
        scores: dict[str, tuple[NDArray[np.float32], NDArray[np.int32] | None]] = {}
        for key in ("valid", "test"):
            (log_cache,) = cache_log_prob(model, splits[key], params.size, [theta], batch_size)
            scores[key] = mix_cache(plain[seed, key], log_cache, weight).astype(np.float32), None
        return Adapted(settings, scores)

    return run(adapt, models)


def _dynamic(models: Models, splits: Mapping[str, Split], params: DynamicParams, run: Map) -> list[Adapted]:
    scales = run(lambda seed: gradient_scale(models[seed], splits["train_head"], params.steps), models)
    scale = dict(zip(models, scales, strict=True))

    def score_document(task: tuple[int, float, Ids]) -> Scores:
        seed, rate, ids = task
        return score_dynamically(models[seed], ids, Rule(rate, params.steps, params.decay), scale[seed])

    def score(seeds_and_rates: Sequence[tuple[int, float]], split: Split) -> list[Scores]:
        """Documents side by side: none knows what was learned from another."""
        parts = documents(split)
        results = list(run(score_document, [(*task, ids) for task in seeds_and_rates for ids in parts]))
        by_task = [results[i : i + len(parts)] for i in range(0, len(results), len(parts))]
        return [(np.concatenate([n for n, _ in task]), np.concatenate([r for _, r in task])) for task in by_task]

    tried = list(product(models, params.learning_rates))
    samples = dict(zip(tried, score(tried, splits["valid_sample"]), strict=True))
    best = [
        min(params.learning_rates, key=lambda rate: float(samples[seed, rate][0].sum(dtype=np.float64)))
        for seed in models
    ]
    chosen = list(zip(models, best, strict=True))
    return [
        Adapted(
            {"learning_rate": rate, "steps": params.steps, "decay": params.decay},
            {"valid_sample": samples[seed, rate], "test": test},
        )
        for (seed, rate), test in zip(chosen, score(chosen, splits["test"]), strict=True)
    ]
