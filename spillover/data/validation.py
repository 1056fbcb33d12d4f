"""Validation rows: held out of a data set's training rows, for a choice among alternatives.

They come from the rows beyond those that are trained on, as long as there are such. Otherwise they are taken out of
these, at most `MOST` of them. Rows that have a text in common (the same row twice, nearly the same, a shared field) or
one value in the column `group` stay on their side. A row that leaks from a test row, or that is one, is never taken.
The order in which rows are drawn is given by a hash of their first text and a seed. So rows that are added to a file
later change little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import chain

from ..fingerprint import fingerprint
from ..text.task import Example
from .alike import RowSet, alike, leaking, near_rows
from .nearly import components

MOST = 0.25  # of the rows that are trained on
MANY = 8  # so many times as many rows as are wanted are read


def drawn(
    one: RowSet, first: int | None, wanted: int, seed: int, groups: Mapping[int, str], tests: Sequence[RowSet]
) -> tuple[Example, ...]:
    """About `wanted` of the rows of `one`, in the order of their source.

    The `first` rows are those that are trained on (None: all). `groups` are the values of the column by doc_id.
    """
    rows, members = one.rows, _members(one, groups)
    first = len(rows) if first is None else min(first, len(rows))
    leaks = _leaks(one, tests)
    room, of_trained = wanted, int(MOST * first)
    chosen: list[int] = []
    by_hash = sorted(members, key=lambda places: fingerprint([seed, rows[places[0]].content]))
    for places in sorted(by_hash, key=lambda places: places[0] < first):  # those beyond come before the others
        trained = sum(place < first for place in places)
        if len(places) <= room and trained <= of_trained and leaks.isdisjoint(places):
            chosen += places
            room, of_trained = room - len(places), of_trained - trained
    return tuple(rows[place] for place in sorted(chosen))


def beside(one: RowSet, held: Set[int], groups: Mapping[int, str]) -> tuple[Example, ...]:
    """The rows of `one` that have neither a text nor a group in common with those that are `held` (by doc_id)."""
    kept = (places for places in _members(one, groups) if held.isdisjoint(one.rows[place].doc_id for place in places))
    return tuple(one.rows[place] for place in sorted(chain.from_iterable(kept)))


def _members(one: RowSet, groups: Mapping[int, str]) -> list[list[int]]:
    """The places of the rows of each component."""
    by_group: dict[str, list[int]] = {}
    for place, row in enumerate(one.rows):
        if (group := groups.get(row.doc_id)) is not None:
            by_group.setdefault(group, []).append(place)
    found: dict[int, list[int]] = {}
    for place, number in enumerate(components(len(one.rows), [*alike(one, targets=False), *by_group.values()])):
        found.setdefault(number, []).append(place)
    return list(found.values())


def _leaks(one: RowSet, tests: Sequence[RowSet]) -> set[int]:
    """The places of rows that leak from test rows."""
    near = near_rows([one, *tests], [(0, number) for number in range(1, len(tests) + 1)])
    return {place for n, test in enumerate(tests, 1) for place in leaking(one, test, near[0, n])}
