"""Probabilities computed by hand, fallbacks, errors, and models on disk."""

from pathlib import Path

import numpy as np
import pytest

from nextword.config import NgramParams
from nextword.ngram import SMOOTHINGS, NgramModel, count_ngrams, estimate, sparsity
from nextword.ngram import discounts as d

# 0 <eos>, 1 a, 2 b, 3 c (never occurs)
IDS = np.array([1, 2, 1, 0, 1, 2, 0])
COUNTS = count_ngrams(IDS, eos_id=0, max_order=3, vocab_size=4)


def test_mle_by_hand() -> None:
    model = estimate(COUNTS, "mle", 2)
    np.testing.assert_allclose(np.exp(-model.score_ids(IDS)), [1, 2 / 3, 1 / 2, 1 / 3, 1, 2 / 3, 1 / 2])
    assert model.score_ids(np.array([2, 3, 0])).tolist() == [np.inf, np.inf, np.inf]
    assert estimate(COUNTS, "mle", 1).next_distribution([]).tolist() == pytest.approx([2 / 7, 3 / 7, 2 / 7, 0])


def test_add_k_by_hand() -> None:
    model = estimate(COUNTS, "add_k", 2, NgramParams(add_k=0.5))
    np.testing.assert_allclose(model.next_distribution([1]), [1.5 / 5, 0.5 / 5, 2.5 / 5, 0.5 / 5])
    np.testing.assert_allclose(model.next_distribution([3]), [0.25] * 4)  # unseen context
    deeper = estimate(COUNTS, "add_k", 3, NgramParams(add_k=0.5))
    np.testing.assert_allclose(deeper.next_distribution([]), [0.5 / 4, 2.5 / 4, 0.5 / 4, 0.5 / 4])  # <s> alone
    np.testing.assert_allclose(deeper.next_distribution([3, 1]), [0.25] * 4)


def test_kneser_ney_by_hand() -> None:
    model = estimate(COUNTS, "kneser_ney", 2)
    # order 1: different words before <eos> 2 (a, b), a 2 (<s>, b), b 1 (a): D = 1 / (1 + 2 * 2)
    d1 = 1 / 5
    unigram = np.array([2 - d1, 2 - d1, 1 - d1, 0]) / 5 + 3 * d1 / 5 / 4
    # order 2: <s> a 2, a b 2, a <eos> 1, b a 1, b <eos> 1: D = 3 / (3 + 2 * 2)
    d2 = 3 / 7
    after_a = np.array([1 - d2, 0, 2 - d2, 0]) / 3 + 2 * d2 / 3 * unigram
    np.testing.assert_allclose(model.next_distribution([1]), after_a, rtol=1e-13)
    assert model.parameters["discounts"] == pytest.approx([d1, d2])


def test_absolute_discounting_by_hand() -> None:
    model = estimate(COUNTS, "absolute_discounting", 2)
    unigram = np.array([2, 3, 2, 0]) / 7
    # no word occurs once: the stated fallback
    unigram = np.array([1.5, 2.5, 1.5, 0]) / 7 + 3 * 0.5 / 7 / 4
    after_a = np.array([4 / 7, 0, 11 / 7, 0]) / 3 + 2 * (3 / 7) / 3 * unigram
    np.testing.assert_allclose(model.next_distribution([1]), after_a, rtol=1e-13)
    assert model.notes == ("order 1: no n-gram occurs once: discount 0.5 instead of n1 / (n1 + 2 n2)",)


def test_jelinek_mercer_weights_maximise_held_out_likelihood() -> None:
    rng = np.random.default_rng(1)
    ids = np.append(rng.geometric(0.2, 3000).clip(max=9), 0)
    ids[::7] = 0
    train, valid = ids[:2003], ids[2003:]
    counts = count_ngrams(train[: np.flatnonzero(train == 0)[-1] + 1], 0, 1, 10)
    model = estimate(counts, "jelinek_mercer", 1, held_out=valid)
    ml = counts[1].counts[:-1] / counts[1].counts.sum()
    weights = np.linspace(0.001, 0.999, 999)[:, None]
    # with the prior: one event of each outcome
    gain = np.log(weights * ml[valid] + (1 - weights) / 10).sum(1) + (np.log(weights) + np.log(1 - weights))[:, 0]
    best = weights[gain.argmax(), 0]
    fitted = next(w for w in model.parameters["weights"][0] if w != 0.5)
    assert fitted == pytest.approx(best, abs=2e-3)


def test_katz_by_hand() -> None:
    # 10 types once, 4 twice, 2 three times, 1 four times, 1 six times: order-1 Good-Turing with cutoff 2
    counts_of_types = [1] * 10 + [2] * 4 + [3] * 2 + [4] + [6]
    ids = np.append(np.repeat(np.arange(1, 19), counts_of_types), 0)
    counts = count_ngrams(ids, eos_id=0, max_order=1, vocab_size=25)
    model = estimate(counts, "katz", 1, NgramParams(katz_cutoff=2))
    n1, n2, n3 = 11, 4, 2  # <eos> once
    beyond = 3 * n3 / n1
    ratios = [(2 * n2 / n1 - beyond) / (1 - beyond), (3 * n3 / (2 * n2) - beyond) / (1 - beyond)]
    prob = model.next_distribution([])
    np.testing.assert_allclose(prob[[1, 11, 15, 18]], np.array([ratios[0], 2 * ratios[1], 3, 6]) / 35)
    np.testing.assert_allclose(prob[19:], (1 - prob[:19].sum()) / 6)
    assert model.notes == ()


def test_discount_formulas() -> None:
    n = np.array([0, 100, 40, 20, 10])
    y = 100 / 180
    expected = (1 - 2 * y * 0.4, 2 - 3 * y * 0.5, 3 - 4 * y * 0.5)
    assert d.modified(n) == (pytest.approx(expected), None)
    assert d.single(n) == (pytest.approx(y), None)


@pytest.mark.parametrize("n", [[0, 0, 3, 2, 1], [0, 5, 0, 2, 1], [0, 5, 3, 0, 1], [0, 5, 1, 9, 1], [0, 0, 0, 0, 0]])
def test_discounts_that_are_undefined_fall_back(n: list[int]) -> None:
    discount, note = d.modified(np.array(n))
    assert discount == d.MODIFIED_FALLBACK and note is not None and "(0.5, 1.0, 1.5)" in note


def test_good_turing_lowers_its_cutoff() -> None:
    ratios, note = d.good_turing(np.array([0, 100, 40, 20, 0, 3, 2]), 5)
    assert len(ratios) == 3 and note == "Good-Turing is undefined at cutoff 5: cutoff 2 is taken"
    ratios, note = d.good_turing(np.array([0, 1, 0, 1]), 2)
    assert ratios.tolist() == [0, 0.5, 0.75] and note is not None


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("ids", [[0], [0, 0], [1, 0], [1, 1, 1, 1, 0], [1, 2, 3, 0] * 9])
def test_tiny_corpora_never_give_nan(smoothing: str, ids: list[int]) -> None:
    counts = count_ngrams(np.array(ids), eos_id=0, max_order=4, vocab_size=5)
    for order in range(1, 5):
        model = estimate(counts, smoothing, order, held_out=np.array([1, 2, 0]))
        nats = model.score_ids(np.array([4, 0, 1, 2, 3, 0]))
        assert not np.isnan(nats).any()
        assert np.isfinite(nats).all() or smoothing == "mle"
        assert all(not np.isnan(table.log_backoff).any() for table in model.tables)


def test_score_with_state_equals_score_ids() -> None:
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 6, 600)
    ids[-1] = 0
    for order in (1, 2, 4):
        model = estimate(count_ngrams(ids, 0, 4, 6), "modified_kneser_ney", order)
        nats = model.score_ids(ids)
        state = model.initial_state(1)
        pieces = []
        for piece in np.split(ids, [1, 2, 5, 100, 101, 400]):
            log_prob_TB, state = model.score(piece[:, None], state)
            pieces.append(-log_prob_TB[:, 0])
        assert (np.concatenate(pieces) == nats).all()
        # side by side: each line of its own column
        lines = [line for line in np.split(ids, np.flatnonzero(ids == 0) + 1) if len(line) > 3]
        columns = np.stack([line[:3] for line in lines], axis=1)
        log_prob_TB, state = model.score(columns, model.initial_state(len(lines)))
        alone = np.stack([model.score_ids(line[:3]) for line in lines], axis=1)
        assert (-log_prob_TB == alone).all() and state.shape == (order - 1, len(lines))
        with pytest.raises(ValueError, match="start from initial_state"):
            model.score(columns, model.initial_state(len(lines) + 1))


def test_long_texts_are_scored_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = estimate(COUNTS, "kneser_ney", 3)
    ids = np.tile(IDS, 20)
    whole = model.score_ids(ids)
    monkeypatch.setattr("nextword.ngram.model._SCORE_CHUNK", 3)
    assert (model.score_ids(ids) == whole).all()
    assert model.score_ids(ids[:0]).shape == (0,)


@pytest.mark.parametrize("memory_map", [False, True])
def test_save_and_load(tmp_path: Path, memory_map: bool) -> None:
    model = estimate(COUNTS, "modified_kneser_ney", 3)
    model.save(tmp_path)
    back = NgramModel.load(tmp_path, memory_map)
    assert (back.score_ids(IDS) == model.score_ids(IDS)).all()
    assert (back.smoothing, back.order, back.parameters, back.notes) == (
        "modified_kneser_ney", 3, model.parameters, model.notes,
    )  # fmt: skip
    assert back.num_parameters == model.num_parameters and back.num_bytes == model.num_bytes
    assert isinstance(back.tables[1].codes, np.memmap) == memory_map
    (tmp_path / "log_prob_2.npy").unlink()
    with pytest.raises(ValueError, match=r"log_prob_2\.npy is missing"):
        NgramModel.load(tmp_path)


def test_float32_storage() -> None:
    small = estimate(COUNTS, "modified_kneser_ney", 3, dtype=np.float32)
    assert all(table.log_prob.dtype == np.float32 for table in small.tables)
    np.testing.assert_allclose(small.score_ids(IDS), estimate(COUNTS, "modified_kneser_ney", 3).score_ids(IDS), 1e-5)


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown smoothing 'kn'; allowed: mle, add_k"):
        estimate(COUNTS, "kn", 2)
    for order in (0, 4):
        with pytest.raises(ValueError, match=f"order {order} was not counted; give 1 to 3"):
            estimate(COUNTS, "mle", order)
    with pytest.raises(ValueError, match="held_out"):
        estimate(COUNTS, "jelinek_mercer", 2)
    with pytest.raises(ValueError, match="id 9 is not in the vocabulary of 4 ids"):
        estimate(COUNTS, "jelinek_mercer", 2, held_out=np.array([9, 0]))
    with pytest.raises(ValueError, match="id 4 is not in the vocabulary of 4 ids"):
        estimate(COUNTS, "mle", 2).score_ids(np.array([1, 4]))
    with pytest.raises(ValueError, match="float64 or float32"):
        estimate(COUNTS, "mle", 2, dtype=np.int64)


def test_sparsity_by_hand() -> None:
    report = sparsity(COUNTS, np.array([1, 3, 0, 2, 1, 0]))
    assert (report[2]["types"], report[2]["tokens"], report[2]["singletons"]) == (5, 7, 3)
    # <s> a | a c | c <eos> | <s> b | b a | a <eos>
    assert report[2]["unseen_share"] == pytest.approx(3 / 6)
    assert report[2]["zero_probability_share"] == pytest.approx(3 / 6)
    assert report[2]["unseen_context_share"] == pytest.approx(1 / 6)
    # <s> a c | a c <eos> | <s> b a | b a <eos>; first words by their bigrams
    assert report[3]["unseen_share"] == pytest.approx(3 / 4)
    assert report[3]["zero_probability_share"] == pytest.approx(4 / 6)
    assert report[1]["unseen_share"] == pytest.approx(1 / 6)
    for order in (1, 2, 3):
        zero = np.isinf(estimate(COUNTS, "mle", order).score_ids(np.array([1, 3, 0, 2, 1, 0])))
        assert report[order]["zero_probability_share"] == zero.mean()


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_blocks_do_not_matter(smoothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    ids = np.append(rng.geometric(0.3, 500).clip(max=8) - 1, 0)
    models = []
    for size in (1, 7, 1 << 17):
        monkeypatch.setattr("nextword.ngram.counting._SLICE", size)
        monkeypatch.setattr("nextword.ngram.counts._BLOCK", size)
        models.append(estimate(count_ngrams(ids, 0, 4, 9), smoothing, 4, held_out=ids[:100]))
    for model in models[1:]:
        for table, expected in zip(model.tables, models[0].tables, strict=True):
            np.testing.assert_array_equal(table.log_prob, expected.log_prob)
            np.testing.assert_array_equal(table.log_backoff, expected.log_backoff)
