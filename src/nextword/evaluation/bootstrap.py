"""Difference of two models' loss, with an interval over other documents and other seeds at once.

Shapes: S seeds (of one side), D blocks (documents, or parts of them), N targets of a split.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nextword.evaluation.statistics import Difference, t_quantile

Floats = NDArray[np.float64]

_GROWTH = 1.5
"""Power of its size with which the variance of a block's sum is taken to grow."""


@dataclass(frozen=True)
class Crossed(Difference):
    """A difference in nats a target, the interval being over documents and seeds."""

    effect: float | None = None
    """Cohen's d_z over blocks with Hedges' correction: mean difference in standard deviations between blocks."""
    num_blocks: int = 0
    freedom: float | None = None
    """Degrees of freedom of the t-quantile."""
    documents_share: float | None = None
    """Share of the variance that is due to documents; the rest is due to seeds."""


def block_edges(
    document_starts: ArrayLike, line_starts: ArrayLike, block_tokens: int | None = None
) -> NDArray[np.int64]:
    """Cut a split into the blocks that are resampled.

    Args:
        document_starts: (num_documents + 1,) offsets, ``split.document_starts``.
        line_starts: (num_lines + 1,) offsets, ``split.line_starts``.
        block_tokens: about how many tokens a block has; None for whole documents. Blocks are whole lines and none
            crosses a document. Blocks of one document are more alike than documents are: an interval over them says
            less about other documents.

    Returns:
        (D + 1,) offsets: block d holds targets edges[d] to edges[d + 1].

    >>> block_edges([0, 6, 8], [0, 2, 4, 6, 8], 3)
    array([0, 2, 6, 8])
    """
    documents = np.unique(np.asarray(document_starts, np.int64))  # an empty document is no block
    if block_tokens is None:
        return documents
    lines = np.asarray(line_starts, np.int64)
    edges = [documents]
    for start, end in pairwise(documents):
        inside = lines[(lines > start) & (lines < end)]
        parts = min(round((end - start) / block_tokens), len(inside) + 1)
        wanted = np.linspace(start, end, max(parts, 1) + 1)[1:-1]
        if len(wanted):
            edges.append(inside[np.abs(inside[:, None] - wanted).argmin(0)])
    return np.unique(np.concatenate(edges))


def block_sums(nats_N: ArrayLike, edges: NDArray[np.int64]) -> Floats:
    """Nats of each block.

    Args:
        nats_N: (N,) of every target in corpus order; may be infinite.
        edges: (D + 1,) of :func:`block_edges`.

    Returns:
        (D,) sums.

    Raises:
        ValueError: the edges do not cover the targets.

    >>> block_sums([1.0, 2.0, 4.0], np.array([0, 2, 3]))
    array([3., 4.])
    """
    nats = np.asarray(nats_N, np.float64)
    if edges[0] != 0 or edges[-1] != len(nats):
        raise ValueError(f"blocks go from {edges[0]} to {edges[-1]}, but there are {len(nats)} targets")
    return np.add.reduceat(nats, edges[:-1])


def crossed_difference(
    a_SD: ArrayLike,
    b_SD: ArrayLike,
    sizes_D: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2_000,
    *,
    a_exact: bool = False,
    b_exact: bool = False,
    seed: int = 0,
) -> Crossed:
    """Nats a target of ``a`` less those of ``b``: of perplexities, the logarithm of a / b.

    Documents and seeds both are samples, and each seed scores every document: the two are crossed. The difference is
    the ratio of sums ``sum_d (mean_s a_sd - mean_s b_sd) / sum_d n_d``; the variance has these parts::

        V = V_documents + V_seeds(a) + V_seeds(b) - I(a) - I(b),   never below V_documents or the two V_seeds

    - V_documents: bootstrap over blocks, both sides resampled alike (paired), the seeds held; see :func:`_resample`.
    - V_seeds: variance of a side's figure over its S seeds, divided by S.
    - I: what seeds and documents do together, which is in both parts above: the same bootstrap of each seed's
      deviation from the mean of its side's seeds.

    The interval is ``mean +- t(freedom) sqrt(V)`` with Satterthwaite's degrees of freedom from those of the parts.
    Percentiles of resampled documents and seeds would be far too narrow with a few of either. Simulated with 6 to 20
    documents, equal or not, and 2 to 5 seeds a side, the 95% interval covers 94% to 97.5% whether documents, seeds or
    both decide. It falls to 90% where seeds alone decide and the one side has two and ten times the other's spread.

    Resampling of two crossed factors: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007).

    Args:
        a_SD: (S_a, D) nats summed over each block, a row a seed.
        b_SD: (S_b, D) the same of the other side; its seeds are draws of their own, not paired with those of ``a``.
        sizes_D: (D,) targets of each block.
        confidence: of the interval, between 0 and 1.
        resamples: of documents, at least two.
        a_exact: ``a`` has no seeds (an n-gram model): one row, no variance.
        b_exact: the same of ``b``.
        seed: of the resampling. The same arguments give the same bits.

    Returns:
        the difference. ``low`` and ``high`` are None, ``method`` is "none", where there is one block only, where a
        side that is not exact has one seed, and where nats are infinite.

    Raises:
        ValueError: shapes that do not fit, an empty block, nats that are no number, an exact side of several rows.

    >>> gap = crossed_difference([[3.0, 2.0], [5.0, 4.0]], [[1.0, 2.0]], [2, 2], b_exact=True)
    >>> gap.mean, gap.num_blocks
    (1.0, 2)
    """
    sizes = np.asarray(sizes_D, np.float64)
    a, b = (_side(values, sizes, exact) for values, exact in ((a_SD, a_exact), (b_SD, b_exact)))
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, e.g. 0.95; got {confidence}")
    if resamples < 2:
        raise ValueError(f"a bootstrap needs at least 2 resamples, better 1000; got {resamples}")
    targets, blocks = float(sizes.sum()), len(sizes)
    center = float(a.mean(0).sum()) / targets - float(b.mean(0).sum()) / targets
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Crossed(center, None, None, "none", num_blocks=blocks)
    gap_D = a.mean(0) - b.mean(0)
    effect = _effect(gap_D, sizes)
    if blocks < 2 or (len(a) < 2 and not a_exact) or (len(b) < 2 and not b_exact):
        return Crossed(center, None, None, "none", effect=effect, num_blocks=blocks)

    spread_DD, freedom = _resample(tuple(sizes.tolist()), resamples, seed)
    documents = _quadratic(gap_D, spread_DD)
    parts, interaction = [(documents, freedom)], 0.0
    for side, exact in ((a, a_exact), (b, b_exact)):
        if not exact:
            seeds = len(side)
            parts.append((float(side.sum(1).var(ddof=1)) / targets**2 / seeds, seeds - 1.0))
            interaction += sum(_quadratic(row, spread_DD) for row in side - side.mean(0)) / (seeds * (seeds - 1))
    total = math.fsum(part for part, _ in parts)
    if total == 0.0:
        return Crossed(center, center, center, "crossed bootstrap", effect=effect, num_blocks=blocks)
    variance = max(total - interaction, documents, total - documents)
    freedom = total**2 / math.fsum(part**2 / own for part, own in parts)
    half = t_quantile(confidence, freedom) * math.sqrt(variance)
    return Crossed(
        center, center - half, center + half, "crossed bootstrap",
        effect=effect, num_blocks=blocks, freedom=freedom, documents_share=documents / total,
    )  # fmt: skip


def _side(nats_SD: ArrayLike, sizes: Floats, exact: bool) -> Floats:
    nats = np.asarray(nats_SD, np.float64)
    if nats.ndim != 2 or not nats.size or nats.shape[1:] != sizes.shape:
        raise ValueError(f"nats of shape {nats.shape} for blocks of shape {sizes.shape}; both sides must be (S, D)")
    if not (sizes > 0).all():
        raise ValueError("a block has no targets; leave empty documents out (block_edges does)")
    if np.isnan(nats).any():
        raise ValueError("nats hold a value that is not a number")
    if exact and len(nats) > 1:
        raise ValueError(f"an exact side is one row of nats; got {len(nats)} seeds")
    return nats


@lru_cache(maxsize=64)
def _resample(sizes: tuple[float, ...], resamples: int, seed: int) -> tuple[Floats, float]:
    """Bootstrap the blocks once for all pairs of models.

    A resample turns sums x_D of blocks into ``sum_d p_d x_d``, p_d being how often block d was drawn by the targets
    drawn. So the variance of any such figure over the resamples is ``x K x``, K the covariance of p.

    K is scaled so that the variance is unbiased, and its degrees of freedom are taken (Bell & McCaffrey 2002; Imbens &
    Kolesar, Review of Economics and Statistics 98, 2016), where the variance of a sum goes with n_d^1.5: between
    targets that are independent (n_d) and documents that differ as wholes (n_d^2). With equal blocks the factor is
    D / (D - 1) and the degrees of freedom are D - 1, but for the chance in the resamples.

    Returns:
        (D, D) K, and the degrees of freedom.
    """
    size_D = np.array(sizes)
    drawn = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1.0 / len(sizes)), resamples)
    share_BD = drawn / np.einsum("bd,d->b", drawn, size_D)[:, None]
    share_BD -= share_BD.mean(0)
    spread_DD = np.einsum("bd,be->de", share_BD, share_BD) / (resamples - 1)  # not @: same bits with any BLAS
    expected_D = size_D**_GROWTH
    scaled_DD = spread_DD * expected_D
    factor = float(expected_D.sum()) / float(size_D.sum()) ** 2 / float(np.trace(scaled_DD))
    freedom = float(np.trace(scaled_DD)) ** 2 / float((scaled_DD * scaled_DD.T).sum())
    return spread_DD * factor, freedom


def _quadratic(values_D: Floats, spread_DD: Floats) -> float:
    return max(float(np.einsum("d,de,e->", values_D, spread_DD, values_D)), 0.0)


def _effect(gap_D: Floats, sizes: Floats) -> float | None:
    """Mean over standard deviation of the blocks' differences a target, blocks weighted by size; Hedges (1981).

    None below three blocks, where Hedges' correction is zero, and where all blocks differ alike.
    """
    freedom = len(sizes) - 1
    weights = sizes / sizes.sum()
    gaps = gap_D / sizes
    mean = float((weights * gaps).sum())
    variance = float((weights * (gaps - mean) ** 2).sum()) / (1.0 - float((weights**2).sum())) if freedom else 0.0
    if freedom < 2 or math.sqrt(variance) <= 1e-9 * abs(mean):  # below: rounding
        return None
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return correction * mean / math.sqrt(variance)
