"""The audit of an experiment's data: each list of rows alone, and against the lists that it must not overlap with.

`audit` is pure: it takes lists of rows in memory and reads nothing. It checks each list alone (`defects`). Then it
compares (`overlap`) test rows with the demonstrations shown before them and with every training set at its largest
size, and demonstrations with every training set of their task. Each problem is a `Defect` of a list, with row numbers.
Properties that are no problem, such as the length of texts, are in `Audited`.

Rows should come as their source has them (`load.load_untouched`), so that the counts are those of the data and not of
the rows that a reader has kept. Each defect tells which of its rows the experiment scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, NamedTuple

from ..data.alike import RowSet, near_rows
from ..errors import Finding
from ..text.labels import Labels
from . import defects
from .defects import Defect
from .overlap import NOUNS, between, noun, within

FAR = 1.5  # two medians are another length if one is so many times the other
LONG = 10  # and the longer one has at least so many tokens
MEASURED = 1000  # the lengths of so many rows of a list are measured

CountTokens = Callable[[Sequence[str]], Sequence[int]]


class Lengths(NamedTuple):
    """Tokens of one field, over the first `MEASURED` rows."""

    median: float
    longest: int


@dataclass(frozen=True)
class Audited:
    """A list and its defects. `labels`: how many rows have each label, those of the task first."""

    rows: RowSet
    lengths: Mapping[str, Lengths]
    labels: Mapping[str, int] | None
    defects: tuple[Defect, ...]

    def scored(self, defect: Defect) -> list[int]:
        """The rows of a defect that the experiment scores."""
        return [row for row in defect.rows if row in self.rows.scored]

    def findings(self) -> Iterator[Finding]:
        """Every defect as a line."""
        for defect in self.defects:
            yield Finding(defect.level, defect.line(NOUNS[self.rows.part]), self.rows.name)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.rows.name,
            "dataset": self.rows.dataset,
            "part": self.rows.part,
            "task": self.rows.task.name,
            "rows": len(self.rows.rows),
            "requested": self.rows.requested,
            "scored": len(self.rows.scored),
            "labels": self.labels,
            "tokens": {name: lengths._asdict() for name, lengths in self.lengths.items()},
            "defects": [
                {**asdict(defect), "mend": defect.named.mend, "count": len(defect.rows), "scored": self.scored(defect)}
                for defect in self.defects
            ],
        }


Step = Callable[[int], None]
"""Called when so many rows have been worked on, each several times: `READ`, `MARKED`, `PAIRED`, `SEARCHED`."""
READ, MARKED, PAIRED, SEARCHED = 3, 4, 3, 1  # how long each takes, in proportion


def audit(lists: Sequence[RowSet], tokens: CountTokens, step: Step = lambda rows: None) -> list[Audited]:
    """Check each list, and every two lists that must not overlap.

    Demonstrations belong to the test set of the same data set. Of a training set at several sizes, the largest is
    checked completely. For the smaller ones, rows are counted and demonstrations are compared with them.
    """
    respelled = {n: list(defects.respelled(one.rows, one.task.labels or ())) for n, one in enumerate(lists)}
    lists = [as_labels(one) if respelled[n] else one for n, one in enumerate(lists)]
    largest = _largest(lists)
    whole = [n for n, one in enumerate(lists) if one.part != "train" or n in largest]
    pairs = list(_pairs(lists, largest))
    for n, one in enumerate(lists):
        if n in whole or any(n in pair for pair in pairs):
            one.marks  # noqa: B018 - made here, so that it is counted
        step(MARKED * len(one.rows))
    near = near_rows(lists, [*pairs, *((n, n) for n in whole)])
    step(PAIRED * sum(len(one.rows) for one in lists))
    lengths = {n: _lengths(lists[n], tokens) for n in whole}
    found: dict[int, list[Defect]] = {n: list(_short(one)) for n, one in enumerate(lists)}
    for n in whole:
        found[n] += [*respelled[n], *_alone(lists[n]), *within(lists[n], near[n, n])]
        step(SEARCHED * len(lists[n].rows))
    for n, m in pairs:
        found[n] += between(lists[n], lists[m], near[n, m])
        if lists[n].part == "test" and lists[n].task.name == lists[m].task.name and m in largest:
            found[n] += _other_length(lists[n], lengths[n], lists[m], lengths[m])
    for defects_of_one in found.values():
        defects_of_one.sort(key=lambda defect: defect.level != "warning")
    return [Audited(one, lengths.get(n, {}), _counts(one), tuple(found[n])) for n, one in enumerate(lists)]


def as_labels(one: RowSet) -> RowSet:
    """The list with each target that is a label in another spelling as that label."""
    labels = Labels(tuple(one.task.labels or ()))
    rows = [replace(row, target=labels.find(row.target) or row.target) for row in one.rows]
    return RowSet(one.dataset, one.part, one.task, rows, one.requested, one.scored)


def _largest(lists: Sequence[RowSet]) -> set[int]:
    """The number of each training set's longest list."""
    found: dict[str, int] = {}
    for n, one in enumerate(lists):
        if one.part == "train":
            found[one.dataset] = max(found.get(one.dataset, n), n, key=lambda each: len(lists[each].rows))
    return set(found.values())


def _pairs(lists: Sequence[RowSet], largest: set[int]) -> Iterator[tuple[int, int]]:
    """The numbers of the lists that are compared: each list with another one."""
    for n, one in enumerate(lists):
        for m, other in enumerate(lists):
            shown = one.part == "test" and other.part == "demos" and other.dataset == one.dataset
            learnt = one.part == "demos" and other.part == "train" and other.task.name == one.task.name
            if shown or learnt or (one.part == "test" and m in largest):
                yield n, m


def _short(one: RowSet) -> Iterator[Defect]:
    if one.requested and len(one.rows) < one.requested:
        yield Defect("short", f"{len(one.rows):,} rows, {one.requested:,} were requested", len(one.rows))


def _alone(one: RowSet) -> Iterator[Defect]:
    yield from defects.unanswered(one.rows)
    yield from defects.empty(one.rows)
    yield from defects.damage(one.rows)
    if labels := one.task.labels:
        yield from defects.outside(one.rows, labels)
        if one.part == "demos":
            yield from defects.balance(one.rows, labels, one.task.shots)
        else:
            yield from defects.absent(one.rows, labels, one.scored, trained=one.part == "train")
    elif one.task.own_options:
        yield from defects.options(one.rows)
    elif one.part == "test" and "bleu" in one.task.metrics:
        yield from defects.unseen(one.rows)


def _counts(one: RowSet) -> dict[str, int] | None:
    counts = Counter(row.target for row in one.rows)
    return {label: counts[label] for label in dict.fromkeys([*one.task.labels, *counts])} if one.task.labels else None


def _lengths(one: RowSet, tokens: CountTokens) -> dict[str, Lengths]:
    rows = one.rows[:MEASURED]
    texts = {
        name: [row.fields[name] for row in rows] for name in (rows[0].fields if rows and not rows[0].whole else ())
    }
    if rows and not one.task.is_classification:
        texts["target"] = [row.target for row in rows]
    counts = {name: tokens(found) for name, found in texts.items()}
    return {name: Lengths(median(found), max(found)) for name, found in counts.items()}


def _other_length(
    one: RowSet, ours: Mapping[str, Lengths], other: RowSet, theirs: Mapping[str, Lengths]
) -> Iterator[Defect]:
    """Texts much longer or shorter than in the task's training set: they differ in length as well as in domain."""
    for name in [name for name in ours if name in theirs]:
        a, b = ours[name].median, theirs[name].median
        if max(a, b) >= max(FAR * min(a, b), LONG):
            what = f"{name}: a median of {a:g} tokens, {b:g} in {noun(other)}"
            figures = {"field": name, "median": a, "median_against": b}
            yield Defect("length", what, len(one.rows), against=other.name, figures=figures)
