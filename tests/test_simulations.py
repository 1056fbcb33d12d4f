"""The simulations of docs/statistics.md in small: the report keeps its word where the truth is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, Any]]:
    """The modules of benchmarks/ that simulate."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield {name: import_module(name) for name in ("simulated", "aa", "power")}
    sys.path.remove(str(BENCHMARKS))
    for name in set(sys.modules) - before & {"simulated", "aa", "power"}:
        sys.modules.pop(name)


@pytest.mark.slow
def test_nothing_is_claimed_where_nothing_is(scripts: dict[str, Any]) -> None:
    """Of 60 families, 5 % would be 3; more than 8 come by chance once in two hundred times."""
    for name in ("one checkpoint twice, 24 rows", "2 seeds each, 24 rows"):
        families, without_holm, _ = scripts["aa"].failures(scripts["aa"].SCENARIOS[name], grids=60, seed=1)
        assert families <= 8 / 60 < without_holm


@pytest.mark.slow
def test_one_seed_read_as_the_recipe_is_often_wrong(scripts: dict[str, Any]) -> None:
    families, _, _ = scripts["aa"].failures(scripts["aa"].WRONG["1 seed each, 100 rows"], grids=15, seed=1)
    assert families > 0.4


@pytest.mark.slow
def test_a_planted_effect_is_found_as_often_as_promised(scripts: dict[str, Any]) -> None:
    power = scripts["power"]
    design, contrast = power.CASES["checkpoints, one set of 24 texts"]
    outcome = power.run(design, contrast, times=100, seed=0)
    assert outcome.planted == pytest.approx(outcome.promised, rel=0.05)
    assert 0.68 < outcome.found < 0.92
    assert outcome.held > 0.88


def test_an_effect_in_domain_alone_is_an_interaction(scripts: dict[str, Any]) -> None:
    """Recipe A is much better in-domain: the difference of differences is that of the in-domain sets."""
    simulated, power = scripts["simulated"], scripts["power"]
    design = replace(power.ONE, rows=200, effect=1.0, roles=("in_domain",))
    grid = simulated.grid_of(design)
    results = simulated.simulate(design, grid, np.random.default_rng(0))
    change, gap = power.ROLE(results, grid), power.in_less_out(results, grid)
    assert change.value > 0.05 and change.is_clear and gap.is_clear
    elsewhere = power.on(role="out_of_domain")(results, grid)
    assert gap.value == pytest.approx(change.value - elsewhere.value)
    assert not elsewhere.is_clear


def test_crossed_levels_are_resampled_each_on_its_own(scripts: dict[str, Any]) -> None:
    """Rows 0, 1 and seeds 0, 2, 4, added up: the variance is 0.25 / 2 of the rows and (8 / 3) / 3 of the seeds."""
    scores = np.array([[0.0], [1.0]]) + np.array([0.0, 2.0, 4.0])
    draws = np.concatenate([scripts["power"].crossed_bootstrap(scores, seed) for seed in range(0, 20, 2)])
    assert np.var(draws) == pytest.approx(0.125 + 8 / 9, rel=0.03)
    assert np.mean(draws) == pytest.approx(2.5, abs=0.03)


def test_noise_of_single_entries_counts_three_times_in_a_crossed_bootstrap(scripts: dict[str, Any]) -> None:
    """Owen 2007: once for rows, once for seeds, once for both. Too wide, never too narrow."""
    noise = np.random.default_rng(0).normal(size=(60, 60))
    assert np.var(scripts["power"].crossed_bootstrap(noise)) * 3600 == pytest.approx(3.0, rel=0.2)


def test_texts_that_hang_together_are_fewer_pieces_of_evidence(scripts: dict[str, Any]) -> None:
    simulated, power = scripts["simulated"], scripts["power"]
    design = replace(power.ONE, rows=60, component=3)
    grid = simulated.grid_of(design)
    change = power.ROLE(simulated.simulate(design, grid, np.random.default_rng(0)), grid)
    assert change.n == 3 * change.clusters
