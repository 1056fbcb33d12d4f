"""Could a difference on the same rows be chance? Exchange the two sides row by row and see how often it gets as large.

If it made no difference which of two models answered, then on each row their answers might as well be swapped: the
difference of a row would change its sign. Among all ways of swapping, the share that gives a difference at least as
large as the one seen is an exact p-value; no distribution is assumed. Rows that hang together (a component of the
leak audit) are swapped together.

For answers that are right or wrong this is McNemar's test and needs no swapping. A mean of differences needs signs
alone (`sign_flip`); a score of the whole set, as macro-F1 or BLEU, is scored again after each swap (`swap_test`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from .intervals import ROUNDING, Array

EXACT_UP_TO = 13  # 2^13 ways are fewer than are drawn at random otherwise
SWAPS = 9_999  # p cannot be below 1 in 10,000, which lets 500 things be claimed together
SWAPS_OF_SETS = 999  # where each swap is scored again
MANY = 400  # clusters, from which on the sum of flipped differences is normal to the third digit


def mcnemar(gained: npt.ArrayLike, lost: npt.ArrayLike) -> Array:
    """Exact two-sided p-values of `gained` rows that only ours has right and `lost` rows that only theirs has right.

    Where the two are alike, each row on which they differ is a toss of a coin: the binomial distribution with 1/2.
    Source: McNemar 1947, in the exact form; as `scipy.stats.binomtest`, for many at once.
    """
    a, b = np.asarray(gained, dtype=np.float64), np.asarray(lost, dtype=np.float64)
    return np.asarray(np.minimum(1.0, 2 * special.bdtr(np.minimum(a, b), (a + b).astype(np.int64), 0.5)))


def sign_flip(differences: npt.ArrayLike) -> Array:
    """Two-sided p-values of the sums of the columns of `differences`, (clusters, m) to (m,): signed numbers, one per
    row or cluster of rows. One column may be given as (clusters,).

    All 2^k ways are counted where k of them are not zero and k is small, 9,999 random ones otherwise (and the one
    seen, so that p is never 0: Phipson and Smyth 2010), or, of many, their normal limit. Sources: Fisher 1935; Good
    2005, chapter 3.
    """
    array = np.asarray(differences, dtype=np.float64)
    columns = array.reshape(len(array), -1)
    moved = np.abs(columns) > ROUNDING * np.abs(columns).max(axis=0, initial=0.0)
    k = moved.sum(axis=0)
    spread = np.sqrt((columns**2).sum(axis=0))
    p = 2 * special.ndtr(-np.abs(columns.sum(axis=0)) / np.where(spread > 0, spread, 1.0))
    for j in np.flatnonzero(k <= EXACT_UP_TO):
        p[j] = _share_as_large(_all_signs(int(k[j])), columns[moved[:, j], j][:, None])[0]
    some = np.flatnonzero((k > EXACT_UP_TO) & (k < MANY))
    together = moved[:, some].any(axis=1)
    for of in [some] if together.sum() < MANY else some[:, None]:
        block = columns[moved[:, of].any(axis=1)][:, of]
        p[of] = (_share_as_large(_random_signs(len(block), SWAPS), block) * SWAPS + 1) / (SWAPS + 1)
    return p


def _share_as_large(signs: npt.NDArray[np.int8], columns: Array) -> Array:
    """Of the ways of signing, the share whose sum is at least as far from zero as that of the columns as they are."""
    sums = np.abs(signs.astype(np.float32) @ columns.astype(np.float32))  # seven digits, and twice as quick
    return np.asarray((sums >= np.abs(columns.sum(axis=0)) * (1 - 1e-5)).mean(axis=0))


def swap_test(ours: Array, theirs: Array, score: Callable[[Array], Array]) -> float:
    """Two-sided p-value of the difference of two scores of whole sets, from additive statistics, (clusters, k).

    Approximate randomisation: each cluster's statistics stay or change sides, and both sets are scored again. Sources:
    Noreen 1989; Riezler and Maxwell 2005, who show it safer than the bootstrap for BLEU.
    """
    seen = abs(float(score(ours.sum(axis=0)) - score(theirs.sum(axis=0))))
    middle, half = (ours + theirs).sum(axis=0) / 2, (ours - theirs) / 2
    shift = _random_signs(len(ours), SWAPS_OF_SETS).astype(np.float64) @ half
    gaps = np.abs(score(middle + shift) - score(middle - shift))
    return (int((gaps >= seen - ROUNDING).sum()) + 1) / (len(gaps) + 1)


@lru_cache(maxsize=16)
def _all_signs(n: int) -> npt.NDArray[np.int8]:
    """Every way to sign n numbers, (2^n, n)."""
    ways = np.arange(2**n)[:, None] >> np.arange(n) & 1
    return (1 - 2 * ways).astype(np.int8)


@lru_cache(maxsize=16)
def _random_signs(n: int, ways: int) -> npt.NDArray[np.int8]:
    """Random signs, (ways, n), the same for the same n: 400 numbers in 9,999 ways take 4 MB."""
    return (1 - 2 * np.random.default_rng((1, n)).integers(0, 2, (ways, n), dtype=np.int8)).astype(np.int8)
