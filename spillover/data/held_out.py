"""Rows that are held out of a data set's training rows (`hold_out` in the YAML): test rows, and demonstrations.

No file is changed or copied: the same rows are held out whenever the data set is read. Rows that have a text in common
with test rows stay on their side: the same row twice, nearly the same, a shared field (`alike`), a long answer, or one
value in the column `by`. Such components are drawn in an order that a hash of their first text and the seed gives,
until there are enough rows. So rows that are added to a file later change little.

If shared answers leave too few rows that can be held out, rows may share them. `check` counts the test rows with an
answer that training rows have, and their scores without these rows are given too.

Demonstrations are taken from the rows that remain, in an order that a hash gives: each label in turn, and one row of a
component. So as many of them as there are labels show each label once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice, zip_longest
from typing import NamedTuple

from ..errors import DataError
from ..experiment.suite import HoldOut
from ..fingerprint import fingerprint
from ..text.task import Example, Task
from .alike import RowSet, alike
from .nearly import components

LARGE = 0.25  # a component is large if it has a larger share of the rows that are asked for
ENOUGH = 0.5  # of the rows that are asked for


Candidate = tuple[Example, str | None]
"""A row that may be held out, and the name of its group if there is one."""


class Held(NamedTuple):
    """The doc_ids of the rows that are held out. Demonstrations in the order in which they are shown."""

    test: frozenset[int] = frozenset()
    demos: tuple[int, ...] = ()


def held_out(name: str, candidates: Sequence[Candidate], rule: HoldOut, task: Task) -> Held:
    """About `rule.rows` test rows and `rule.demos` demonstrations. Raises DataError where there are too few."""
    where = f"datasets.{name}.hold_out"
    if (wanted := (rule.rows or 0) + (rule.demos or 0)) >= len(candidates):
        what = f"{wanted:,} of {len(candidates):,} rows leave none to train on"
        raise DataError(what, where=where, allowed="fewer rows")
    examples = [example for example, _ in candidates]
    component: Sequence[int] = range(len(candidates))
    test: list[int] = []
    if rule.rows is not None:
        component, test = _test_rows(name, candidates, rule.rows, rule.seed, task, where)
    demos = _demos(component, examples, {component[place] for place in test}, rule, task)
    if len(demos) < (rule.demos or 0):
        what = f"only {len(demos):,} of {rule.demos:,} demonstrations can be held out beside the test rows"
        raise DataError(what, where=where, allowed="fewer demos")
    doc_ids = [example.doc_id for example in examples]
    return Held(frozenset(doc_ids[place] for place in test), tuple(doc_ids[place] for place in demos))


def _test_rows(
    name: str, candidates: Sequence[Candidate], wanted: int, seed: int, task: Task, where: str
) -> tuple[Sequence[int], list[int]]:
    """The component of each row, and the places of the test rows."""
    examples = [example for example, _ in candidates]
    one = RowSet(name, "train", task, examples)
    by_group: dict[str, list[int]] = {}
    for place, (_, group) in enumerate(candidates):
        if group is not None:
            by_group.setdefault(group, []).append(place)
    for targets in (True, False):
        component = components(len(candidates), [*alike(one, targets), *by_group.values()])
        places = _drawn(component, examples, wanted, seed)
        if len(places) >= ENOUGH * wanted:
            return component, places
    [(_, together)] = Counter(component).most_common(1)
    what = f"only {len(places):,} of {wanted:,} rows can be held out: {together:,} of {len(candidates):,} rows"
    raise DataError(f"{what} have texts or a group in common", where=where, allowed="give test rows of their own")


def _demos(
    component: Sequence[int], examples: Sequence[Example], taken: set[int], rule: HoldOut, task: Task
) -> list[int]:
    """The places of the demonstrations: the first row of each label, then the second, of components that are free."""
    free = {number: place for place, number in reversed([*enumerate(component)]) if number not in taken}
    order = sorted(free.values(), key=lambda place: fingerprint(["demonstration", rule.seed, examples[place].content]))
    by_label: dict[str, list[int]] = {label: [] for label in task.labels or ("",)}
    for place in order:
        by_label[examples[place].target if task.labels else ""].append(place)
    turns = (place for turn in zip_longest(*by_label.values()) for place in turn if place is not None)
    return [*islice(turns, rule.demos or 0)]


def _drawn(component: Sequence[int], examples: Sequence[Example], wanted: int, seed: int) -> list[int]:
    """The places of the rows in the first components that there is room for, of which large ones come last."""
    members: dict[int, list[int]] = {}
    for place, number in enumerate(component):
        members.setdefault(number, []).append(place)
    order = sorted(
        members.values(),
        key=lambda places: (len(places) > wanted * LARGE, fingerprint([seed, examples[places[0]].content])),
    )
    drawn: list[int] = []
    for places in order:
        if len(drawn) + len(places) <= wanted:
            drawn += places
    return sorted(drawn)
