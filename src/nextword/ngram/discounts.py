"""How much probability is taken from what was seen, for what was not.

All take the counts of counts n_r: how many n-gram types of one order occur exactly r times.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nextword.ngram.counts import AnyIntArray, IntArray

SINGLE_FALLBACK = 0.5
MODIFIED_FALLBACK = (0.5, 1.0, 1.5)
"""The default of ``lmplz --discount_fallback``."""


def counts_of_counts(counts: AnyIntArray, highest: int) -> IntArray:
    """n_0 ... n_highest, int64; n_0 counts the ids that did not occur (order 1 only)."""
    return np.array([np.count_nonzero(counts == r) for r in range(highest + 1)])


def single(n: IntArray) -> tuple[float, str | None]:
    """D = n1 / (n1 + 2 n2) (Ney, Essen & Kneser 1994), in (0, 1].

    Returns:
        The discount, and a note where n1 = 0 leaves it undefined and ``SINGLE_FALLBACK`` is taken.
    """
    if n[1] == 0:
        return SINGLE_FALLBACK, f"no n-gram occurs once: discount {SINGLE_FALLBACK} instead of n1 / (n1 + 2 n2)"
    return float(n[1] / (n[1] + 2 * n[2])), None


def modified(n: IntArray) -> tuple[tuple[float, float, float], str | None]:
    """D_r = r - (r + 1) Y n_{r+1} / n_r for r = 1, 2, 3+, with Y = n1 / (n1 + 2 n2) (Chen & Goodman 1999, eq. 26).

    Returns:
        The three discounts, and a note where a n_r is zero or a D_r is not in (0, r] and ``MODIFIED_FALLBACK`` is
        taken, as ``lmplz --discount_fallback`` does.
    """
    if (n[1:4] == 0).any():
        missing = int(np.flatnonzero(n[1:4] == 0)[0]) + 1
        return MODIFIED_FALLBACK, f"no n-gram has (adjusted) count {missing}: discounts {MODIFIED_FALLBACK} are taken"
    y = n[1] / (n[1] + 2 * n[2])
    d1, d2, d3 = (float(r - (r + 1) * y * n[r + 1] / n[r]) for r in (1, 2, 3))
    if not (0 < d1 <= 1 and 0 < d2 <= 2 and 0 < d3 <= 3):
        found = ", ".join(f"{d:.4g}" for d in (d1, d2, d3))
        return MODIFIED_FALLBACK, f"discounts {found} are not all in (0, r]: {MODIFIED_FALLBACK} are taken"
    return (d1, d2, d3), None


def good_turing(n: IntArray, cutoff: int) -> tuple[npt.NDArray[np.float64], str | None]:
    """Katz's discount ratios d_0 = 0, d_1 ... d_k, with k = ``cutoff`` (Katz 1987; Chen & Goodman 1999, eq. 13)::

        d_r = (r* / r - m) / (1 - m),    r* = (r + 1) n_{r+1} / n_r,    m = (k + 1) n_{k+1} / n_1

    Needs n_0 ... n_{k+1}. Where a n_r is zero or a d_r is not in (0, 1], the largest lower cutoff for which all is
    well; if there is none, the ratios of absolute discounting, 1 - D / r, up to ``cutoff``.

    Returns:
        (k' + 1,) ratios for counts 0 ... k' <= k; larger counts are not discounted. And a note on what was done.
    """
    for k in range(cutoff, 1, -1):
        if (n[1 : k + 2] == 0).any():
            continue
        r = np.arange(1, k + 1)
        beyond = (k + 1) * n[k + 1] / n[1]
        if beyond >= 1:
            continue
        ratios = ((r + 1) * n[2 : k + 2] / (r * n[1 : k + 1]) - beyond) / (1 - beyond)
        if (ratios > 0).all() and (ratios <= 1).all():
            note = None if k == cutoff else f"Good-Turing is undefined at cutoff {cutoff}: cutoff {k} is taken"
            return np.concatenate([[0.0], ratios]), note
    discount = single(n)[0] if n[2] else SINGLE_FALLBACK  # D = 1 would leave what occurs once with nothing
    ratios = 1 - discount / np.arange(1, cutoff + 1)
    return np.concatenate([[0.0], ratios]), f"Good-Turing is undefined: counts are discounted by {discount:.4g} instead"
