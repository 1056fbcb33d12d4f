"""The rule of a choice, on validation scores that are made up: the right one is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakestore
import grids
import pytest

from spillover.analysis.choices import Choice, best_uses, choices
from spillover.plan.choice import expected, of_both, unasked
from spillover.plan.grid import Grid, Variant
from spillover.store.store import Store

ROWS = 40
BASE = Variant("base", "base", "base")
Right = Mapping[tuple[str, str, int], Sequence[int] | int]
"""(variant, set, shots) -> how many of the rows are right, or 0 and 1 by row."""


def candidate(rate: float, seed: int = 0, **factors: float) -> Variant:
    name = "-".join([f"lr{rate:g}", *(f"{k}{v:g}" for k, v in factors.items())])
    made = grids.trained(f"{name}-s{seed}", "ft", "shop", "sentiment", rate=rate, seed=seed, recipe=name)
    return replace(made, factors={**made.factors, **factors}, choices=("shop-ft",))


def made(folder: Path, variants: Sequence[Variant], right: Right, **grid: Any) -> tuple[Store, Grid]:
    """A folder with answers to validation rows."""
    store = Store(folder)
    store.create()
    names = {variant.name: variant for variant in (BASE, *variants)}
    cells = []
    for (name, test, shots), rows in right.items():
        role = "in_domain" if test == "shop" else "cross_task"
        cell = grids.cell(f"{name}{test}{shots}", names[name].key, test, "sentiment", role, shots, "p1", ROWS)  # type: ignore[arg-type]
        cells.append(cell)
        marks = [int(i < rows) for i in range(ROWS)] if isinstance(rows, int) else rows
        answers = [
            {"doc_id": i, "prompt_hash": f"{test}{i}", "doc": {}, "target": "positive", "free": None, "ended": None}
            | {"response": "positive" if mark else "negative"}
            for i, mark in enumerate(marks)
        ]
        for answer in answers:
            scores = {x: -0.4 if x == answer["response"] else -1.6 for x in ("positive", "negative")}
            answer |= dict.fromkeys(("logprobs", "logprobs_first", "logprobs_norm"), scores)
        store.write_cell(cell.key, answers, fakestore.receipt_of(cell))
    sets = tuple(grids.info(test, "sentiment", ROWS) for test in dict.fromkeys(test for _, test, _ in right))
    whole = Grid("m", "sound", (BASE, *variants), (), (), validation=tuple(cells), validated=sets, **grid)
    store.write_plan(whole, {})
    return store, whole


def one_of(store: Store, grid: Grid) -> Choice:
    [found] = choices(store, grid)
    return found


LOW, HIGH = candidate(1e-5), candidate(1e-4)


@pytest.mark.parametrize(("low", "high", "rate"), [(10, 36, 1e-4), (36, 10, 1e-5), (33, 34, 1e-5), (30, 30, 1e-5)])
def test_the_best_is_chosen_and_the_lowest_rate_where_rows_do_not_decide(
    tmp_path: Path, low: int, high: int, rate: float
) -> None:
    right = {("base", "shop", 0): 9, (LOW.name, "shop", 0): low, (HIGH.name, "shop", 0): high}
    found = one_of(*made(tmp_path, [HIGH, LOW], right))
    assert found.chosen is not None and found.chosen.factors == {"learning_rate": rate}
    assert found.base == 9 / ROWS and [one.score for one in found.alternatives] == [low / ROWS, high / ROWS]
    assert {one.recipe for one in found.alternatives if one.level} == (
        {"lr1e-05", "lr0.0001"} if high - low in (0, 1) else {found.chosen.recipe}
    )


@pytest.mark.parametrize(("high", "is_above"), [(36, True), (11, False)])
def test_a_choice_says_where_no_candidate_is_better_than_the_base(tmp_path: Path, high: int, is_above: bool) -> None:
    """The lowest rate is then taken because nothing was learned, and not because it learns as much."""
    right = {("base", "shop", 0): 10, (LOW.name, "shop", 0): 10, (HIGH.name, "shop", 0): high}
    found = one_of(*made(tmp_path, [HIGH, LOW], right))
    assert found.is_above_base is is_above
    assert ("no candidate is better" in found.sentence) is not is_above
    assert [one.ahead and one.ahead[0] for one in found.alternatives] == [0.0, pytest.approx((high - 10) / ROWS)]


def test_a_recipe_is_chosen_over_its_seeds(tmp_path: Path) -> None:
    """The best single training is not the best recipe."""
    variants = [candidate(rate, seed) for rate in (1e-5, 1e-4) for seed in (0, 1)]
    right = {(v.name, "shop", 0): n for v, n in zip(variants, (30, 30, 40, 0), strict=True)}
    found = one_of(*made(tmp_path, variants, right))
    assert found.seeds == 2 and found.chosen is not None and found.chosen.recipe == "lr1e-05"


def test_of_level_ones_the_lowest_alpha_and_the_strongest_penalty(tmp_path: Path) -> None:
    for factors in ({"alpha": (0.75, 0.25)}, {"beta": (0.1, 1.0)}, {"num_train_epochs": (3.0, 1.0)}):
        [(name, (bold, careful))] = factors.items()
        variants = [candidate(1e-5, **{name: value}) for value in (bold, careful)]
        right = {(v.name, "shop", 0): n for v, n in zip(variants, (31, 30), strict=True)}
        found = one_of(*made(tmp_path / name, variants, right))
        assert found.chosen is not None and found.chosen.factors == {name: careful}


def test_what_has_to_be_kept_bounds_the_choice(tmp_path: Path) -> None:
    right = {(v, "shop", 0): n for v, n in (("base", 9), (LOW.name, 20), (HIGH.name, 36))}
    right |= {(v, "film", 0): n for v, n in (("base", 40), (LOW.name, 39), (HIGH.name, 20))}
    unbound = one_of(*made(tmp_path / "a", [LOW, HIGH], right))
    assert unbound.chosen is not None and unbound.chosen.recipe == HIGH.recipe_key
    bound = one_of(*made(tmp_path / "b", [LOW, HIGH], right, keep=0.95))
    assert bound.chosen is not None and bound.chosen.recipe == LOW.recipe_key and bound.chosen.kept == 39 / 40
    none = one_of(*made(tmp_path / "c", [LOW, HIGH], right, keep=0.99))
    assert none.chosen is not None and none.chosen.recipe == LOW.recipe_key and not none.chosen.keeps


def test_nothing_is_chosen_before_all_answers_are_there(tmp_path: Path) -> None:
    store, grid = made(tmp_path, [LOW, HIGH], {("base", "shop", 0): 9, (LOW.name, "shop", 0): 20})
    lacking = replace(grid.validation[1], key="lacking", variant=HIGH.key)
    found = one_of(store, replace(grid, validation=(*grid.validation, lacking)))
    assert found.chosen is None and found.missing == 1 and found.alternatives == ()


def test_deploy_best_is_the_use_with_the_highest_score(tmp_path: Path) -> None:
    right = {("base", "shop", 0): 9, ("base", "shop", 4): 20, (LOW.name, "shop", 0): 30, (LOW.name, "shop", 4): 30}
    right |= {(HIGH.name, "shop", 0): 38, (HIGH.name, "shop", 4): 2}
    store, grid = made(tmp_path, [LOW, HIGH], right, deploy="best")
    uses = {recipe: use.shots for (recipe, _), use in best_uses(store, grid, store.valid(grid)).items()}
    assert uses == {"base": 4, LOW.recipe_key: 0, HIGH.recipe_key: 0}
    found = one_of(store, grid)
    assert found.chosen is not None and found.chosen.recipe == HIGH.recipe_key and found.base == 20 / ROWS
    assert found.base_use is not None and found.base_use.shots == 4


def test_who_is_asked_the_test_sets() -> None:
    variants = [BASE, LOW, HIGH]
    assert unasked(variants, {}) == {LOW.key, HIGH.key}
    assert unasked(variants, {"shop-ft": HIGH.recipe_key}) == {LOW.key}
    assert expected(variants, {}) == {HIGH.key}, "one candidate stands in"
    assert unasked([of_both(LOW, replace(LOW, choices=()))], {}) == frozenset(), "named where nothing is chosen"


def test_a_random_change_follows_the_choice_of_its_training() -> None:
    trained = [Variant(key, key, "trained", choices=("rates",)) for key in ("low", "high")]
    mixed = [Variant(f"mixed {key}", key, "trained", made_from=(key,), choices=("mixed",)) for key in ("low", "high")]
    of = ("low", "high", "lone")
    nulls = [Variant(f"null {key}", key, "trained", made_from=(key,), is_null=True) for key in of]
    variants = [*nulls, *trained, *mixed]
    assert unasked(variants, {}) == {one.key for one in variants} - {"null lone"}, "nothing is chosen of these"
    assert {"null low", "null high"} & unasked(variants, {"rates": "low"}) == {"null high"}
    assert not {"null low", "null high"} & unasked(variants, {"rates": "low", "mixed": "mixed high"})
