"""Summaries of the results, all made of contrasts: the matrix, by variant and by recipe, and the mean changes by role.

An entry of the `matrix` pools the cells of a variant on one test set over shots, prompts and draws. An entry of the
`recipe_matrix` pools those of all seeds of a recipe. The entries of a summary are shown together, so their p-values
are corrected together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..experiment.suite import Role
from ..plan.grid import TestInfo, Variant
from ..stats.intervals import Interval
from .contrasts import Effect, difference, together
from .harness import metric_of
from .metrics import Metric
from .numbers import counted, details, documents, noise
from .results import ROLE_TITLES, ROLES, Results, grouped, recipe_name
from .rows import pool
from .scoring import pooled_interval


@dataclass(frozen=True)
class MatrixEntry:
    """One variant or recipe on one test set by the set's first metric, pooled over `cells` of `planned` cells.

    `variant` is its name; `n` documents. The `change` is against the base over the cells that both have; None if there
    are none.
    """

    variant: str
    test: str
    role: Role | None
    metric: Metric
    n: int
    cells: int
    planned: int
    score: float
    interval: Interval
    change: Effect | None = None

    @property
    def delta(self) -> float | None:
        return None if self.change is None else self.change.value

    @property
    def delta_interval(self) -> Interval | None:
        return None if self.change is None else self.change.interval

    @property
    def is_clear(self) -> bool:
        """Whether the change is beyond chance, corrected over all changes of the matrix."""
        return self.change is not None and self.change.is_clear


@dataclass(frozen=True)
class RoleChange:
    """The mean change of a recipe (its key), all seeds together, over the test sets of a role (None: over all).

    `label` says where, if it is more than the role: in which use.
    """

    recipe: str
    role: Role | None
    effect: Effect
    label: str = ""

    @property
    def where(self) -> str:
        if self.label:
            return self.label
        return ROLE_TITLES[self.role] if self.role else "over all test sets"

    @property
    def basis(self) -> str:
        """What it rests on, in a few words, and what seeds differ by."""
        parts = [counted(len(self.effect.tests), "set"), documents(self.effect)]
        return ", ".join(parts + ([floor] if (floor := noise(self.effect)) else []))

    @property
    def details(self) -> str:
        return details(self.effect)


@dataclass(frozen=True)
class Group:
    """Variants with the same roles on all test sets, which can share a table: `columns` are (role, test sets)."""

    title: str
    variants: tuple[Variant, ...]
    columns: tuple[tuple[Role | None, tuple[TestInfo, ...]], ...]


@lru_cache(maxsize=1)
def matrix(results: Results) -> Mapping[tuple[str, str], MatrixEntry]:
    """The matrix, by variant name and test set. Pairs without a finished cell are left out."""
    entries = _entries(results, {variant.name: (variant,) for variant in results.grid.variants})
    return dict(zip(entries, _together(results, entries.values()), strict=True))


@lru_cache(maxsize=1)
def recipe_matrix(results: Results) -> Mapping[tuple[str, str], MatrixEntry]:
    """The matrix, by recipe key and test set: all seeds of a recipe together. A recipe of one seed is its variant."""
    once = {variants[0].name: key for key, variants in results.recipes.items() if len(variants) == 1}
    entries = {(once[name], test): entry for (name, test), entry in matrix(results).items() if name in once}
    entries |= _entries(results, {key: arm for key, arm in results.recipes.items() if len(arm) > 1})
    return dict(zip(entries, _together(results, entries.values()), strict=True))


@lru_cache(maxsize=1)
def recipe_changes(results: Results) -> Mapping[tuple[str, Role], RoleChange]:
    """The mean change from the base by recipe key, all its seeds together, and role."""
    return {
        (one.recipe, one.role): one
        for one in together(_role_changes(results), is_null=lambda one: one.recipe in results.nulls)
        if one.role
    }


def _together(results: Results, entries: Iterable[MatrixEntry]) -> list[MatrixEntry]:
    return together(entries, "change", is_null=lambda one: one.variant in results.nulls)


def _entries(results: Results, arms: Mapping[str, Sequence[Variant]]) -> dict[tuple[str, str], MatrixEntry]:
    """The entries of some arms, by the arm and the test set: an arm is a variant, or all seeds of a recipe."""
    entries = {}
    base = grouped(results.cells_of_base, lambda cell: cell.test)
    for arm, variants in arms.items():
        for test, planned in grouped(results.cells_of(variants), lambda cell: cell.test).items():
            done = [cell for cell in planned if cell.key in results.first_metric]
            if done:
                metric = metric_of(results.tests[test].metrics[0])
                rows = pool([results.first_metric[cell.key] for cell in done])
                entries[arm, test] = MatrixEntry(
                    variant=recipe_name(variants),
                    test=test,
                    role=done[0].role,
                    metric=metric,
                    n=len(rows.doc_ids),
                    cells=len(done),
                    planned=len(planned),
                    score=float(metric.score(rows.statistics.sum(axis=0))),
                    interval=pooled_interval(metric, rows, results.clusters.get(test, {})),
                    change=None if variants[0] is results.base else difference(results, done, base.get(test, [])),
                )
    return entries


def _role_changes(results: Results) -> Iterable[RoleChange]:
    base = results.cells_of_base
    for recipe, variants in results.recipes.items():
        for role in ROLES:
            effect = difference(results, results.cells_of(variants, role), base)
            if effect is not None:
                yield RoleChange(recipe, role, effect)


def groups(results: Results) -> list[Group]:
    """Variants that share their roles, in the grid's order, without the base. The base alone is one group."""
    roles: dict[str, dict[str, Role | None]] = {v.name: {} for v in results.grid.variants}
    for cell in results.grid.cells:
        roles[results.variants[cell.variant].name][cell.test] = cell.role
    others = [variant for variant in results.grid.variants if variant.kind != "base"]
    for variant in (one for one in others if one.key in results.earlier):  # it may lack test sets that came later
        own = roles[variant.name].items()
        alike_now = (roles[one.name] for one in others if one.train_dataset == variant.train_dataset)
        roles[variant.name] = next((wider for wider in alike_now if own < wider.items()), roles[variant.name])
    alike = grouped(others, lambda variant: (variant.train_dataset, frozenset(roles[variant.name].items())))
    if not alike:
        return [Group("The base model", (), _columns(results, {t.name: None for t in results.grid.tests}))]
    return [
        Group(
            f"Trained on {variants[0].train_dataset}" if variants[0].train_dataset else "Existing checkpoints",
            tuple(variants),
            _columns(results, roles[variants[0].name]),
        )
        for variants in alike.values()
    ]


def _columns(
    results: Results, roles: Mapping[str, Role | None]
) -> tuple[tuple[Role | None, tuple[TestInfo, ...]], ...]:
    """The test sets by role, within a role by task, tasks in the grid's order."""
    tasks = list(dict.fromkeys(t.task for t in results.grid.tests))
    tests = sorted((t for t in results.grid.tests if t.name in roles), key=lambda t: tasks.index(t.task))
    columns = [(role, tuple(t for t in tests if roles[t.name] == role)) for role in (*ROLES, None)]
    return tuple((role, of_role) for role, of_role in columns if of_role)
