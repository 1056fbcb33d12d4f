"""Arrays of scores become intervals, p-values and corrections for many comparisons.

Comes in: NumPy arrays. Goes out: intervals and p-values. Nothing here knows a cell, a model or a file. There are four
modules, to be read in this order:

    intervals     how far a score may lie from the score on other rows
    permutation   whether a difference on the same rows could be chance
    levels        the interval of an estimate that depends on rows, demonstration draws and training seeds at once
    families      the correction when many comparisons are made together

To add an interval or a test, go to one of these four. `docs/statistics.md` explains them, with the simulations that
check them.
"""

from .families import holm
from .intervals import (
    CONFIDENCE,
    DRAWS,
    MIN_ROWS,
    ROUNDING,
    Array,
    Interval,
    percentile_interval,
    percentiles,
    replicates,
    resample_counts,
    wilson,
)
from .levels import (
    Level,
    MeanChange,
    cluster_sums,
    effective_rows,
    half_width,
    mean_change,
    noise_floor,
    p_value,
    slope_weights,
    smallest_detectable,
    unit_variance,
)
from .permutation import mcnemar, sign_flip, swap_test

__all__ = [
    "CONFIDENCE",
    "DRAWS",
    "MIN_ROWS",
    "ROUNDING",
    "Array",
    "Interval",
    "Level",
    "MeanChange",
    "cluster_sums",
    "effective_rows",
    "half_width",
    "holm",
    "mcnemar",
    "mean_change",
    "noise_floor",
    "p_value",
    "percentile_interval",
    "percentiles",
    "replicates",
    "resample_counts",
    "sign_flip",
    "slope_weights",
    "smallest_detectable",
    "swap_test",
    "unit_variance",
    "wilson",
]
