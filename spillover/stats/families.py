"""What is claimed together is corrected together: the family-wise error rate.

Of twenty true "nothing changed" one looks like a change at the 5 % level. Holm's procedure keeps the chance of even one
false claim in the family at 5 %, whatever the dependence between its members; it is what every claim of the tool goes
through.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .intervals import Array


def holm(p: npt.ArrayLike) -> Array:
    """Adjusted p-values, (m,), in the order given; claim what is below 0.05. Source: Holm 1979.

    The smallest is multiplied by m, the next by m - 1, and so on; none may fall below one before it.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted
