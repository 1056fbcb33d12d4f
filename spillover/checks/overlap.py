"""Rows that are the same, as defects: within one list of rows, and between a list and another.

What "the same" means, and which rows leak, is in `data.alike`. Every count is given under each normaliser
(`alike.NORMALISERS`). The rows of a defect are those of the widest, `words`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from ..data.alike import NORMALISERS, Keys, Kind, RowSet, clusters, connected, met_rows, texts_of
from ..data.rows import Part
from ..text.task import Example
from .defects import Defect, excerpt
from .kinds import IN_ANOTHER_LIST

NOUNS: Mapping[Part, str] = {"train": "training rows", "test": "test rows", "demos": "demonstrations"}


def noun(one: RowSet) -> str:
    """The rows as findings of other lists name them: `training rows of paws (6,000)`."""
    return f"{NOUNS[one.part]} of {one.dataset}" + (f" ({one.requested:,})" if one.has_size else "")


def within(one: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of one list that are the same, nearly the same (`near`: as which), or connected by shared fields."""
    groups = {how: one.keys("duplicate", how).repeated() for how in NORMALISERS}
    by = {how: sum(map(len, found)) for how, found in groups.items()}
    same = _partners(groups["words"])
    if same:
        conflicting = sum(len(g) for g in groups["words"] if not _one_answer(one.rows[row] for row in g))
        what = f"stand there more than once{_by(by)}"
        what += f"; {conflicting} of them with different targets" if conflicting else ""
        yield _defect("duplicate", what, one, one, same, by=by, conflicting=conflicting)
    if nearly := {row: other for row, other in near.items() if row not in same}:
        yield _defect("near_duplicate", "are nearly the same as another", one, one, nearly)
    components_of_several = Keys(np.array(clusters(one)), np.arange(len(one.rows))).repeated()
    sharing = _partners(components_of_several)
    if sharing.keys() - same.keys():
        several, largest = len(components_of_several), max(map(len, components_of_several))
        what = f"share a field with another: {several:,} groups, the largest of {largest:,} rows"
        yield _defect("shared_field", what, one, one, sharing, components=several, largest=largest)


def between(one: RowSet, other: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of `one` that are also in `other`: as a whole, nearly (`near`: as which), by a field, by their target."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    met = {kind: {how: met_rows(one, other, kind, how) for how in NORMALISERS} for kind in kinds}
    by = {kind: {how: len(found) for how, found in each.items()} for kind, each in met.items()}
    same, shared, targets = (met[kind]["words"] for kind in kinds)
    if same:
        what = f"are {noun(other)} too{_by(by['duplicate'])}"
        yield _defect("duplicate", what, one, other, same, by=by["duplicate"])
    if nearly := {row: place for row, place in near.items() if row not in same}:
        yield _defect("near_duplicate", f"are nearly {noun(other)}", one, other, nearly)
    if shared.keys() - same.keys():
        keys = {how: [each.keys("shared_field", how) for each in (one, other)] for how in NORMALISERS}
        wholly = {how: ours.wholly(theirs) for how, (ours, theirs) in keys.items()}
        beyond = connected(one, other)
        what = f"share a field with {noun(other)}{_by(by['shared_field'])}"
        what += f"; {wholly['words']:,} in every field{_by(wholly)}" if wholly["words"] else ""
        what += f"; {beyond:,} are connected to them" if beyond > len(shared) else ""
        figures = {"by": by["shared_field"], "every_field": wholly, "connected": beyond}
        yield _defect("shared_field", what, one, other, shared, **figures)
    if targets and one.part == "test" and other.part == "train":
        different = {how: len({normal(row.target) for row in other.rows}) for how, normal in NORMALISERS.items()}
        what = f"have one of the {different['words']:,} different targets of {noun(other)}{_by(by['shared_target'])}"
        figures = {"by": by["shared_target"], "distinct_targets": different}
        yield _defect("shared_target", what, one, other, targets, **figures)


def _one_answer(rows: Iterable[Example]) -> bool:
    """Whether one answer is right for all of them."""
    return bool(set.intersection(*(set(row.right) for row in rows)))


def _partners(groups: Sequence[Sequence[int]]) -> dict[int, int]:
    """Each row of a group, with another row of the group."""
    return {row: group[1] if row == group[0] else group[0] for group in groups for row in group}


def _defect(kind: str, what: str, one: RowSet, other: RowSet, met: Mapping[int, int], **figures: Any) -> Defect:
    """A defect of the rows `met` of `one`, each with the row of `other` that it meets. The first is the example.

    It is a warning if a row is scored that helps the model: to share a premise with a demonstration does not.
    """
    places = sorted(met)
    ids = tuple(one.rows[place].doc_id for place in places)
    helps = other is not one and (other.part == "train" or kind != "shared_field")
    return Defect(
        kind,
        what,
        of=len(one.rows),
        rows=ids,
        against="" if other is one else other.name,
        figures=figures,
        example=_example(one.rows[places[0]], other.rows[met[places[0]]]),
        level="warning" if helps and not one.scored.isdisjoint(ids) else "note",
        mend="" if other is one or kind == "shared_target" else IN_ANOTHER_LIST[other.part],
    )


def _example(row: Example, other: Example) -> str:
    """Two rows, shown by a text that both have, else by the first text of `row`."""
    normal = NORMALISERS["words"]
    theirs = {normal(text) for text in (*texts_of(other), other.target)}
    ours = [text for text in (*texts_of(row), row.target) if text.strip()]
    return f"{excerpt(row, next((text for text in ours if normal(text) in theirs), ours[0]))}, there row {other.doc_id}"


def _by(by: Mapping[str, int]) -> str:
    """The counts under each normaliser, where they differ."""
    if len(set(by.values())) == 1:
        return ""
    letters = f"{by['raw']:,} letter for letter, {by['lower']:,} if case is ignored"
    return f" ({letters}, {by['words']:,} if punctuation and spaces are too)"
