"""Jelinek-Mercer smoothing: linear interpolation with weights fitted on held-out text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nextword.ngram.build import Block, Request, Rule, TableBuilder
from nextword.ngram.counts import FloatArray, IntArray, OrderCounts, check_ids
from nextword.ngram.lookup import Match, initial_context, match
from nextword.ngram.model import NgramModel

_TOLERANCE = 1e-7
"""EM stops when no weight moves further than this."""
_MAX_ROUNDS = 500


def jelinek_mercer(request: Request) -> NgramModel:
    """Jelinek & Mercer (1980), recursive as in Chen & Goodman (1999), eq. 12::

        p(w | h) = lambda(h) c(h w) / c(h) + (1 - lambda(h)) p(w | h'),    uniform below order 1

    The contexts of an order are tied in buckets by the mean count of the words seen after them, c(h) / N1+(h .)
    (Chen & Goodman 1996), two buckets an octave. The weights of a bucket are fitted by EM on the held-out text, from
    the lowest order up. One event of each outcome is added to each bucket (a Beta(2, 2) prior): a weight is never 0
    or 1, and a bucket that held-out text does not visit has weight 1/2.

    Raises:
        ValueError: no held-out text.
    """
    if request.held_out is None or len(request.held_out) == 0:
        raise ValueError("jelinek_mercer needs held-out text to fit its weights; give the ids of valid as `held_out`")
    counts = request.counts
    held_out = np.asarray(request.held_out)
    check_ids(held_out, counts.vocab_size)
    builder = TableBuilder(request)
    codes = [counts[k].codes for k in range(1, request.order + 1)]
    state = initial_context(request.order, 1, counts.bos)
    lower_prob_T = np.full(len(held_out), 1 / counts.vocab_size)
    fitted: list[list[float]] = []
    for found in match(codes, held_out[:, None], state, counts.vocab_size, counts.eos_id):
        level = counts[len(fitted) + 1]
        totals = level.sum_by_context(level.counts)
        scale = 1 / np.maximum(totals, 1)
        buckets = _buckets(totals, level.fan_out)
        ml_prob_T, bucket_T = _held_out_events(found, level, scale, buckets)
        weights = _fit(ml_prob_T, lower_prob_T, bucket_T, int(buckets.max(initial=0)) + 1)
        weight_T = np.where(bucket_T >= 0, weights[bucket_T], 0.0)
        lower_prob_T = weight_T * ml_prob_T + (1 - weight_T) * lower_prob_T
        builder.add(level, _rule(weights[buckets], scale))
        fitted.append([round(float(w), 6) for w in weights])
    return builder.finish("jelinek_mercer", weights=fitted, buckets="floor(2 log2(c(h) / N1+(h .)))")


def _rule(weight: FloatArray, scale: FloatArray) -> Rule:
    def rule(block: Block) -> tuple[FloatArray, FloatArray]:
        own, mass = weight[block.contexts] * scale[block.contexts], 1 - weight[block.contexts]
        return block.mix(block.level.counts, own, mass), mass

    return rule


def _buckets(totals: IntArray, fan_out: IntArray) -> IntArray:
    """(T',) bucket of each context."""
    mean_count = np.maximum(totals, fan_out).clip(min=1) / np.maximum(fan_out, 1)
    buckets: IntArray = np.floor(2 * np.log2(mean_count)).astype(np.int64)
    return buckets


def _held_out_events(
    found: Match, level: OrderCounts, scale: npt.NDArray[np.float64], buckets: IntArray
) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Maximum-likelihood probability of each held-out word, and the bucket of its context (-1: context not seen)."""
    ngrams_T, contexts_T = found.ngrams_TB[:, 0], found.contexts_TB[:, 0]
    known_T = contexts_T >= 0
    known_T[known_T] = level.fan_out[contexts_T[known_T]] > 0
    ml_prob_T = np.zeros(len(ngrams_T))
    seen_T = ngrams_T >= 0
    ml_prob_T[seen_T] = level.counts[ngrams_T[seen_T]] * scale[contexts_T[seen_T]]
    bucket_T = np.full(len(ngrams_T), -1, dtype=np.int64)
    bucket_T[known_T] = buckets[contexts_T[known_T]]
    return ml_prob_T, bucket_T


def _fit(
    ml_prob_T: npt.NDArray[np.float64], lower_prob_T: npt.NDArray[np.float64], bucket_T: IntArray, num_buckets: int
) -> npt.NDArray[np.float64]:
    """EM for the weight of each bucket: the mean posterior of the higher order over the bucket's events."""
    known_T = bucket_T >= 0
    ml, lower, bucket = ml_prob_T[known_T], lower_prob_T[known_T], bucket_T[known_T]
    num_events = np.bincount(bucket, minlength=num_buckets)
    weights = np.full(num_buckets, 0.5)
    for _ in range(_MAX_ROUNDS):
        high = weights[bucket] * ml
        posterior = high / (high + (1 - weights[bucket]) * lower)
        updated = (np.bincount(bucket, posterior, minlength=num_buckets) + 1) / (num_events + 2)
        moved = np.abs(updated - weights).max()
        weights = updated
        if moved < _TOLERANCE:
            break
    return weights
