"""The front of gain inside against change outside, and how often each recipe is on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from madescores import results_of

from spillover.analysis.front import Point, fronts
from spillover.analysis.results import Results
from spillover.analysis.verdict import verdicts
from spillover.plan.grid import Deploy, Use

N = 40
BASE = np.random.default_rng(1).uniform(0.2, 0.6, N)


def made(noise: float, **changes: tuple[float, float]) -> Results:
    rng = np.random.default_rng(2)
    scores = {("base", test, 0, "p1", 0): BASE for test in ("in", "out")}
    for name, moved in changes.items():
        for test, by in zip(("in", "out"), moved, strict=True):
            scores[name, test, 0, "p1", 0] = BASE + by + noise * (lambda x: x - x.mean())(rng.normal(size=N))
    return results_of(scores)


def points(results: Results) -> dict[str, Point]:
    (front,) = fronts(results)
    assert front.points[0].name == "base" and (front.points[0].inside, front.points[0].outside) == (0.0, 0.0)
    return {point.name: point for point in front.points}


def test_what_another_recipe_beats_in_both_is_not_on_the_front() -> None:
    found = points(made(0.01, ft=(0.3, -0.05), icl=(0.2, -0.1)))
    assert [found[name].on_front for name in ("base", "ft", "icl")] == [True, True, False]
    assert [found[name].share for name in ("base", "ft", "icl")] == pytest.approx([1.0, 1.0, 0.0], abs=0.01)
    assert found["ft"].inside == pytest.approx(0.3) and found["ft"].outside == pytest.approx(-0.05)
    assert found["ft"].effects is not None and found["ft"].effects[1].value == pytest.approx(-0.05)


def test_two_recipes_that_cannot_be_told_apart_share_the_front() -> None:
    found = points(made(0.3, ft=(0.3, -0.1), icl=(0.3, -0.1)))
    assert 0.3 < found["ft"].share < 0.95 and 0.3 < found["icl"].share < 0.95


def test_the_same_recipe_twice_is_always_on_it_together() -> None:
    """The same documents are drawn for both, so equals never beat each other."""
    results = made(0.3, ft=(0.3, -0.1))
    own = {cell.test: results.first_metric[cell.key] for cell in results.grid.cells if cell.variant == "ft"}
    twin = results_of(
        {
            (name, test, 0, "p1", 0): (BASE if name == "base" else own[test].statistics[:, 0])
            for name in ("base", "ft", "icl")
            for test in ("in", "out")
        }
    )
    found = points(twin)
    assert found["ft"].share == found["icl"].share == 1.0


def test_seeds_are_drawn_too() -> None:
    """One seed of two gains all of it: sometimes the recipe is drawn without any gain, and the base is better."""
    found = points(made(0.001, ft=(0.4, -0.1), ft1=(-0.1, -0.1)))
    (point,) = [one for name, one in found.items() if name != "base"]
    assert point.share == pytest.approx(0.75, abs=0.06)


def test_the_gain_is_that_of_the_use_that_is_deployed_else_the_least() -> None:
    scores = {("base", test, shots, "p1", 0): BASE for test in ("in", "out") for shots in (0, 2)}
    scores |= {("ft", "in", 0, "p1", 0): BASE + 0.4, ("ft", "in", 2, "p1", 0): BASE + 0.1}
    scores |= {("ft", "out", shots, "p1", 0): BASE - 0.1 for shots in (0, 2)}
    results = results_of(scores)
    assert points(results)["ft"].inside == pytest.approx(0.1)
    use = Use(0, "p1")
    asked = replace(results, grid=replace(results.grid, deploy=Deploy(use, use)))
    assert points(asked)["ft"].inside == pytest.approx(0.4)


def test_without_tests_on_both_sides_there_is_no_front() -> None:
    results = made(0.01, ft=(0.3, -0.05))
    inside = replace(results.grid, cells=tuple(c for c in results.grid.cells if c.test == "in"))
    assert fronts(replace(results, grid=inside)) == []


def test_a_null_is_no_candidate_of_front_and_verdict() -> None:
    """Random numbers may gain by chance; they are never what is shipped."""
    results = made(0.01, ft=(0.2, -0.05), icl=(0.3, 0.1))
    assert points(results)["icl"].on_front
    variants = tuple(replace(one, is_null=one.name == "icl") for one in results.grid.variants)
    without = replace(results, grid=replace(results.grid, variants=variants))
    assert points(without).keys() == {"base", "ft"} and points(without)["ft"].on_front
    (verdict,) = verdicts(without)
    assert [line.name for line in verdict.lines] == ["ft"]
