"""Choices as a table: choices.csv. One row for each alternative of each choice, in the order of their care.

Scores and shares are from 0 to 1, on validation rows. `difference` is that from the best alternative,
`less_base` that from the base.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from .choices import Alternative, Choice


def tidy(made: Iterable[Choice]) -> pd.DataFrame:
    """A row an alternative. A choice that waits for cells has none."""
    return pd.DataFrame([_row(choice, one) for choice in made for one in choice.alternatives])


def _row(choice: Choice, one: Alternative) -> dict[str, Any]:
    value, interval = one.behind or (0.0, None)
    ahead, above = one.ahead or (None, None)
    return {
        "choice": choice.name,
        "alternative": one.name,
        **one.factors,
        "metric": choice.metric,
        "score": one.score,
        "ci_low": one.interval.low,
        "ci_high": one.interval.high,
        "difference": value,
        "difference_ci_low": None if interval is None else interval.low,
        "difference_ci_high": None if interval is None else interval.high,
        "kept_elsewhere": one.kept,
        "shots": None if one.use is None else one.use.shots,
        "prompt": None if one.use is None else one.use.prompt,
        "level": one.level,
        "chosen": one is choice.chosen,
        "n": choice.rows,
        "seeds": choice.seeds,
        "base": choice.base,
        "less_base": ahead,
        "less_base_ci_low": None if above is None else above.low,
        "less_base_ci_high": None if above is None else above.high,
        "base_shots": None if choice.base_use is None else choice.base_use.shots,
        "base_prompt": None if choice.base_use is None else choice.base_use.prompt,
    }
