"""How sure a number is: intervals, paired tests, what chance comes from, and what is claimed together.

Pure arrays: nothing here knows a cell, a model or a file. Four short chapters, to be read in this order. `intervals`:
how far a score may lie from what other rows would give. `permutation`: whether a difference on the same rows could be
chance. `levels`: an estimate that depends on rows, demonstration draws and training seeds at once is as sure as each of
them lets it be. `families`: how sure one must be of each when many things are claimed together.

`docs/statistics.md` says the same in plain words, with the simulations that check it.
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
