"""Corrects p-values of comparisons that are claimed together: the family-wise error rate.

At the 5 % level one of twenty true "nothing changed" looks like a change. Holm's procedure keeps the probability of
even one false claim in the family at 5 %, however its members depend on each other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .intervals import Array


def holm(p: npt.ArrayLike) -> Array:
    """Adjusted p-values, (m,), in the order given; claim those below 0.05. Source: Holm 1979."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted
