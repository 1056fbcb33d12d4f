"""How numbers are written, wherever they stand: on the page, in the terminal, in Markdown and LaTeX.

Scores are kept from 0 to 1 and written as points of a hundred with one decimal. A change has a sign and a real minus.
"""

from __future__ import annotations

import numpy as np

from ..stats import Interval


def points(value: float | None) -> str:
    """A score from 0 to 1 as points of a hundred."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def signed(value: float) -> str:
    """A change in points, with a sign and a real minus; what rounds to nothing has no sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def signed_interval(interval: Interval) -> str:
    return f"[{signed(interval.low)}, {signed(interval.high)}]"
