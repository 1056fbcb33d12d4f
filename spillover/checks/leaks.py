"""What `overlap` finds, as defects: rows of a list that stand in it twice, and rows that stand in another list too.

Every count is given under each normaliser (`duplicates.NORMALISERS`); the rows named are those of the widest, `words`.
Where rows that are scored are concerned, the defect is a warning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from ..text.task import Example
from .defects import Defect, excerpt
from .duplicates import NORMALISERS
from .overlap import Kind, RowSet, clusters, connected

Figures = Mapping[str, Any]


def within(rows: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of one list that are the same, nearly the same (`near`: as which), or connected by shared fields."""
    groups = {how: [g for g in rows.keys("duplicate", how).places.values() if len(g) > 1] for how in NORMALISERS}
    by = {how: sum(map(len, found)) for how, found in groups.items()}
    same = {row for group in groups["words"] for row in group}
    if same:
        conflicting = sum(len(g) for g in groups["words"] if len({rows.rows[row].target for row in g}) > 1)
        what = f"stand there more than once{_by(by)}"
        what += f"; {conflicting} of them with different targets" if conflicting else ""
        figures = {"by": by, "conflicting": conflicting}
        yield _alike("duplicate", what, rows, same, groups["words"][0], figures)
    nearly = set(near) - same
    if nearly:
        first = min(nearly)
        yield _alike("near_duplicate", "are nearly the same as another", rows, nearly, [first, near[first]], {})
    component = clusters(rows)
    sizes = Counter(component)
    sharing = [row for row in range(len(component)) if sizes[component[row]] > 1]
    if set(sharing) - same:
        several, most = sum(size > 1 for size in sizes.values()), max(sizes.values())
        what = f"share a field with another: {several:,} groups, the largest of {most:,} rows"
        group = [row for row in sharing if component[row] == component[sharing[0]]]
        yield _alike("shared_field", what, rows, sharing, group, {"components": several, "largest": most})


def between(one: RowSet, other: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of `one` that stand in `other`, as a whole, nearly (`near`: as which), by a field, by their target."""
    for defect in _met(one, other, near):
        # A demonstration about the same premise is no answer; to be trained on it is a head start.
        tells = other.part == "train" or defect.kind != "shared_field"
        touched = any(row in one.scored for row in defect.rows)
        yield replace(defect, against=other.name, level="warning" if tells and touched else "note")


def _met(one: RowSet, other: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    kinds: tuple[Kind, ...] = get_args(Kind)
    met = {kind: {how: one.keys(kind, how).met(other.keys(kind, how)) for how in NORMALISERS} for kind in kinds}
    by = {kind: {how: len(found) for how, found in each.items()} for kind, each in met.items()}
    same, shared, targets = (met[kind]["words"] for kind in kinds)
    if same:
        what = f"are {other.noun} too{_by(by['duplicate'])}"
        yield _meeting("duplicate", what, one, other, same, {"by": by["duplicate"]})
    nearly = {row: at for row, at in near.items() if row not in same}
    if nearly:
        yield _meeting("near_duplicate", f"are nearly {other.noun}", one, other, nearly, {})
    if shared.keys() - same.keys():
        yield _shared_field(one, other, shared, by["shared_field"])
    if targets and one.part == "test" and other.part == "train":
        different = {how: len({normal(row.target) for row in other.rows}) for how, normal in NORMALISERS.items()}
        what = f"have a target that is one of the {different['words']:,} of {other.noun}{_by(by['shared_target'])}"
        figures = {"by": by["shared_target"], "distinct_targets": different}
        yield _meeting("shared_target", what, one, other, targets, figures)


def _shared_field(one: RowSet, other: RowSet, shared: Mapping[int, int], by: Mapping[str, int]) -> Defect:
    wholly = {how: len(one.keys("shared_field", how).wholly(other.keys("shared_field", how))) for how in NORMALISERS}
    beyond = len(connected(one, other))
    what = f"share a field with {other.noun}{_by(by)}"
    what += f"; {wholly['words']:,} in every field{_by(wholly)}" if wholly["words"] else ""
    what += f"; {beyond:,} are connected to them" if beyond > len(shared) else ""
    figures = {"by": by, "every_field": wholly, "connected": beyond}
    return _meeting("shared_field", what, one, other, shared, figures)


def _alike(kind: str, what: str, rows: RowSet, places: Iterable[int], alike: Sequence[int], figures: Figures) -> Defect:
    """A defect of rows of one list; the first two of `alike` are the example."""
    ids = tuple(rows.rows[place].doc_id for place in sorted(places))
    example = _example(rows.rows[alike[0]], rows.rows[alike[1]])
    return Defect(kind, what, len(rows.rows), ids, figures=figures, example=example)


def _meeting(kind: str, what: str, one: RowSet, other: RowSet, met: Mapping[int, int], figures: Figures) -> Defect:
    """A defect of rows of `one`, each with a row of `other` that it meets; the first is the example."""
    places = sorted(met)
    ids = tuple(one.rows[place].doc_id for place in places)
    example = _example(one.rows[places[0]], other.rows[met[places[0]]])
    return Defect(kind, what, len(one.rows), ids, figures=figures, example=example)


def _example(row: Example, other: Example) -> str:
    """Two rows by a text that both have, else by the first text of the one."""
    normal = NORMALISERS["words"]
    theirs = {normal(text) for text in (*other.fields.values(), other.target)}
    ours = [text for text in (*row.fields.values(), row.target) if text.strip()]
    return f"{excerpt(row, next((text for text in ours if normal(text) in theirs), ours[0]))}, there row {other.doc_id}"


def _by(by: Mapping[str, int]) -> str:
    """The counts under the stricter normalisers, where they are others."""
    if len(set(by.values())) == 1:
        return ""
    return f" ({by['raw']:,} as they stand, {by['lower']:,} but for case)"
