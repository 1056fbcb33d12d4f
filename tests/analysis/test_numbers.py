"""How numbers are written."""

from __future__ import annotations

import pytest

from spillover.analysis import numbers
from spillover.stats.intervals import Interval


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "+12.3"), (-0.1234, "−12.3"), (0.0, "0.0"), (-0.0001, "0.0"), (1.0, "+100.0")]
)
def test_signed(value: float, text: str) -> None:
    assert numbers.signed(value) == text


def test_points_and_intervals() -> None:
    assert [numbers.points(value) for value in (0.5, None, float("nan"))] == ["50.0", "–", "–"]
    assert numbers.signed_interval(Interval(-0.02, 0.04)) == "[−2.0, +4.0]"
