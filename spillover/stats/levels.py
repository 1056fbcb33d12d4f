"""The uncertainty of an estimate that depends on rows, demonstration draws, training seeds and data sets at once.

Each level adds a variance to the estimate. A few units show a variance poorly: 250 rows show it well, three seeds do
not. So a `Level` is a variance with its degrees of freedom, and each level has its own half-width, with Student's t at
its own degrees of freedom. The half-width of the interval is the root of the sum of their squares: sqrt(sum of t_l^2
V_l) (Howe 1974; Zou and Donner 2008 call it MOVER). Satterthwaite's approximation claims too much with few seeds
(`docs/statistics.md`). The errors of one seed on single rows are part of both spreads, of rows and of seeds.
`unit_variance` gives that share, so that it is counted once (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from .intervals import CONFIDENCE, ROUNDING, Array

Codes = npt.NDArray[np.int64]
"""The cluster of each row, numbered from 0 without gaps."""

FULL_CHANGES = 3  # with 3, four settings that move together are covered as well as one is (docs/statistics.md)


@dataclass(frozen=True, slots=True)
class Level:
    """The variance of an estimate from one level, known with `df` degrees of freedom. `of` says from which."""

    variance: float
    df: float
    of: Literal["rows", "draws", "seeds"] = "rows"


def half_width(levels: Sequence[Level], confidence: float = CONFIDENCE) -> float:
    """Half of the interval's width. Sources: Student 1908; Howe 1974."""
    tail = (1 + confidence) / 2
    return sqrt(sum(level.variance * float(special.stdtrit(level.df, tail)) ** 2 for level in levels))


def p_value(value: float, levels: Sequence[Level]) -> float:
    """Two-sided p-value: one minus the confidence at which the interval just reaches zero."""
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
    """The smallest true effect that a two-sided test at 1 - `confidence` finds with probability `power`. Bloom 1995."""
    return half_width(levels, confidence) + half_width(levels, 2 * power - 1)


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
    values: Array,
    clusters: Codes | None = None,
    right_or_wrong: bool = False,
    full_change: float = 1.0,
    unmoved: Array | None = None,
) -> MeanChange:
    """The mean of each column of paired differences `values`, (rows, m), with its cluster-robust variance.

    Deviations from the mean are added up within clusters, then squared (Liang and Zeger 1986).

    Few rows may have changed, and zero observed changes do not mean zero probability. So two rows are added, one that
    gained and one that lost. A row may hold the mean of answers to one document in several settings, and these may
    change together by up to `full_change`, though only single ones were seen to change. So if answers are
    `right_or_wrong`, the two rows have the root mean square of the changes seen and of `FULL_CHANGES` full ones. With
    one answer a row this is the interval of Bonett and Price (2012) with t for z.

    Other differences get the two rows only if more than half of the rows have the same difference, zero or another one.
    The two differ from it by the root mean square of what the other rows do, or by one full change if there are none.

    `unmoved`, (rows, m), are the values of rows whose answers did not change, where these are not zero. This is so if
    only a share of one side is subtracted.
    """
    still = np.zeros_like(values) if unmoved is None else unmoved
    change = values - still
    common = np.zeros(values.shape[1]) if right_or_wrong else np.median(change, axis=0)
    moved = (np.abs(change - common) > ROUNDING).sum(axis=0)
    seen, full = ((change - common) ** 2).sum(axis=0), full_change**2
    common = common + still.mean(axis=0)
    if right_or_wrong:
        return _padded(values, clusters, common, np.sqrt((seen + FULL_CHANGES * full) / (moved + FULL_CHANGES)))
    plain = _mean(values, clusters)
    padded = _padded(values, clusters, common, np.sqrt(np.where(moved > 0, seen / np.maximum(moved, 1), full)))
    few = 2 * moved < len(values)
    centre, variance = (np.where(few, getattr(padded, name), getattr(plain, name)) for name in ("centre", "variance"))
    return MeanChange(centre, variance, plain.df)


def _padded(values: Array, clusters: Codes | None, common: Array, size: Array) -> MeanChange:
    """The mean of `values` and of two more rows, each a cluster of its own: `common`, (m,), plus and minus `size`."""
    if clusters is not None:
        clusters = np.append(clusters, clusters.max() + np.array([1, 2]))
    return _mean(np.vstack([values, common + size, common - size]), clusters)


def _mean(values: Array, clusters: Codes | None) -> MeanChange:
    rows, centre = len(values), values.mean(axis=0)
    deviations, sizes = cluster_sums(values - centre, clusters), cluster_sums(np.ones(rows), clusters)
    g = len(deviations)
    variance = (deviations**2).sum(axis=0) / rows**2 * g / max(g - 1, 1)
    return MeanChange(centre, variance, _clusters_df(sizes))


def _clusters_df(sizes: Array) -> float:
    """Degrees of freedom: the number of equal clusters that are worth as much as clusters of these sizes, less 1."""
    return max(float(sizes.sum() ** 2 / (sizes**2).sum() - 1), 1.0)


def effective_rows(shares: Array, asked: Array, clusters: Codes | None = None) -> tuple[float, float]:
    """How many independent answers are worth as much as these, for `wilson`, and the degrees of freedom of that number.

    `shares`, (rows,), are right of each row's `asked` answers. Independent rows with one answer each count in full.
    Otherwise the number is p (1 - p) / variance, at most the rows; if all answers are right, or all wrong, it is the
    number of clusters. Since the variance is estimated, it is multiplied by (z / t)^2. Source: Korn and Graubard 1998.
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


def unit_variance(parts: Array, sizes: Array) -> tuple[float, float]:
    """The variance of an estimate from two or more units of a level, and the share of it that rows show already.

    `parts`, (units, clusters), is what each unit (a seed, a draw) adds to the estimate on each cluster of rows. `sizes`
    are the clusters' rows, in any measure. The share is the residual of a two-way analysis of variance (Fisher 1925).
    """
    units, n = parts.shape
    totals = parts.sum(axis=1)
    by_units = units / (units - 1) * float(((totals - totals.mean()) ** 2).sum())
    left = parts - totals[:, None] * sizes / sizes.sum()
    left = left - left.mean(axis=0)
    return by_units, units * n / ((units - 1) * max(n - 1, 1)) * float((left**2).sum())


def floor(level: Level, confidence: float = CONFIDENCE) -> float:
    """What a difference is at most, in 95 % of cases, if noise alone makes it: other seeds, or rounding."""
    return half_width([level], confidence)


def slope_weights(x: Sequence[float]) -> Array:
    """Weights whose product with y is the least-squares slope of y over `x`: (x - mean) / sum (x - mean)^2."""
    centred = np.asarray(x, dtype=np.float64) - np.mean(x)
    return np.asarray(centred / (centred**2).sum())
