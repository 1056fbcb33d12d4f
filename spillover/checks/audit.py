"""The audit of an experiment's data: every list of rows for itself, and against those that it must not overlap with.

`audit` is pure: it takes lists of rows in memory and reads nothing. It looks at each list for itself (`defects`), then
(`leaks`) at test rows against the demonstrations shown before them and against every training set at its largest size,
and at demonstrations against every training set of their task. What it finds is a `Defect` of the list that has it,
with row numbers; what is neither right nor wrong, such as how long texts are, stands beside.

Rows should come as their source has them (`load.load_untouched`), so that the counts are those of the data and not of
what a reader left of them. Which of the rows an experiment scores is said with each defect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from ..errors import Finding
from . import defects
from .defects import Defect
from .leaks import between, within
from .overlap import NOUNS, RowSet, near_rows

FAR = 1.5  # medians this many times apart are another length,
LONG = 10  # if the longer one has as many tokens
MEASURED = 1000  # rows of a list whose lengths are taken

Tokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True)
class Lengths:
    """Tokens of one field, over the first `MEASURED` rows."""

    median: float
    longest: int


@dataclass(frozen=True)
class Audited:
    """A list and what was found in it. `labels`: how many rows have each, those of the task first."""

    rows: RowSet
    lengths: Mapping[str, Lengths]
    labels: Mapping[str, int] | None
    defects: tuple[Defect, ...]

    def scored(self, defect: Defect) -> list[int]:
        """The rows of a defect that the experiment scores."""
        return [row for row in defect.rows if row in self.rows.scored]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.rows.name,
            "dataset": self.rows.dataset,
            "part": self.rows.part,
            "task": self.rows.task.name,
            "rows": len(self.rows.rows),
            "asked": self.rows.asked,
            "scored": len(self.rows.scored),
            "labels": self.labels,
            "tokens": {name: asdict(lengths) for name, lengths in self.lengths.items()},
            "defects": [
                {**asdict(defect), "count": len(defect.rows), "scored": self.scored(defect)} for defect in self.defects
            ],
        }


@dataclass(frozen=True)
class Audit:
    """All lists, in the order in which they were given."""

    lists: tuple[Audited, ...]

    def defects(self, name: str, kind: str, against: str = "") -> list[Defect]:
        """The defects of one kind in the list of this name; `against`: with the list of that name."""
        found = [defect for audited in self.lists if audited.rows.name == name for defect in audited.defects]
        return [defect for defect in found if defect.kind == kind and against in ("", defect.against)]

    def findings(self) -> list[Finding]:
        """Every defect as a line."""
        return [
            Finding(defect.level, defect.line(NOUNS[audited.rows.part]), audited.rows.name)
            for audited in self.lists
            for defect in audited.defects
        ]

    def to_json(self) -> list[dict[str, Any]]:
        return [audited.to_json() for audited in self.lists]


def audit(lists: Sequence[RowSet], tokens: Tokens) -> Audit:
    """Look at every list, and at all that must not overlap. `tokens` counts the tokens of texts.

    Demonstrations belong to the test set of the same data set. Of a training set at several sizes the largest is
    looked at as a whole, the others for their number of rows and for demonstrations among them.
    """
    largest = _largest(lists)
    whole = [n for n, one in enumerate(lists) if one.part != "train" or n in largest]
    pairs = list(_pairs(lists, largest))
    near = near_rows(lists, [*pairs, *((n, n) for n in whole)])
    lengths = {n: _lengths(lists[n], tokens) for n in whole}
    found: dict[int, list[Defect]] = {n: list(_short(one)) for n, one in enumerate(lists)}
    for n in whole:
        found[n] += [*_alone(lists[n]), *within(lists[n], near[n, n])]
    for n, other in pairs:
        found[n] += between(lists[n], lists[other], near[n, other])
        if lists[n].part == "test" and lists[n].task.name == lists[other].task.name and other in largest:
            found[n] += _other_length(lists[n], lengths[n], lists[other], lengths[other])
    for defects_of_one in found.values():
        defects_of_one.sort(key=lambda defect: defect.level != "warning")
    return Audit(tuple(Audited(one, lengths.get(n, {}), _counts(one), tuple(found[n])) for n, one in enumerate(lists)))


def _largest(lists: Sequence[RowSet]) -> set[int]:
    """The number of each training set's longest list."""
    found: dict[str, int] = {}
    for n, one in enumerate(lists):
        if one.part == "train" and len(one.rows) > len(lists[found.setdefault(one.dataset, n)].rows):
            found[one.dataset] = n
    return set(found.values())


def _pairs(lists: Sequence[RowSet], largest: set[int]) -> Iterator[tuple[int, int]]:
    """Which list is looked at against which."""
    for n, one in enumerate(lists):
        for m, other in enumerate(lists):
            shown = one.part == "test" and other.part == "demos" and other.dataset == one.dataset
            learnt = one.part == "demos" and other.part == "train" and other.task.name == one.task.name
            if shown or learnt or (one.part == "test" and m in largest):
                yield n, m


def _short(one: RowSet) -> Iterator[Defect]:
    if one.asked and len(one.rows) < one.asked:
        yield Defect("short", f"{len(one.rows):,} rows, {one.asked:,} were asked for", len(one.rows))


def _alone(one: RowSet) -> Iterator[Defect]:
    yield from defects.empty(one.rows)
    yield from defects.damage(one.rows)
    if not one.task.labels:
        return
    yield from defects.outside(one.rows, one.task.labels)
    if one.part == "demos":
        yield from defects.balance(one.rows, one.task.labels, one.task.shots)
    else:
        yield from defects.absent(one.rows, one.task.labels, one.scored)


def _counts(one: RowSet) -> dict[str, int] | None:
    counts = Counter(row.target for row in one.rows)
    return {label: counts[label] for label in dict.fromkeys([*one.task.labels, *counts])} if one.task.labels else None


def _lengths(one: RowSet, tokens: Tokens) -> dict[str, Lengths]:
    rows = one.rows[:MEASURED]
    texts = {name: [row.fields[name] for row in rows] for name in (rows[0].fields if rows else ())}
    if rows and not one.task.labels:
        texts["target"] = [row.target for row in rows]
    counts = {name: tokens(found) for name, found in texts.items()}
    return {name: Lengths(median(found), max(found)) for name, found in counts.items()}


def _other_length(
    one: RowSet, ours: Mapping[str, Lengths], other: RowSet, theirs: Mapping[str, Lengths]
) -> Iterator[Defect]:
    """Texts much longer or shorter than those of the task's training set: a shift of length beside that of domain."""
    for name in (name for name in ours if name in theirs):
        a, b = ours[name].median, theirs[name].median
        if max(a, b) >= max(FAR * min(a, b), LONG):
            what = f"{name}: {a:g} tokens in the middle, {b:g} in {other.noun}"
            figures = {"field": name, "median": a, "median_against": b}
            yield Defect("length", what, len(one.rows), against=other.name, figures=figures)
