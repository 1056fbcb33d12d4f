"""Intervals of what is measured of a variant."""

from __future__ import annotations

import pytest

from spillover.analysis.measures import divergence_interval
from spillover.work.inspect import Divergence


def test_the_interval_of_a_divergence_is_over_passages() -> None:
    few = divergence_interval(Divergence(((3.0, 1), (1.0, 3), (0.0, 4))))
    assert (few.low, few.high) == (0, 3)  # three passages say little
    steady = divergence_interval(Divergence(((0.2, 2),) * 5))
    assert (steady.low, steady.high) == pytest.approx((0.1, 0.1))
