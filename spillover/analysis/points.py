"""The cells that answer a claim's comparison, and the weight of each of them.

A `Point` is a cell, or a variant alone, with the columns that claims select by. Each point of ours is paired with its
equals on the other side: the points that are the same in every column but those in `FREED`. Points without an equal are
left out on both sides, so that a half-finished grid is never compared with a whole one. `contrast` averages the pairs,
each test set counting the same, to a weight for every point. Given a grid of which nothing has run (`study_grid`), the
same code says what a comparison needs, and `needed` writes it as the lines of an experiment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import did_you_mean
from ..experiment import dialect
from ..experiment.claims import OF_THE_TEST, Comparison, Select
from ..experiment.factors import FACTORS, Value
from ..experiment.strategy import STRATEGIES
from ..experiment.suite import Role, load_suite, role_of
from ..plan.grid import Cell, Condition, Grid, TestInfo, Variant
from ..text.task import FIVE
from .results import grouped

OF_AN_ARM = ("variant", *FACTORS)
OF_HOW = tuple(name for name, factor in FACTORS.items() if not factor.of_rows)
MATCHED = (*OF_AN_ARM, "seed", "test_dataset", "shots", "prompt", "draw")
_TRAINED_ON = ("variant", "train_dataset", "train_task", "train_kind", "train_shots")
FREED: Mapping[str, tuple[str, ...]] = {  # a column that a side names -> the columns in which it need not be our equal
    "variant": (*OF_AN_ARM, "seed"),
    **{name: ("variant", name) for name in FACTORS},
    "strategy": ("variant", *OF_HOW),
    **dict.fromkeys(("train_dataset", "train_task", "train_kind"), _TRAINED_ON),
    "role": ("role", "test_dataset"),
    "kind": ("kind", "task", "test_dataset"),
    "task": ("kind", "task", "test_dataset"),
    "test_dataset": ("role", "kind", "task", "test_dataset"),
    "shots": ("shots", "draw"),
    "prompt": ("prompt",),
}

Label = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """A cell, or a variant alone, with its columns; `role` is a set: the base has all roles of its test set."""

    variant: Variant
    cell: Cell | None
    columns: Mapping[str, Any]

    @property
    def key(self) -> str:
        return self.cell.key if self.cell else self.variant.key

    @cached_property
    def identity(self) -> tuple[Any, ...]:
        """The same in every grid: only what the study varies is part of it."""
        names = ("strategy", "train_dataset", "train_size", "train_shots", "test_dataset", "shots", "prompt")
        return self.variant.kind == "base", *(self.columns[name] for name in names)

    def has(self, column: str, want: Any) -> bool:
        value = self.columns[column]
        if column == "role":
            return not value.isdisjoint(want)
        return bool(value > 0) if want == "some" else value in want


Weights = dict[Point, float]


class Points:
    """Points to select from. The answer for one column and value is computed once and kept."""

    def __init__(self, points: Iterable[Point] = ()) -> None:
        self.points = tuple(points)
        self.known: dict[tuple[str, Any], npt.NDArray[np.bool_]] = {}

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def where(self, wanted: Mapping[str, Any]) -> list[Point]:
        """The points that have what is wanted in every column."""
        chosen = np.ones(len(self), dtype=bool)
        for column, want in wanted.items():
            chosen &= self._has(column, want)
        return [self.points[i] for i in np.flatnonzero(chosen)]

    def _has(self, column: str, want: Any) -> npt.NDArray[np.bool_]:
        if (column, want) not in self.known:
            self.known[column, want] = np.array([point.has(column, want) for point in self], dtype=bool)
        return self.known[column, want]


def points_of(grid: Grid, cells: Iterable[Cell]) -> Points:
    """The cells as points."""
    variants = {v.name: v for v in grid.variants} | {v.key: v for v in grid.variants}
    tests = {t.name: t for t in grid.tests}
    of_variant = {v.key: _columns(grid, v) for v in grid.variants}
    by_test = grouped(grid.cells, lambda cell: cell.test)
    roles = {test: frozenset(cell.role for cell in cells) for test, cells in by_test.items()}
    found = []
    for cell in cells:
        variant = variants[cell.variant]
        columns = of_variant[variant.key] | {
            "role": roles[cell.test] if variant.kind == "base" else frozenset([cell.role]),
            "test_dataset": cell.test,
            "task": cell.task,
            "kind": tests[cell.test].kind,
            "shots": cell.shots,
            "prompt": cell.prompt,
            "draw": cell.draw,
        }
        found.append(Point(variant, cell, columns))
    return Points(found)


def variants_of(grid: Grid, variants: Iterable[Variant]) -> Points:
    """The variants as points without a cell."""
    nowhere = dict.fromkeys(("role", "test_dataset", "task", "kind", "shots", "prompt", "draw"))
    return Points(Point(variant, None, _columns(grid, variant) | nowhere) for variant in variants)


def _columns(grid: Grid, variant: Variant) -> dict[str, Any]:
    return {"variant": variant.name, **dict.fromkeys(FACTORS), **variant.factors, "seed": variant.seed}


def comparable_rates(rate: Value | None, there: Collection[Value | None]) -> Collection[Value | None]:
    """At which of the learning rates `there` another strategy is compared with one that was trained at `rate`.

    At the same rate, so that a difference comes from the strategy; if it is not there, at all of them.
    """
    return [rate] if rate in there else there


def groups(
    comparison: Comparison, points: Points, planned: Points | None = None
) -> dict[Label, list[tuple[Point, Weights]]]:
    """The pairs of a comparison by the values of its `each`: a point of ours, and the weights of it and its equals.

    `points` are those that have run, `planned` are all. A point with a planned equal at the same learning rate is not
    compared with equals at other rates before that one has run.
    """
    pairs = _pairs(comparison, points, points if planned is None else planned)
    return grouped(pairs, lambda pair: tuple(pair[0].columns[name] for name in comparison.each))


def _pairs(comparison: Comparison, points: Points, planned: Points) -> Iterator[tuple[Point, Weights]]:
    ours = comparison.ours
    theirs, minus = (
        None if side is None else _Side(ours, side, points, planned) for side in (comparison.theirs, comparison.minus)
    )
    for point in points.where(ours.given):
        weights = _difference(point, theirs)
        elsewhere = [w for there in minus.equals(point) if (w := _difference(there, theirs))] if minus else []
        if weights and (elsewhere or not minus):
            for other in elsewhere:
                _add(weights, other, -1 / len(elsewhere))
            yield point, weights


def _difference(point: Point, theirs: _Side | None) -> Weights:
    """A point less the mean of its equals; empty if it has none."""
    weights = {point: 1.0}
    if theirs is not None:
        equals = theirs.equals(point)
        for other in equals:
            _add(weights, {other: 1.0}, -1 / len(equals))
        return weights if equals else {}
    return weights


def _add(weights: Weights, more: Weights, factor: float) -> None:
    for point, weight in more.items():
        weights[point] = weights.get(point, 0.0) + factor * weight


class _Side:
    """The other side of a comparison: which of its points are the equals of one of ours."""

    def __init__(self, ours: Select, side: Select, points: Points, planned: Points) -> None:
        freed = {column for name in side.given for column in FREED[name]}
        kept = OF_THE_TEST - freed if "test_dataset" in freed else set()  # of the same test set all else is the same
        wanted = {name: want for name, want in ours.given.items() if name in kept} | side.given
        self.matched = [column for column in MATCHED if column not in freed]
        self.by_columns = grouped(points.where(wanted), self._of)
        open_rate = "strategy" in side.given and side.given.keys().isdisjoint({"variant", "learning_rate"})
        self.planned = grouped(planned.where(wanted) if open_rate else (), self._of)

    def equals(self, point: Point) -> list[Point]:
        columns = self._of(point)
        found = self.by_columns.get(columns, [])
        if columns not in self.planned:
            return found
        there = {other.columns["learning_rate"] for other in self.planned[columns]}
        rates = comparable_rates(point.columns["learning_rate"], there)
        return [other for other in found if other.columns["learning_rate"] in rates]

    def _of(self, point: Point) -> tuple[Any, ...]:
        return tuple(map(point.columns.__getitem__, self.matched))


def contrast(pairs: Sequence[tuple[Point, Weights]]) -> Weights:
    """One weight for every point: the mean over test sets of the mean over their pairs."""
    tests = Counter(point.columns["test_dataset"] for point, _ in pairs)
    total: Weights = {}
    for point, weights in pairs:
        _add(total, weights, 1 / (len(tests) * tests[point.columns["test_dataset"]]))
    return total


def place(each: Sequence[str], label: Label) -> str:
    """Where a comparison was made, from the values of its `each`: trained on → tested on."""
    units = {"shots": "shots", "train_size": "samples", "train_shots": "demonstrations in training"}
    values = {
        name: "/".join(map(str, value)) if name == "role" else value for name, value in zip(each, label, strict=True)
    }
    sides: dict[bool, list[str]] = {True: [], False: []}  # what was trained, what it was tested on
    for name, value in values.items():
        sides[name in OF_AN_ARM].append(f"{value} {units.get(name, '')}".strip())
    return " → ".join(", ".join(part) for part in sides.values() if part)


def needed(points: Sequence[Point], suite: str) -> str:
    """The lines of an experiment that would have these points."""
    names = ("train_dataset", "train_size", "strategy", "test_dataset", "prompt", "shots")
    return _lines({name: dict.fromkeys(p.columns[name] for p in points) for name in names}, suite)


def requested(comparisons: Iterable[Comparison]) -> str:
    """The lines of an experiment that would have what comparisons name."""
    found: dict[str, dict[Any, None]] = {}
    for side in (side for made in comparisons for side in made.sides):
        for column, wanted in side.given.items():
            if not isinstance(wanted, str):
                found.setdefault(column, {}).update(dict.fromkeys(wanted))
    return _lines(found)


def _lines(values: Mapping[str, Iterable[Any]], suite: str | None = None) -> str:
    """Values of columns as YAML of an experiment. If shots differ by task, they are left at the default."""
    keys = {
        "train": {"datasets": "train_dataset", "sizes": "train_size", "strategies": "strategy"},
        "test": {"datasets": "test_dataset", "shots": "shots", "prompts": "prompt"},
    }
    lines = [f"suite: {suite}"] if suite else []
    for part, columns in keys.items():
        listed = {key: [v for v in values.get(column, ()) if v is not None] for key, column in columns.items()}
        if suite and listed.get("shots") != [0]:
            listed.pop("shots", None)
        written = {key: sorted(found) if key in ("sizes", "shots") else found for key, found in listed.items() if found}
        if written:
            lines.append(f"{part}: {dialect.write(written, flow=True)}")
    return "\n".join(lines)


def unknown_names(comparison: Comparison, grid: Grid) -> list[str]:
    """Names in a comparison that nothing in the grid has, a line each."""
    known: dict[str, list[Any]] = {
        "variant": [v.name for v in grid.variants],
        **{
            name: [v.factors.get(name) for v in grid.variants]
            for name, factor in FACTORS.items()
            if factor.type is str and not factor.choices
        },
        "test_dataset": [t.name for t in grid.tests],
        "task": [t.task for t in grid.tests],
        "prompt": [c.prompt for c in grid.cells],
    }
    found: dict[str, None] = {}
    for side in comparison.sides:
        for column, wanted in side.given.items():
            names = list(dict.fromkeys(name for name in known.get(column, ()) if name))
            for name in wanted if column in known else ():
                if name not in names:
                    found[f"# no {column} {name!r} in this experiment ({did_you_mean(name, names)})"] = None
    return list(found)


@lru_cache(maxsize=8)
def study_grid(sizes: tuple[int, ...] = (2000,)) -> Grid:
    """All that the study compares, of which nothing has run: Table 1, FT at `sizes`, FTICL at the first of them."""
    specs = {name: spec for name, spec in load_suite("paper").datasets.items() if name != "snli"}  # not the study's
    tasks = {name: FIVE[spec.task or ""] for name, spec in specs.items()}
    trained = {name: tasks[name] for name, spec in specs.items() if spec.train}
    variants = [Variant("base", "base", "base")]
    for name, task in trained.items():
        recipes = [("ft", size, 0) for size in sizes] + [("fticl", sizes[0], k) for k in task.fticl_shots]
        for strategy, size, k in recipes:
            key = f"{name}-{strategy}{k or ''}-{size}"
            factors: dict[str, Value] = {"strategy": strategy, "train_dataset": name, "train_task": task.name}
            factors |= {"train_kind": task.kind, "train_size": size, "train_shots": k}
            variants.append(Variant(key, key, "trained", factors, 0, against=STRATEGIES[strategy].against))
    cells = []
    for variant, (test, task) in product(variants, tasks.items()):
        role: Role | None = None
        if variant.train_dataset:
            role = role_of(test, specs[test], task.name, variant.train_dataset, str(variant.factors["train_task"]))
        for shots, prompt in product(task.shots, task.prompts):
            key = f"{variant.key} {test} {shots} {prompt}"
            cells.append(Cell(key, variant.key, Condition(test, prompt, shots, 0), task.name, role, n=0))
    tests = [
        TestInfo(name, specs[name].title, t.name, t.kind, t.labels, t.metrics, "", n=0) for name, t in tasks.items()
    ]
    labels = {name: task.labels for name, task in trained.items() if task.labels}
    return Grid("", "sound", tuple(variants), tuple(cells), tuple(tests), labels)


def is_of_study(grid: Grid) -> bool:
    """Whether a grid has test sets of the study, so that its figures and claims are about these results."""
    return not {test.name for test in study_grid().tests}.isdisjoint(test.name for test in grid.tests)
