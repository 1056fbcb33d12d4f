"""Variants of an earlier form of the experiment, which stay in the results where they answered the same questions.

Somebody changes the experiment and runs it again in the same folder. What was trained before is still there. It can be
compared with what is there now if the questions are the same: a cell's key is made of its variant's key and its
questions, so they are the same where the base's cell had the same key. An earlier variant that has been answered there
is added to the grid with these cells. It has no other planned cells, so nothing of it is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ..plan.grid import Condition, Grid


def with_earlier(grid: Grid, earlier: Iterable[Grid], planned: Collection[str] = ()) -> tuple[Grid, frozenset[str]]:
    """The grid with the variants that only `earlier` grids have, and the keys of these. Of several, the last counts.

    `planned` are keys of variants that the experiment has and the grid lacks: those that were not chosen.
    """
    variants, cells, labels = list(grid.variants), list(grid.cells), dict(grid.labels_of_train_task)
    present = {*planned, *(variant.key for variant in (*grid.variants, *grid.helpers))}
    recipes = {variant.recipe_key for variant in variants}
    ours = _of_base(grid)
    for old in reversed(list(earlier)):
        if old.protocol != grid.protocol:
            continue
        same = {place for place, key in _of_base(old).items() if ours.get(place) == key}
        for variant in old.variants:
            found = [cell for cell in old.cells if cell.variant == variant.key and cell.condition in same]
            if variant.kind != "base" and variant.key not in present and found:
                # With fewer cells than a seed of now it would take cells from the mean of both.
                recipe = variant.key if variant.recipe_key in recipes else variant.recipe_key
                name = _free(variant.name, {one.name for one in variants})
                variants.append(replace(variant, name=name, recipe_key=recipe))
                cells += found
                labels = old.labels_of_train_task | labels
                present.add(variant.key)
    made = replace(grid, variants=tuple(variants), cells=tuple(cells), labels_of_train_task=labels)
    return made, frozenset(variant.key for variant in variants[len(grid.variants) :])


def answered(grid: Grid, keys: Collection[str], done: Collection[str]) -> Grid:
    """The grid without the cells of earlier variants (`keys`) that are not `done`, and without those that have none."""
    cells = tuple(cell for cell in grid.cells if cell.variant not in keys or cell.key in done)
    tested = {cell.variant for cell in cells}
    variants = tuple(variant for variant in grid.variants if variant.key not in keys or variant.key in tested)
    return replace(grid, variants=variants, cells=cells)


def _of_base(grid: Grid) -> dict[Condition, str]:
    """The keys of the base's cells."""
    base = {variant.key for variant in grid.variants if variant.kind == "base"}
    return {cell.condition: cell.key for cell in grid.cells if cell.variant in base}


def _free(name: str, taken: Collection[str]) -> str:
    """The name, marked as earlier if a variant of now has it."""
    number, free = 1, name
    while free in taken:
        free = f"{name} (earlier{f' {number}' if number > 1 else ''})"
        number += 1
    return free
