"""How many more rows or seeds decide: against simulations of studies that have as many."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest

from spillover.stats.levels import Level, mean_change, p_value, smallest_detectable
from spillover.stats.needed import rows_needed, seeds_needed

HALF = 0.05


def chance_of(gaps: np.ndarray) -> list[list[Level]]:
    change = mean_change(gaps[:, None], right_or_wrong=True)
    return [[Level(float(change.variance[0]), change.df)]]


@pytest.mark.parametrize(("gained", "lost"), [(0.25, 0.10), (0.10, 0.02), (0.30, 0.22)])
def test_so_many_rows_find_the_change_in_four_of_five_studies(gained: float, lost: float) -> None:
    rng = np.random.default_rng(7)
    n = 60
    seen = np.repeat([1.0, -1.0, 0.0], [round(n * gained), round(n * lost), n - round(n * gained) - round(n * lost)])
    change = float(seen.mean())
    more = rows_needed(chance_of(seen), n, change, 1 - HALF)
    assert more is not None and more > 0
    odds = np.array([(seen == value).mean() for value in (1.0, -1.0, 0.0)])
    studies = rng.choice([1.0, -1.0, 0.0], size=(n + more, 400), p=odds)
    tested = mean_change(studies, right_or_wrong=True)
    found = [
        p_value(centre, [Level(variance, tested.df)]) < HALF and centre > 0
        for centre, variance in zip(tested.centre.tolist(), tested.variance.tolist(), strict=True)
    ]
    assert 0.74 < np.mean(found) < 0.92  # with few changed answers, the two added rows ask for more than is needed


def test_what_suffices_already_needs_nothing_and_nothing_finds_no_change() -> None:
    chance = [[Level(0.01**2, inf)]]
    assert rows_needed(chance, 100, smallest_detectable(chance[0]) * 1.01, 0.95) == 0
    assert rows_needed(chance, 100, 0.0, 0.95) is None


def test_a_quarter_of_the_variance_takes_four_times_the_rows() -> None:
    chance = [[Level(0.02**2, inf)]]
    assert rows_needed(chance, 100, smallest_detectable(chance[0]) / 2, 0.95) == pytest.approx(300, abs=2)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.03), (2, 0.02)])
def test_so_many_seeds_find_the_change_in_four_of_five_studies(seeds: int, spread: float) -> None:
    """Seeds decide alone. Their spread is estimated from the seeds of the study itself."""
    rng = np.random.default_rng(3)
    change = 0.05
    chance = [[Level(spread**2 / seeds, seeds - 1, "seeds")]]
    more = seeds_needed(chance, seeds, change, 1 - HALF)
    assert more is not None and more > 0
    studies = rng.normal(change, spread, size=(2000, seeds + more))
    found = [p_value(s.mean(), [Level(float(s.var(ddof=1)) / len(s), len(s) - 1)]) < HALF for s in studies]
    assert 0.75 < np.mean(found) < 0.98


def test_seeds_cannot_replace_rows_and_one_seed_says_nothing_of_others() -> None:
    rows, seeds = Level(0.05**2, inf), Level(0.001**2, 4, "seeds")
    assert seeds_needed([[rows, seeds]], 3, 0.01, 0.95) is None
    assert seeds_needed([[rows]], 1, 0.5, 0.95) is None
