"""The generalisation matrix for readers: its rows and columns, and how to read them. Page, terminal and files share it.

Recipes stand in columns: a score is the mean over the seeds of a recipe. The page shows each seed, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..analysis.contrasts import ALPHA
from ..analysis.harness import metric_of
from ..analysis.numbers import listed, points, signed
from ..analysis.results import ROLE_TITLES, Results, grouped, recipe_name
from ..analysis.retention import kept
from ..analysis.summaries import MatrixEntry, groups, matrix, recipe_matrix
from ..plan.grid import TestInfo, Variant
from ..stats.intervals import MIN_ROWS

NAMED = 3  # changes that a note names
SMALL_N = 100  # with fewer documents in a test set, a note says which changes could not have been detected


@dataclass(frozen=True)
class Column:
    """A recipe with its variants, which differ in their seed. The base is a column, too.

    `there` is the number of variants that have answered anything. `earlier`: only an earlier form of the experiment
    had it.
    """

    name: str
    variants: tuple[Variant, ...]
    there: int
    earlier: bool = False

    @property
    def seeds(self) -> str:
        """`3 seeds`, or `1 of 3 seeds` while the others have not run; nothing for what is trained once."""
        planned = len(self.variants)
        some = f"{self.there} of " if 0 < self.there < planned else ""
        return f"{some}{planned} seeds" if planned > 1 else ""


@dataclass(frozen=True)
class Row:
    """A test set with an entry for each column, None where nothing has run. `n` is the number of documents.

    `seeds` has, for each column of several seeds, the entries of these.
    """

    role: str
    test: TestInfo
    entries: list[MatrixEntry | None]
    seeds: list[list[MatrixEntry]]

    @property
    def title(self) -> str:
        return self.test.title or self.test.name

    @property
    def metric(self) -> str:
        """The metric, and beside an accuracy that of random guesses."""
        first, chance = self.test.metrics[0], self.test.chance
        return metric_of(first).title + (f" (chance {points(chance)})" if first == "accuracy" and chance else "")

    @property
    def n(self) -> str:
        counts = sorted({entry.n for entry in self.entries if entry}) or [self.test.n]
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"


@dataclass(frozen=True)
class Block:
    """The rows of one training set, ordered by role. The first column is the base."""

    title: str
    columns: list[Column]
    rows: list[Row]


def blocks(results: Results) -> Iterator[Block]:
    """A block for each training set. A recipe of which nothing has run has no column: a note names it."""
    there = {name for name, _ in matrix(results)}
    for group in groups(results):
        variants = [*([results.base] if results.base else []), *group.variants]
        arms = grouped(variants, lambda variant: variant.recipe_key)
        columns = {
            key: Column(
                recipe_name(results.recipes[key]),
                tuple(arm),
                sum(one.name in there for one in arm),
                arm[0].key in results.earlier,
            )
            for key, arm in arms.items()
            if arm[0].kind == "base" or any(one.name in there for one in arm)
        }
        rows = [
            Row(
                ROLE_TITLES[role],
                test,
                [recipe_matrix(results).get((key, test.name)) for key in columns],
                [_of_seeds(results, column, test.name) for column in columns.values()],
            )
            for role, tests in group.columns
            for test in tests
        ]
        yield Block(group.title, list(columns.values()), rows)


def _not_run(results: Results) -> list[str]:
    """The recipes that have answered nothing yet."""
    there = {name for name, _ in matrix(results)}
    arms = (arm for group in groups(results) for arm in grouped(group.variants, lambda one: one.recipe_key).values())
    return [recipe_name(arm) for arm in arms if not any(one.name in there for one in arm)]


def _of_seeds(results: Results, column: Column, test: str) -> list[MatrixEntry]:
    if not column.seeds:
        return []
    found = (matrix(results).get((variant.name, test)) for variant in column.variants)
    return [entry for entry in found if entry is not None]


def notes(results: Results) -> Iterator[str]:
    """How to read scores and marks, and what so few rows cannot show."""
    entries = list(recipe_matrix(results).values())
    settings = sorted({entry.planned for entry in matrix(results).values()}) or [0]
    last = count(settings[-1], "setting")
    seeds = " and over the seeds of a recipe" if any(len(arm) > 1 for arm in results.recipes.values()) else ""
    many = last if len(settings) == 1 else f"{settings[0]} to {last}, by test set"
    yield (
        f"Scores are of 100, each the mean over shots and prompts ({many}){seeds}. n counts documents. Brackets are "
        "95 % intervals of single numbers."
    )
    changes = [entry.change for entry in entries if entry.change is not None]
    if changes:
        yield (
            "The base has the interval of its score. The others have their change from the base on the same rows and "
            f"its interval. ▲ ▼: beyond chance, p < {ALPHA} after Holm’s correction over the {len(changes)} changes "
            f"and at least {MIN_ROWS} independent documents. No arrow: insufficient evidence, even where the interval "
            "of a single change excludes zero."
        )
    if otherwise := list(_otherwise(results)):
        many = f" and {len(otherwise) - NAMED} others" if len(otherwise) > NAMED else ""
        yield (
            "The verdict corrects over the changes of recipes on test sets that are not in-domain, on rows that do not "
            f"leak. So the two differ here: {'; '.join(otherwise[:NAMED])}{many}."
        )
    least = min((entry.n for entry in entries if entry.change), default=SMALL_N)
    found = sorted(change.mde for change in changes if change.clusters >= MIN_ROWS)
    if least < SMALL_N and found:
        mde = found[len(found) // 2]
        yield f"The smallest test set has {count(least, 'document')}. " + (
            f"After that correction a change of about {points(mde)} points on one test set is detected with 80 % "
            "power. Smaller changes often are not detected."
            if mde < 1
            else "After that correction no change on one test set is detected with 80 % power."
        )
    if any(entry.cells < entry.planned for entry in entries):
        yield "*: the mean of a part of the cells. Changes compare only cells that both variants have."
    if waiting := _not_run(results):
        yield f"Nothing has run of {listed(waiting, NAMED)}: the tables have no column for what has no answers."
    if results.missing:
        yield f"{len(results.missing)} of {len(results.grid.cells)} cells are missing."


def _otherwise(results: Results) -> Iterator[str]:
    """The changes of one recipe on one test set that are beyond chance in the verdict alone, or in the matrix alone."""
    for recipe, found in kept(results).items():
        for test, one in found.sets.items():
            entry = recipe_matrix(results).get((recipe, test))
            if entry is not None and entry.is_clear != one.effect.is_clear:
                where = "no arrow" if one.effect.is_clear else "an arrow, and insufficient evidence in the verdict"
                yield f"{entry.variant} on {test} ({signed(one.effect.value)}: {where})"


def count(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
