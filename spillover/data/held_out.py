"""Test rows that are held out of a data set's training rows (`hold_out` in the YAML).

No file is changed or copied: the same rows are held out whenever the data set is read. Rows that have a text in common
stay on one side: the same row twice, nearly the same, a shared field (`alike`), a long answer, or one value in the
column `by`. Such components are drawn in an order that a hash of their first text and the seed gives, until there are
enough rows. So rows that are added to a file later change little.

If shared answers leave too few rows that can be held out, rows may share them. `check` counts the test rows with an
answer that training rows have, and their scores without these rows are given too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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


def held_out(name: str, candidates: Sequence[Candidate], rule: HoldOut, task: Task) -> frozenset[int]:
    """The doc_ids of the rows that are held out: about `rule.rows`. Raises DataError where hardly any can be."""
    where = f"datasets.{name}.hold_out"
    if rule.rows >= len(candidates):
        what = f"{rule.rows:,} of {len(candidates):,} rows leave none to train on"
        raise DataError(what, where=where, allowed="fewer rows")
    examples = [example for example, _ in candidates]
    one = RowSet(name, "train", task, examples)
    by_group: dict[str, list[int]] = {}
    for place, (_, group) in enumerate(candidates):
        if group is not None:
            by_group.setdefault(group, []).append(place)
    for targets in (True, False):
        component = components(len(candidates), [*alike(one, targets), *by_group.values()])
        places = _drawn(component, examples, rule)
        if len(places) >= ENOUGH * rule.rows:
            return frozenset(examples[place].doc_id for place in places)
    [(_, together)] = Counter(component).most_common(1)
    what = f"only {len(places):,} of {rule.rows:,} rows can be held out: {together:,} of {len(candidates):,} rows"
    raise DataError(f"{what} have texts or a group in common", where=where, allowed="give test rows of their own")


def _drawn(component: Sequence[int], examples: Sequence[Example], rule: HoldOut) -> list[int]:
    """The places of the rows in the first components that there is room for, of which large ones come last."""
    members: dict[int, list[int]] = {}
    for place, number in enumerate(component):
        members.setdefault(number, []).append(place)
    order = sorted(
        members.values(),
        key=lambda places: (len(places) > rule.rows * LARGE, fingerprint([rule.seed, examples[places[0]].content])),
    )
    drawn: list[int] = []
    for places in order:
        if len(drawn) + len(places) <= rule.rows:
            drawn += places
    return sorted(drawn)
