"""Neural cache and dynamic evaluation against loops written out, and what must not change."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from adaptive_fixtures import KINDS, build, dynamic, make_corpus, one_document, plain_nats

from nextword.evaluation.adaptive import cache
from nextword.evaluation.adaptive.cache import cache_log_prob, mix_cache
from nextword.evaluation.adaptive.dynamic import Rule, documents, gradient_scale, score_dynamically
from nextword.evaluation.neural import head, score_split
from nextword.text import EncodedCorpus

RULE = Rule(learning_rate=0.05, steps=7, decay=0.1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return make_corpus(tmp_path_factory.mktemp("adaptive"))


@pytest.mark.parametrize("params", KINDS, ids=lambda params: str(params["kind"]))
@pytest.mark.parametrize("size", [5, 70, 300])
def test_cache_is_its_definition(
    corpus: EncodedCorpus, params: dict[str, Any], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "SEGMENT_STEPS", 50)  # several windows a document
    model, test, thetas = build(corpus, **params), corpus["test"], (0.3, 2.0)
    found = cache_log_prob(model, test, size, thetas, batch_size=2)
    expected = np.full((2, test.num_tokens), np.nan)
    for start, ids in zip(test.document_starts, documents(test), strict=False):
        with torch.no_grad():
            words = torch.from_numpy(ids.astype(np.int64))
            hidden, _ = model.hidden(words[:, None], model.initial_state(1))
        for t in range(1, len(ids)):
            for row, theta in enumerate(thetas):
                weight = {i: math.exp(theta * float(hidden[t] @ hidden[i])) for i in range(max(0, t - size), t)}
                share = sum(w for i, w in weight.items() if ids[i] == ids[t]) / sum(weight.values())
                expected[row, start + t] = math.log(share) if share else -math.inf
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(found).sum() == 2 * test.num_documents  # the first target of each document
    np.testing.assert_allclose(cache_log_prob(model, test, size, thetas, batch_size=32), found, rtol=1e-9, atol=1e-12)


def test_mixture_by_hand() -> None:
    nats = -np.log([0.5, 0.2, 0.25])
    log_cache = np.array([math.nan, math.log(0.6), -math.inf])
    np.testing.assert_allclose(mix_cache(nats, log_cache, 0.25), -np.log([0.5, 0.75 * 0.2 + 0.25 * 0.6, 0.75 * 0.25]))
    np.testing.assert_array_equal(mix_cache(nats, log_cache, 0.0), nats)
    nothing = mix_cache(np.array([np.inf, np.inf, np.inf]), np.array([math.nan, math.log(0.5), -math.inf]), 0.5)
    np.testing.assert_allclose(nothing, [np.inf, math.log(4), np.inf])


def test_mixture_is_a_distribution(corpus: EncodedCorpus) -> None:
    model, test = build(corpus, kind="gru"), corpus["test"]
    place, total = 37, 0.0
    for word in range(corpus.vocab_size):
        ids = np.array(test.ids[: place + 1])
        ids[place] = word
        changed = one_document(test, ids)
        (log_cache,) = cache_log_prob(model, changed, 20, [1.0], 1)
        total += math.exp(-mix_cache(plain_nats(model, changed), log_cache, 0.3)[place])
    assert total == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("params", KINDS, ids=lambda params: str(params["kind"]))
def test_dynamic_is_its_definition(corpus: EncodedCorpus, params: dict[str, Any]) -> None:
    """By next_log_prob and word by word, on a model of its own, with the update written out for every weight."""
    model, test = build(corpus, **params), corpus["test"]
    scale = gradient_scale(model, corpus["train"], RULE.steps)
    expected = []
    for ids in documents(test):
        adapted = copy.deepcopy(model)
        state = adapted.initial_state(1)
        for start in range(0, len(ids), RULE.steps):
            total = torch.zeros((), dtype=torch.float64)
            for word in ids[start : start + RULE.steps].tolist():
                nats = -adapted.next_log_prob(state)[0, word]
                total = total + nats
                expected.append(nats.item())
                _, state = adapted.hidden(torch.tensor([[word]]), state)
            gradients = torch.autograd.grad(total, list(adapted.parameters()))
            state = type(state)(*[tree_detach(part) for part in state])
            with torch.no_grad():
                for w, w0, g, s in zip(adapted.parameters(), model.parameters(), gradients, scale, strict=True):
                    w.add_(RULE.decay * (w0 - w) - RULE.learning_rate * g / s)
    found = dynamic(model, test, RULE, scale)
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # kept in float32
    assert np.abs(found - plain_nats(model, test)).max() > 1e-3


def tree_detach(part: Any) -> Any:
    if isinstance(part, torch.Tensor):
        return part.detach()
    return type(part)(*map(tree_detach, part)) if hasattr(part, "_fields") else tuple(map(tree_detach, part))


def test_gradient_scale_is_its_definition(corpus: EncodedCorpus) -> None:
    model, train, steps = build(corpus, kind="gru"), corpus["train"], 9
    squares = [torch.zeros_like(w) for w in model.parameters()]
    count = 0
    for ids in documents(train):
        state = model.initial_state(1)
        for start in range(0, len(ids), steps):
            nats, _, state = model.training_loss(
                torch.from_numpy(ids[start : start + steps].astype(np.int64))[:, None], state
            )
            state = type(state)(*[tree_detach(part) for part in state])
            for square, g in zip(squares, torch.autograd.grad(nats, list(model.parameters())), strict=True):
                square += g**2
            count += 1
    roots = [(square / count).sqrt() for square in squares]
    mean = torch.cat([root.flatten() for root in roots]).mean()
    for found, root in zip(gradient_scale(model, train, steps), roots, strict=True):
        torch.testing.assert_close(found, root + mean)


@pytest.mark.parametrize("params", KINDS, ids=lambda params: str(params["kind"]))
def test_no_score_depends_on_what_comes_later(corpus: EncodedCorpus, params: dict[str, Any]) -> None:
    model, ids, place = build(corpus, **params), documents(corpus["test"])[2], 100
    scale = gradient_scale(model, head(corpus["train"], 100), RULE.steps)
    changed = ids.copy()
    changed[place:] = (ids[place:].astype(np.int64) + 3) % corpus.vocab_size
    scores, others = (score_dynamically(model, x, RULE, scale) for x in (ids, changed))
    np.testing.assert_array_equal(scores[0][:place], others[0][:place])
    np.testing.assert_array_equal(scores[1][:place], others[1][:place])
    assert (scores[0][place:] != others[0][place:]).mean() > 0.9
    splits = [one_document(corpus["test"], x) for x in (ids, changed)]
    first, second = (cache_log_prob(model, split, 40, [1.0], 1)[0] for split in splits)
    np.testing.assert_allclose(first[:place], second[:place], rtol=1e-12)
    assert not np.array_equal(first[place:], second[place:])


@pytest.mark.parametrize("params", KINDS, ids=lambda params: str(params["kind"]))
def test_nothing_learned_is_the_plain_score(corpus: EncodedCorpus, params: dict[str, Any]) -> None:
    model, test = build(corpus, **params), corpus["test"]
    plain, plain_ranks = score_split(model, test, "stateful", 2)
    scale = gradient_scale(model, corpus["valid"], RULE.steps)
    nats, ranks = zip(
        *[score_dynamically(model, ids, Rule(0.0, 7, 0.1), scale) for ids in documents(test)], strict=True
    )
    np.testing.assert_allclose(np.concatenate(nats), plain, rtol=1e-6)
    np.testing.assert_array_equal(np.concatenate(ranks), plain_ranks)
    (log_cache,) = cache_log_prob(model, test, 20, [1.0], 2)
    np.testing.assert_array_equal(mix_cache(plain, log_cache, 0.0), plain)


def test_documents_and_the_model_stay_apart(corpus: EncodedCorpus) -> None:
    """Each document is read by the trained weights anew, and these are never touched."""
    model, test = build(corpus, kind="lstm"), corpus["test"]
    before = copy.deepcopy(model.state_dict())
    scale = gradient_scale(model, corpus["valid"], RULE.steps)
    scores = dynamic(model, test, RULE, scale)
    for start, ids in reversed(list(zip(test.document_starts, documents(test), strict=False))):
        alone = score_dynamically(model, ids, RULE, scale)[0]
        np.testing.assert_array_equal(alone, scores[start : start + len(ids)])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not model.training and all(w.grad is None for w in model.parameters())


def test_repeated_text_gains(corpus: EncodedCorpus) -> None:
    """What has been read before is less of a surprise, and only then."""
    model, block = build(corpus, kind="gru", init_scale=0.1), np.array(corpus["test"].ids[:40])
    split = one_document(corpus["test"], np.tile(block, 8))
    plain = plain_nats(model, split)
    scale = gradient_scale(model, corpus["train"], 10)
    learned = score_dynamically(model, split.ids, Rule(0.02, 10, 0.0), scale)[0]
    (log_cache,) = cache_log_prob(model, split, 100, [1.0], 1)
    for adapted in (learned, mix_cache(plain, log_cache, 0.5)):
        assert adapted[-40:].mean() < plain[-40:].mean() - 0.2
    assert learned[:10] == pytest.approx(plain[:10], rel=1e-6)


def test_a_model_that_diverges_predicts_nothing_more(corpus: EncodedCorpus) -> None:
    model = build(corpus, kind="rnn_relu")
    scale = gradient_scale(model, corpus["valid"], 5)
    nats, ranks = score_dynamically(model, documents(corpus["test"])[2], Rule(1e200, 5, 0.0), scale)
    assert np.isfinite(nats[:5]).all() and np.isinf(nats[-5:]).all() and not np.isnan(nats).any()
    assert (ranks[-5:] == corpus.vocab_size).all()


def test_an_overflowed_state_leaves_the_model_alone(corpus: EncodedCorpus) -> None:
    model = build(corpus, kind="rnn_relu", recurrent_init="identity", recurrent_scale=1e30).float()
    test = corpus["test"]
    (log_cache,) = cache_log_prob(model, test, 20, [1.0], 2)
    plain = plain_nats(model, test)
    mixed = mix_cache(plain, log_cache, 0.2)
    assert not np.isnan(mixed).any() and np.isnan(log_cache).mean() > 0.5
    np.testing.assert_array_equal(mixed[np.isnan(log_cache)], plain[np.isnan(log_cache)])
