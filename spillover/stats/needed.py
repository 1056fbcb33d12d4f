"""How much more evidence would decide: rows, or training seeds.

A change is found if it is larger than the smallest detectable one (`levels.smallest_detectable`). More rows divide the
variance between rows, and more seeds that between seeds. Each also makes its variance better known. So the smallest
detectable change is computed for more and more of them, until it is as small as the change to be found. This takes the
observed spread as the true one: it is a plan, and no promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from .levels import Level, smallest_detectable

MOST_TIMES = 1000.0  # as many rows as there are
MOST_SEEDS = 50
POWER = 0.8

Chance = Sequence[Sequence[Level]]
"""The views of an effect's uncertainty (`contrasts.Effect.chance`): the least certain one counts."""


def rows_needed(chance: Chance, rows: int, change: float, confidence: float) -> int | None:
    """How many rows beside the `rows` there are find a true `change` with 80 % power; None if no number does.

    It is 0 if they suffice already. All test sets of an effect grow alike.
    """
    low, high = 1.0, MOST_TIMES
    if _detectable(chance, confidence, times=high) > abs(change):
        return None
    if _detectable(chance, confidence) <= abs(change):
        return 0
    while high / low > 1.001:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _detectable(chance, confidence, times=middle) > abs(change) else (low, middle)
    return ceil(rows * (high - 1))


def seeds_needed(chance: Chance, seeds: int, change: float, confidence: float) -> int | None:
    """How many trainings beside the `seeds` of each recipe find a true `change`; None if seeds alone do not.

    With one seed the effect is about that checkpoint, and other trainings say nothing about it.
    """
    if seeds < 2:
        return None
    for more in range(MOST_SEEDS):
        if _detectable(chance, confidence, seeds=(seeds, seeds + more)) <= abs(change):
            return more
    return None


def _detectable(chance: Chance, confidence: float, times: float = 1.0, seeds: tuple[int, int] = (2, 2)) -> float:
    grown = [[_grown(level, times, seeds) for level in levels] for levels in chance]
    return max(smallest_detectable(levels, POWER, confidence) for levels in grown)


def _grown(level: Level, times: float, seeds: tuple[int, int]) -> Level:
    """The level with so many times the rows, or with more seeds."""
    if level.of == "rows":
        return Level(level.variance / times, level.df * times, level.of)
    if level.of == "seeds":
        before, after = seeds
        return Level(level.variance * before / after, level.df * (after - 1) / (before - 1), level.of)
    return level
