"""Intervals of scores: Wilson's for proportions, the bootstrap for the rest.

The bootstrap draws n of the n rows with replacement, scores them, repeats this, and takes the middle of the scores. All
draws are one matrix: how often each row occurs in each draw. All their scores are one matrix product with additive row
statistics. Two scores on the same rows use the same draws, so their difference is paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
DRAWS = 2000  # the ends of an interval move by a few hundredths of its width from seed to seed
MIN_ROWS = 10  # fewer rows show too little of what other rows could be to claim anything
ROUNDING = 1e-9  # sums of the same numbers in another order differ by less


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, both ends included."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        return self.low > ROUNDING or self.high < -ROUNDING


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval for a proportion: within 0 and 1, with a width at 0 of n. Source: Wilson 1927.

    `n` may be an effective number of rows (`levels.effective_rows`).
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, zz = successes / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    spread = z / (1 + zz / n) * sqrt(p * (1 - p) / n + zz / (4 * n * n))
    return Interval(max(0.0, centre - spread), min(1.0, centre + spread))


@lru_cache(maxsize=24)
def resample_counts(n: int, seed: int = 0, draws: int = DRAWS) -> Array:
    """How often each of `n` rows occurs in each bootstrap draw, (draws, n). Rows of one n and seed share draws."""
    counts = np.random.default_rng((seed, n)).multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float64)
    counts.flags.writeable = False  # it is shared
    return counts


def replicates(statistics: Array, score: Callable[[Array], Array], seed: int = 0) -> Array:
    """The score of each bootstrap draw, (draws, ...), from the rows' additive statistics, (rows, ..., k).

    Source: Efron and Tibshirani 1993, chapters 13 and 16.
    """
    return score(np.tensordot(resample_counts(len(statistics), seed), statistics, axes=1))


def percentiles(values: Array, n: int, confidence: float = CONFIDENCE) -> Array:
    """The ends of an interval from bootstrap replicates of `n` rows, (draws, ...) to (2, ...).

    With few rows, the middle 95 % of replicates is too narrow. The expanded percentile interval leaves out less at each
    end, so that for a mean it is as wide as Student's interval. Source: Hesterberg 2015, section 5.3.
    """
    t = special.stdtrit(max(n - 1, 1), (1 + confidence) / 2)
    outside = special.ndtr(-t * sqrt(n / max(n - 1, 1)))
    return np.asarray(np.quantile(values, [outside, 1 - outside], axis=0))


def with_unseen(ends: Array, values: Array, of_rows: Array, lowest: float = 0.0) -> Array:
    """Bootstrap `ends`, (2, m), of `values`, (m,), between `lowest` and 1, that take rows into account that never came.

    `of_rows`, (rows, m), is each row's own value. If more than half of the rows have the same one, the draws vary
    little or not at all, and other rows may still have any. So the interval holds what comes out if as many rows as may
    have gone unseen (Wilson's upper end for 0 of n) were all at one bound. If all rows score 1, it is Wilson's.
    """
    n = len(of_rows)
    alike = 2 * (np.abs(of_rows - np.median(of_rows, axis=0)) <= ROUNDING).sum(axis=0) > n
    unseen = wilson(0, n).high
    low, high = values - unseen * (values - lowest), values + unseen * (1 - values)
    return np.where(alike, [np.minimum(ends[0], low), np.maximum(ends[1], high)], ends)


def percentile_interval(values: Array, n: int) -> Interval:
    """`percentiles` of one score, as an interval."""
    return Interval(*map(float, percentiles(values, n)))
