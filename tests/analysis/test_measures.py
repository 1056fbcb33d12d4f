"""Intervals of what is measured of a variant."""

from __future__ import annotations

import pytest

from spillover.analysis.measures import divergence_interval
from spillover.store.inside import Divergence


def test_the_interval_of_a_divergence_is_over_passages() -> None:
    few = divergence_interval(Divergence(((3.0, 1), (1.0, 3), (0.0, 4))))
    assert few is not None and (few.low, few.high) == (0, 3)  # three passages say little


@pytest.mark.parametrize("passages", [((0.2, 2),), ((0.2, 2),) * 5, ((0.0, 2), (0.0, 3))])
def test_passages_that_are_alike_have_no_interval(passages: tuple[tuple[float, int], ...]) -> None:
    assert divergence_interval(Divergence(passages)) is None
