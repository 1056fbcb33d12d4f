"""Strategies at equal gain: a loss is compared where the other strategy gains as much, along its curve."""

from __future__ import annotations

from dataclasses import replace

import grids
import numpy as np
import pytest
from madescores import BASE, results_of

from spillover.analysis.equal_gain import EqualGain, curves, equal_gains
from spillover.plan.grid import Variant
from spillover.report.equal_gain import OURS, figure

N = 200
SCORES = np.random.default_rng(1).uniform(0.3, 0.6, N)


def trained(name: str, strategy: str, rate: float, seed: int = 0, against: str | None = None) -> Variant:
    recipe = f"{strategy} {rate:g}"
    made = grids.trained(name, strategy, "data", "task", size=100, rate=rate, seed=seed, recipe=recipe)
    return replace(made, against=against)


LOW, HIGH = trained("ft-low", "ft", 1e-5), trained("ft-high", "ft", 1e-4)
OTHER = trained("other", "other", 1e-5, against="ft")


def beside(noise: float = 0.02, rows: int = N, **moved: tuple[float, float]) -> EqualGain:
    """`other` beside `ft`, from (gain, change elsewhere) of each variant by its name."""
    rng = np.random.default_rng(2)
    scores = {("base", test, 0, "p1", 0): SCORES[:rows] for test in ("in", "out")}
    for name, changes in moved.items():
        for test, by in zip(("in", "out"), changes, strict=True):
            drawn = rng.normal(size=rows)
            scores[name.replace("_", "-"), test, 0, "p1", 0] = SCORES[:rows] + by + noise * (drawn - drawn.mean())
    known = [BASE, *(replace(one, key=one.name) for one in (LOW, HIGH, OTHER))]
    (found,) = equal_gains(results_of(scores, known=known))
    return found


def test_a_loss_is_compared_at_the_same_gain_between_two_rates() -> None:
    found = beside(ft_low=(0.1, -0.02), ft_high=(0.3, -0.20), other=(0.2, -0.05))
    assert found.between == ("ft-low", "ft-high") and not found.beyond
    assert found.reference == pytest.approx(-0.11) and found.outside == pytest.approx(-0.05)
    assert found.effect.value == pytest.approx(0.06) and found.effect.interval.low > 0.03 and found.effect.is_clear


def test_a_strategy_that_only_learns_less_has_no_advantage() -> None:
    """It loses a tenth of what ft loses, and gains a tenth of it: so does ft on the way from the base."""
    found = beside(ft_low=(0.2, -0.10), ft_high=(0.3, -0.20), other=(0.02, -0.01))
    assert found.between == ("base", "ft-low") and found.effect.value == pytest.approx(0.0, abs=1e-9)
    assert found.effect.interval.low < 0 < found.effect.interval.high


def test_the_uncertainty_of_the_gains_counts_by_the_slope_of_the_curve() -> None:
    """On a steep curve, a gain that is uncertain makes the loss at that gain uncertain."""
    flat = beside(noise=0.1, ft_low=(0.1, -0.10), ft_high=(0.3, -0.10), other=(0.2, -0.10)).effect.interval.half_width
    steep = beside(noise=0.1, ft_low=(0.1, 0.00), ft_high=(0.3, -0.40), other=(0.2, -0.10)).effect.interval.half_width
    assert steep > 1.5 * flat


@pytest.mark.parametrize(("outside", "is_clear"), [(-0.15, False), (0.10, True), (-0.60, True)])
def test_between_gains_that_rows_do_not_tell_apart_the_place_is_unknown(outside: float, is_clear: bool) -> None:
    """The interval holds what each neighbour says, and no more. Only what both say is shown."""
    moved = {"ft_low": (0.20, 0.00), "ft_high": (0.23, -0.30)}
    found = beside(noise=0.3, **moved, other=(0.215, outside))
    assert found.between == ("ft-low", "ft-high") and found.reference == pytest.approx(-0.15)
    interval = found.effect.interval
    assert interval.low < outside < outside + 0.30 < interval.high and interval.half_width < 0.25
    assert found.effect.is_clear is is_clear


def test_of_several_places_with_the_same_gain_the_best_counts() -> None:
    """Past a cliff, the gain falls again and the loss is larger: nobody would train there."""
    found = beside(ft_low=(0.3, -0.02), ft_high=(0.2, -0.40), other=(0.2, -0.10))
    assert found.between == ("base", "ft-low") and found.reference == pytest.approx(-0.02 * 2 / 3)
    assert found.effect.value < 0


def test_beyond_the_curve_the_recipe_that_gains_most_stands_for_it() -> None:
    found = beside(ft_low=(0.1, -0.02), ft_high=(0.2, -0.10), other=(0.3, -0.05))
    assert found.beyond and found.between == ("ft-high",) and found.effect.value == pytest.approx(0.05)
    under = beside(ft_low=(0.1, -0.02), ft_high=(0.2, -0.10), other=(-0.1, -0.05))
    assert not under.beyond and under.between == ("base",) and under.effect.value == pytest.approx(-0.05)


@pytest.mark.parametrize(("rows", "between"), [(N, "ft-high"), (50, "ft-low")])
def test_a_difference_of_one_row_makes_no_gain_larger(rows: int, between: str) -> None:
    """Of two learning rates that gain as much, the one that loses less is the one to beat."""
    found = beside(rows=rows, ft_low=(0.285, -0.02), ft_high=(0.3, -0.30), other=(0.35, -0.01))
    assert found.beyond and found.between == (between,) and found.bargain.other == between


@pytest.mark.parametrize(
    ("other", "is_kept"),
    [((0.30, -0.001), True), ((0.15, -0.001), False), ((0.30, -0.15), False), ((0.285, -0.02), None)],
)
def test_most_of_the_gain_with_little_of_the_loss(other: tuple[float, float], is_kept: bool | None) -> None:
    found = beside(ft_low=(0.1, -0.05), ft_high=(0.3, -0.20), other=other).bargain
    assert found.other == "ft-high" and found.is_kept is is_kept
    assert found.gain == pytest.approx(other[0] / 0.3) and found.loss == pytest.approx(other[1] / -0.2)


def test_where_the_other_loses_nothing_there_is_nothing_to_save() -> None:
    found = beside(ft_low=(0.1, -0.005), ft_high=(0.3, -0.01), other=(0.3, 0.0)).bargain
    assert found.nothing_to_save and found.is_kept is None


def test_before_all_cells_are_there_nothing_is_compared() -> None:
    scores = {(name, "in", 0, "p1", 0): SCORES for name in ("base", "ft-low", "other")}
    scores |= {(name, "out", 0, "p1", 0): SCORES for name in ("base", "other")}
    scores |= {(name, "out2", 0, "p1", 0): SCORES for name in ("base", "ft-low", "other")}
    known = [BASE, *(replace(one, key=one.name) for one in (LOW, OTHER))]
    assert equal_gains(results_of(scores, known=known)) == []


def test_seeds_widen_the_interval_and_recipes_are_corrected_together() -> None:
    rng = np.random.default_rng(3)
    two = [trained("ft-low1", "ft", 1e-5, 1), trained("other1", "other", 1e-5, 1, "ft")]
    third = trained("third", "third", 1e-5, against="ft")
    known = [BASE, *(replace(one, key=one.name) for one in (LOW, *two, OTHER, third))]
    moved = {"ft-low": -0.10, "ft-low1": -0.20, "other": -0.02, "other1": -0.12, "third": -0.15}
    scores = {("base", test, 0, "p1", 0): SCORES for test in ("in", "out")}
    for name, by in moved.items():
        scores[name, "in", 0, "p1", 0] = SCORES + 0.2 + 0.02 * rng.normal(size=N)
        scores[name, "out", 0, "p1", 0] = SCORES + by + 0.02 * rng.normal(size=N)
    found = {one.recipe: one for one in equal_gains(results_of(scores, known=known))}
    of_seeds = found["other 1e-05"].effect
    assert of_seeds.seeds == 2 and of_seeds.value == pytest.approx(0.08, abs=0.01)
    assert of_seeds.interval.low < 0, "two seeds that lie 10 points apart decide nothing"
    assert {one.effect.compared for one in found.values()} == {2}


def test_a_curve_goes_from_the_most_careful_recipe_to_the_boldest() -> None:
    """Whatever the order of the plan: the curve of a strategy, and that of the strategy that it is compared with."""
    scores = {
        (name, test, 0, "p1", 0): SCORES for name in ("base", "ft-high", "ft-low", "other") for test in ("in", "out")
    }
    known = [BASE, *(replace(one, key=one.name) for one in (HIGH, OTHER, LOW))]
    (found,) = curves(results_of(scores, known=known))
    assert (found.strategy, found.other) == ("other", "ft")
    assert [one.name for one in found.places] == ["other"]
    assert [one.name for one in found.against] == ["ft-low", "ft-high"]
    drawn = figure(results_of(scores, known=known))
    assert [panel.name for panel in drawn.panels] == ["data, other"]
    assert drawn.table.groupby("label", sort=False)["order"].apply(list).to_dict() == {"ft": [0, 1, 2], OURS: [0, 1]}
