"""Permutation tests: whether a difference on the same rows could be chance.

If two models are equally good, their answers can be exchanged on any row, which changes the sign of the row's
difference. The p-value is the share of all exchanges that give a difference at least as large as the observed one; no
distribution is assumed. Dependent rows (a component of the leak audit) are exchanged together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from .intervals import ROUNDING, Array

GRID = 2**13  # steps from 0 to the largest sum: rounding to them moves a sum by some hundredths of its deviation
MANY = 100  # numbers of similar size, whose sum with random signs is normal
HALVINGS = 1000  # 2^-1000 is still a float, 2^-1100 is none: beyond, the ways are halved number by number
SWAPS = 999  # random exchanges, each of which is scored again


def mcnemar(gained: npt.ArrayLike, lost: npt.ArrayLike) -> Array:
    """Exact two-sided p-values of `gained` rows that only we have right, and `lost` rows that only they have right.

    Source: McNemar 1947, in the exact form; as `scipy.stats.binomtest`, for many at once.
    """
    a, b = np.asarray(gained, dtype=np.float64), np.asarray(lost, dtype=np.float64)
    return np.asarray(np.minimum(1.0, 2 * special.bdtr(np.minimum(a, b), (a + b).astype(np.int64), 0.5)))


def sign_flip(differences: npt.ArrayLike) -> Array:
    """Two-sided p-values of the sums of the columns of `differences`, (clusters, m) or (clusters,) to (m,).

    All 2^k ways to sign k numbers are counted, by the sum that they lead to. Multiples of the smallest number are
    counted exactly, others are rounded to a grid. For many numbers of similar size the normal limit is used, with a
    correction for continuity. Sources: Fisher 1935; Pagano and Tritchler 1983.
    """
    columns = np.asarray(differences, dtype=np.float64)
    return np.array([_flipped(column) for column in columns.reshape(len(columns), -1).T])


def _flipped(column: Array) -> float:
    sizes = np.abs(column)
    moved = sizes > ROUNDING * sizes.max(initial=0.0)
    sizes, signs = sizes[moved], np.sign(column[moved])
    if not len(sizes):
        return 1.0
    steps, squares = sizes / sizes.min(), sizes**2
    if steps.max() < 1 + 1e-6:
        return float(mcnemar((signs > 0).sum(), (signs < 0).sum()))
    if steps.sum() > GRID or np.abs(steps - np.rint(steps)).max() > 1e-6:
        if squares.sum() ** 2 >= MANY * (squares**2).sum():
            beyond = max(0.0, abs((signs * sizes).sum()) - sizes.min())
            return float(2 * special.ndtr(-beyond / np.sqrt(squares.sum())))
        steps = sizes / sizes.sum() * GRID
    steps = np.rint(steps).astype(np.int64)
    ways = np.zeros(int(steps.sum()) + 1)  # share of the ways in which the positive numbers have this sum
    ways[0], end = 0.5 ** min(len(steps), HALVINGS), 1
    for number, step in enumerate(np.sort(steps).tolist()):
        end += step
        ways[step:end] += ways[: end - step]
        if number >= HALVINGS:
            ways[:end] /= 2
    sums = np.abs(2 * np.arange(len(ways)) - steps.sum())
    return float(min(1.0, ways[sums >= abs(int((signs * steps).sum()))].sum()))


def swap_test(ours: Array, theirs: Array, score: Callable[[Array], Array]) -> Array:
    """Two-sided p-values, (m,), of differences of scores of whole sets, from additive statistics.

    Each of m sets, (clusters, m, k), is compared with `theirs`, (clusters, k). Clusters change sides at random, and
    both sides are scored again. The observed difference counts as one exchange, so p is never 0 (Phipson and Smyth
    2010). Sources: Noreen 1989; Riezler and Maxwell 2005.
    """
    seen = np.abs(score(ours.sum(axis=0)) - score(theirs.sum(axis=0)))
    half = (ours - theirs[:, None]) / 2
    middle = half.sum(axis=0) + theirs.sum(axis=0)
    shift = np.tensordot(_random_signs(len(ours)), half, axes=1)
    gaps = np.abs(score(middle + shift) - score(middle - shift))
    return np.asarray(((gaps >= seen - ROUNDING).sum(axis=0) + 1) / (len(gaps) + 1))


@lru_cache(maxsize=16)
def _random_signs(n: int) -> Array:
    """Random signs, (SWAPS, n), the same for the same n."""
    return np.asarray(1.0 - 2.0 * np.random.default_rng((1, n)).integers(0, 2, (SWAPS, n)), dtype=np.float64)
