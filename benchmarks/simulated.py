"""Results of experiments that were never run, for checking what the report says of them.

Each answer has a strength. To it add up: how easy its document is, the same for every model; what its test set, shots
and prompt format do; what the recipe does; what this training of the recipe does (throughout, on a test set, on a
document); what these demonstrations do; and a noise of its own. In classification an answer is right where the
strength is above zero, in free text its score rises with it. Odd test sets are free text.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if importlib.util.find_spec("spillover") is None:
    sys.path.append(str(Path(__file__).parents[1]))

import pandas as pd

from spillover.analysis.results import ROLES, Results
from spillover.analysis.rows import RowStatistics
from spillover.plan.grid import Cell, Condition, Grid, TestInfo, Variant


@dataclass(frozen=True)
class Design:
    """What is run, and how much chance there is: standard deviations in units of strength, where a document's ease has
    1.2 and the noise of an answer 1.

    `effect` is added for recipe A on the test sets of `roles`. `component`: so many documents share their ease.
    `unsteady`: recipe A's trainings differ by so many times what others' do. `by_set` scales how test sets differ.
    `sensitive`: on the first test set it matters so many times as much which demonstrations suit which recipe.
    """

    rows: int = 24
    seeds: int = 1
    draws: int = 1
    recipes: str = "AB"
    shots: tuple[int, ...] = (0, 2)
    prompts: tuple[str, ...] = ("p1", "p2")
    sets_per_role: int = 2
    component: int = 1
    effect: float = 0.0
    roles: tuple[str, ...] = tuple(ROLES)
    by_set: float = 1.0
    by_seed: float = 0.15
    by_seed_and_set: float = 0.15
    by_seed_and_row: float = 0.7
    by_draw: float = 0.2
    by_draw_and_recipe: float = 0.0
    unsteady: float = 1.0
    sensitive: float = 1.0


FACTORS = {"train_dataset": "data", "train_task": "task", "train_size": 100, "learning_rate": 1e-5}


def grid_of(design: Design) -> Grid:
    variants = tuple(
        Variant(f"{recipe}{seed}", f"{recipe}-s{seed}", "trained", FACTORS | {"strategy": recipe}, seed, recipe)
        for recipe in design.recipes
        for seed in range(design.seeds)
    )
    tests = tuple(
        TestInfo(f"{role}{i}", "", "task", "generation", None, ("rougeL" if i % 2 else "accuracy",), "", design.rows)
        for role in ROLES
        for i in range(design.sets_per_role)
    )
    cells = tuple(
        Cell(f"{v.key} {test.name} {k} {p} {draw}", v.key, Condition(test.name, p, k, draw), "task", role, design.rows)
        for v in variants
        for role in ROLES
        for test in tests
        if test.name.startswith(role)
        for k in design.shots
        for p in design.prompts
        for draw in range(design.draws if k else 1)
    )
    return Grid("simulated", "sound", variants, cells, tests)


def simulate(design: Design, grid: Grid, rng: np.random.Generator) -> Results:
    """One experiment of this design."""
    recipe, seed, test, shots, prompt, draw, row = range(7)
    sizes = (len(design.recipes), design.seeds, len(grid.tests), len(design.shots), len(design.prompts))
    shape = (*sizes, design.draws, design.rows)

    def noise(deviation: float, *axes: int) -> Any:
        """Drawn anew along `axes`, the same along the others."""
        return deviation * rng.normal(size=[n if axis in axes else 1 for axis, n in enumerate(shape)])

    of_sets = noise(0.4, test) + noise(0.2, test, shots) + noise(0.3, test, prompt)
    ease = np.repeat(noise(1.2, test, row), design.component, axis=row)[..., : design.rows]
    training = noise(design.by_seed, recipe, seed) + noise(design.by_seed_and_set, recipe, seed, test)
    training[0] *= design.unsteady
    suited = noise(design.by_draw_and_recipe, recipe, test, draw)
    suited[:, :, 0] *= design.sensitive
    demonstrations = (
        noise(design.by_draw, test, draw)
        + suited
        + noise(design.by_draw, recipe, seed, test, draw)
        + noise(design.by_seed_and_row / 2, recipe, seed, test, draw, row)
    )
    strength = 0.3 + design.by_set * of_sets + ease + noise(0.3, test, prompt, row) + noise(1.0, *range(7))
    strength += training + noise(design.by_seed_and_row, recipe, seed, test, row)
    strength += demonstrations * (np.array(design.shots) > 0).reshape(-1, 1, 1, 1)
    changed = np.array([t.name.startswith(design.roles) for t in grid.tests])
    strength[0] += design.effect * changed.reshape(-1, 1, 1, 1, 1)
    scores = {"accuracy": (strength > 0).astype(float), "rougeL": 0.4 / (1 + np.exp(-strength))}
    return Results(grid, pd.DataFrame(), (), {}, _first_metric(design, grid, scores), clusters=_clusters(design, grid))


def _first_metric(design: Design, grid: Grid, scores: dict[str, Any]) -> dict[str, RowStatistics]:
    variants = {v.key: (design.recipes.index(str(v.strategy)), v.seed) for v in grid.variants}
    tests = {t.name: i for i, t in enumerate(grid.tests)}
    documents, ones = np.arange(design.rows), np.ones(design.rows)
    found = {}
    for cell in grid.cells:
        number = tests[cell.test]
        asked = design.shots.index(cell.shots), design.prompts.index(cell.prompt), cell.draw
        values = scores[grid.tests[number].metrics[0]][(*variants[cell.variant], number, *asked)]
        found[cell.key] = RowStatistics(documents, np.column_stack([values, ones]))
    return found


def _clusters(design: Design, grid: Grid) -> dict[str, dict[int, int]]:
    if design.component == 1:
        return {}
    return {test.name: {row: row // design.component for row in range(design.rows)} for test in grid.tests}


def of_recipe(grid: Grid, recipe: str, **where: str) -> list[Cell]:
    """A recipe's cells, all its seeds, with these columns."""
    return [c for c in grid.cells if c.variant[0] == recipe and all(getattr(c, k) == v for k, v in where.items())]
