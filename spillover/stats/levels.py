"""What chance enters an estimate by, and how sure it is then: rows, demonstration draws, training seeds, data sets.

A change in accuracy would have come out otherwise on other rows, with other demonstrations, after another training of
the same recipe. Each of these levels gives the estimate a variance, and each variance is known only as well as the
level has units: from 250 rows well, from three seeds hardly. A `Level` is such a pair. The variances add up. What must
not be done is to look the sum up as if it were known as well as its best part: Satterthwaite's approximation, tried
first, claimed in 13 % of simulated comparisons without a difference that had two seeds, and in 6 % instead of 0.25 %
at the level that Holm's correction of twenty claims asks for. So the half-width of an interval is put together from
each level's own, as the long side of a right triangle from the short ones: sqrt(sum of t_l^2 V_l), with Student's t at
the level's own degrees of freedom (Howe 1974; Zou and Donner 2008 call it MOVER). For one level it is Student's
interval; for several it is never too narrow.

Rows are answered once per seed and draw, so the variance by rows already holds the chance that one seed errs on one
row; `unit_variance` tells that share apart, so that it is not counted again at the seeds (Cameron, Gelbach and Miller
2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy import special

from .intervals import CONFIDENCE, ROUNDING, Array

Codes = npt.NDArray[np.int64]
"""The cluster of each row, numbered from 0 without gaps."""


@dataclass(frozen=True, slots=True)
class Level:
    """One source of chance: the variance that an estimate has from it, known with `df` degrees of freedom."""

    variance: float
    df: float


def half_width(levels: Sequence[Level], confidence: float = CONFIDENCE) -> float:
    """Half of the interval's width. Sources: Student 1908; Howe 1974."""
    tail = (1 + confidence) / 2
    return sqrt(sum(level.variance * float(special.stdtrit(level.df, tail)) ** 2 for level in levels))


def p_value(value: float, levels: Sequence[Level]) -> float:
    """Two-sided p-value of an estimate: one minus the confidence at which its interval just reaches zero."""
    live = [level for level in levels if level.variance > 0]
    if not live or abs(value) <= ROUNDING:
        return 1.0 if abs(value) <= ROUNDING else 0.0
    if len(live) == 1:
        return float(2 * special.stdtr(live[0].df, -abs(value) / sqrt(live[0].variance)))
    variances, dfs = np.array([(level.variance, level.df) for level in live]).T
    low, high = -300.0, 0.0  # of log10 p; the half-width falls as p rises
    while high - low > 1e-9:
        middle = (low + high) / 2
        wide = float(variances @ special.stdtrit(dfs, 10**middle / 2) ** 2)
        low, high = (middle, high) if wide > value**2 else (low, middle)
    return float(10**high)


def smallest_detectable(levels: Sequence[Level], power: float = 0.8, confidence: float = CONFIDENCE) -> float:
    """The smallest true effect that a two-sided test at 1 - `confidence` finds with probability `power`.

    Student's quantiles of both, times the standard error, summed over levels as in `half_width`. Source: Bloom 1995.
    """
    return half_width(levels, confidence) + half_width(levels, 2 * power - 1)


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanChange:
    """Means of paired differences, one per column: the `centre` of the interval, its variance by rows, and `df`."""

    centre: Array
    variance: Array
    df: float


def cluster_sums(values: Array, clusters: Codes | None) -> Array:
    """(rows, ...) to (clusters, ...)."""
    if clusters is None:
        return values
    sums = np.zeros((int(clusters.max()) + 1, *values.shape[1:]))
    np.add.at(sums, clusters, values)
    return sums


def mean_change(
    values: Array, clusters: Codes | None = None, right_or_wrong: bool = False, one_answer: float = 1.0
) -> MeanChange:
    """The mean of each column of paired differences `values`, (rows, m), with its cluster-robust variance.

    Deviations from the mean are added up within clusters, then squared (Liang and Zeger 1986), times G / (G - 1) for G
    clusters. Degrees of freedom are those of as many equal clusters as would be worth the same, (sum of sizes)^2 /
    sum of squared sizes, less 1: rows less 1 without clusters.

    Of few answers that are `right_or_wrong` a handful changes, and what was not seen is not impossible. So two rows are
    put in, one that gained and one that lost as much as those that moved did (their root mean square; `one_answer`,
    what one answer moves a row by, where none moved). For one answer a row that is the interval of Bonett and Price
    (2012) with t for z, which keeps its word at 24 rows where the plain one does not. Differences that vary smoothly
    need that only where there are none at all.
    """
    rows = len(values)
    moved = (np.abs(values) > ROUNDING).sum(axis=0)
    none_moved = 2 * one_answer**2 / ((rows + 2) * (rows + 1))  # the variance of two rows among zeros, as below
    if right_or_wrong:
        size = np.where(moved > 0, np.sqrt((values**2).sum(axis=0) / np.maximum(moved, 1)), one_answer)
        values, rows = np.vstack([values, size, -size]), rows + 2
        clusters = None if clusters is None else np.append(clusters, clusters.max() + np.array([1, 2]))
    centre = values.mean(axis=0)
    deviations = cluster_sums(values - centre, clusters)
    g = len(deviations)
    sizes = cluster_sums(np.ones(rows), clusters)
    variance = (deviations**2).sum(axis=0) / rows**2 * g / max(g - 1, 1)
    return MeanChange(centre, np.where(moved > 0, variance, none_moved), _clusters_df(sizes))


def _clusters_df(sizes: Array) -> float:
    """Degrees of freedom of clusters of these sizes."""
    return max(float(sizes.sum() ** 2 / (sizes**2).sum() - 1), 1.0)


def effective_rows(shares: Array, asked: Array, clusters: Codes | None = None) -> tuple[float, float]:
    """How many independent answers are worth as much as these, for `wilson`, and the degrees of freedom of that.

    `shares`, (rows,), of `asked` answers each that are right. One answer a row, each row by itself: the number of rows,
    and no doubt about it. Else p (1 - p) / variance, with the variance of `mean_change`, which has to be estimated: so
    times (z / t)^2, with its degrees of freedom. Before that, no more than there are rows, and as many as there are
    clusters where all are right or all wrong. Source: Korn and Graubard 1998.
    """
    rows = len(shares)
    if clusters is None and (asked == 1).all():
        return float(rows), inf
    p = float((shares * asked).sum() / asked.sum())
    deviations, sizes = cluster_sums((shares - p) * asked, clusters), cluster_sums(asked, clusters)
    g, df = len(sizes), _clusters_df(sizes)
    variance = float((deviations**2).sum() / asked.sum() ** 2) * g / max(g - 1, 1)
    worth = float(g) if p * (1 - p) <= ROUNDING else min(p * (1 - p) / max(variance, ROUNDING**2), float(rows))
    z, t = special.stdtrit([inf, df], (1 + CONFIDENCE) / 2)
    return worth * float(z / t) ** 2, df


# --- draws and seeds --------------------------------------------------------------------------------------------------


def unit_variance(parts: Array, sizes: Array) -> tuple[float, float]:
    """The variance of an estimate from the units of a level, and the share of it that rows have already.

    `parts`, (units, clusters), is what each unit (a seed, a draw) adds to the estimate on each cluster of rows, all of
    it adding up to the estimate; `sizes` is how many rows each cluster has, in any measure. With u units and totals
    s, the first is u / (u - 1) * sum (s - mean s)^2; the second is u n / ((u - 1) (n - 1)) times the sum of squares
    that is left when what units and what clusters have in common is taken off: the two-way analysis of variance
    without replication (Fisher 1925). At least two units.
    """
    units, n = parts.shape
    totals = parts.sum(axis=1)
    by_units = units / (units - 1) * float(((totals - totals.mean()) ** 2).sum())
    left = parts - totals[:, None] * sizes / sizes.sum()
    left = left - left.mean(axis=0)
    return by_units, units * n / ((units - 1) * max(n - 1, 1)) * float((left**2).sum())


def noise_floor(variances: Sequence[float], df: float, confidence: float = CONFIDENCE) -> float:
    """What two trainings of one recipe differ by, at most, in 95 % of cases: t * sqrt(2 * mean variance).

    `variances` of a single training, one per recipe compared; `df` degrees of freedom in all.
    """
    return float(special.stdtrit(df, (1 + confidence) / 2)) * sqrt(2 * float(np.mean(variances)))


def slope_weights(x: Sequence[float]) -> Array:
    """Weights whose product with y is the least-squares slope of y over `x`: (x - mean) / sum (x - mean)^2."""
    centred = np.asarray(x, dtype=np.float64) - np.mean(x)
    return np.asarray(centred / (centred**2).sum())
