"""What each recipe gains and what it keeps of the base: by test set, by role, over demonstrations and prompt formats.

A `Retention` compares the base with a recipe on the same documents in the same conditions: the change in points, and
the share of the base's score that is left, each with its interval. All rows that leak from the training set are left
out (`Results.clean`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..plan.grid import Cell, Variant
from ..stats.intervals import Interval
from .contrasts import Effect, Term, effect, paired, share, slope, together
from .deploy import Gain, gains
from .harness import metric_of
from .results import ROLE_TITLES, ROLES, Results

OUTSIDE = "outside"
"""The name of all test sets that are not in-domain, taken together."""


@dataclass(frozen=True)
class Retention:
    """What a recipe keeps on some test sets. `where` names a test set, a role or `OUTSIDE`.

    `base` and `ours` are mean scores from 0 to 1, `share` is ours / base with its interval. `effect` is the change in
    points, with n, seeds and p, corrected over all changes of its kind in the report. `at_chance`: the base's score
    cannot be told from guessing, so that it has nothing to lose there and the share says little.
    """

    recipe: str
    where: str
    tests: tuple[str, ...]
    base: float
    ours: float
    share: float | None
    interval: Interval | None
    effect: Effect
    at_chance: bool

    def held(self, keep: float) -> bool | None:
        """Whether at least the share `keep` is left: True and False are shown by the interval, None is undecided."""
        if self.interval is None or not self.effect.has_enough:
            return None
        return True if self.interval.low >= keep else False if self.interval.high < keep else None


@dataclass(frozen=True)
class Demonstrations:
    """What one more demonstration adds outside, for the base and for the recipe, and the `effect`: the change."""

    recipe: str
    base: Effect
    ours: Effect
    effect: Effect


@dataclass(frozen=True)
class Kept:
    """All that is known of one recipe beside the base. What was not tested is missing, or None.

    `gains` are in-domain, a use each (`deploy`). `roles` are out-of-domain and cross-task, by title. `sets` are by the
    name of a test set that is not in-domain; those of a checkpoint whose training set is not known are there too.
    `formats` is the in-domain change in the prompt formats that were not trained.
    """

    arm: tuple[Variant, ...]
    gains: tuple[Gain, ...]
    roles: Mapping[str, Retention]
    sets: Mapping[str, Retention]
    outside: Retention | None
    demonstrations: Demonstrations | None
    formats: Retention | None

    @property
    def least_gain(self) -> Gain | None:
        """The gain in the use with the smallest one."""
        return min(self.gains, key=lambda one: one.effect.value, default=None)

    @property
    def worst(self) -> Retention | None:
        """The test set with the largest loss that is not ruled out."""
        return min(self.sets.values(), key=lambda one: one.effect.interval.low, default=None)


@lru_cache(maxsize=2)
def kept(results: Results) -> Mapping[str, Kept]:
    """By recipe key, without the base. Each kind of change is corrected over all recipes, random changes apart."""
    clean = _of_shares(results.clean)
    arms = {key: arm for key, arm in clean.recipes.items() if arm[0].kind != "base"} if clean.base else {}

    def corrected(found: Iterable[Any]) -> list[Any]:
        return together((one for one in found if one is not None), is_null=lambda one: one.recipe in clean.nulls)

    cells = {key: [c for c in clean.cells_of(arm) if c.role != "in_domain"] for key, arm in arms.items()}
    tests = {key: list(dict.fromkeys(c.test for c in cells[key])) for key in arms}
    of_gains = corrected(one for arm in arms.values() for one in gains(clean, arm))
    of_roles = corrected(
        _retention(clean, key, ROLE_TITLES[role], clean.cells_of(arm, role))
        for key, arm in arms.items()
        for role in ROLES[1:]
    )
    of_sets = corrected(
        _retention(clean, key, test, [c for c in cells[key] if c.test == test]) for key in arms for test in tests[key]
    )
    of_outside = corrected(_retention(clean, key, OUTSIDE, cells[key]) for key in arms)
    of_slopes = corrected(_demonstrations(clean, key, cells[key]) for key in arms)
    of_formats = corrected(_formats(clean, key, arm) for key, arm in arms.items())
    return {
        key: Kept(
            arm=arm,
            gains=tuple(one for one in of_gains if one.recipe == key),
            roles={one.where: one for one in of_roles if one.recipe == key},
            sets={one.where: one for one in of_sets if one.recipe == key},
            outside=_first(of_outside, key),
            demonstrations=_first(of_slopes, key),
            formats=_first(of_formats, key),
        )
        for key, arm in arms.items()
    }


def _of_shares(results: Results) -> Results:
    """Without the cells of test sets whose metric is no share of 100 or is better when it is lower: these have no
    common scale."""
    scales = {test.name: metric_of(test.metrics[0]) for test in results.grid.tests}
    cells = tuple(c for c in results.grid.cells if (m := scales[c.test]).of_100 and m.higher_is_better)
    return (
        results if len(cells) == len(results.grid.cells) else replace(results, grid=replace(results.grid, cells=cells))
    )


def _first(found: Iterable[Any], key: str) -> Any:
    return next((one for one in found if one.recipe == key), None)


def _retention(results: Results, recipe: str, where: str, cells: Sequence[Cell]) -> Retention | None:
    ours, theirs = paired(results, cells, results.cells_of_base)
    change = effect(results, [Term(1.0, ours), Term(-1.0, theirs)])
    of_base = effect(results, [Term(1.0, theirs)])
    if change is None or of_base is None:
        return None
    score = of_base.value + change.value
    left = share(results, ours, theirs) if of_base.value > 0 else None
    return Retention(
        recipe=recipe,
        where=where,
        tests=change.tests,
        base=of_base.value,
        ours=score,
        share=None if left is None else score / of_base.value,
        interval=left,
        effect=change,
        at_chance=base_at_chance(results, of_base),
    )


def base_at_chance(results: Results, of_base: Effect) -> bool:
    """Whether the base may as well have guessed on these sets. Free text cannot be guessed: its chance is 0."""
    chance = [results.tests[test].chance or 0.0 for test in of_base.tests]
    return of_base.interval.low <= sum(chance) / len(chance)


def _demonstrations(results: Results, recipe: str, cells: Sequence[Cell]) -> Demonstrations | None:
    """The slopes over shots on the test sets outside that were asked with several numbers of them.

    In-domain, a gain without demonstrations leaves them less to add, which is no loss.
    """
    ours, theirs = paired(results, cells, results.cells_of_base)
    change, of_base, own = slope(results, ours, theirs), slope(results, theirs), slope(results, ours)
    return Demonstrations(recipe, of_base, own, change) if change and of_base and own else None


def _formats(results: Results, recipe: str, arm: Sequence[Variant]) -> Retention | None:
    """In-domain, in prompt formats other than the trained one."""
    trained = results.grid.trained_prompt
    cells = [cell for cell in results.cells_of(arm, "in_domain") if cell.prompt != trained]
    return _retention(results, recipe, "other prompt formats", cells) if cells else None
