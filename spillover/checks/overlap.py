"""Rows that are the same: within one list, and between a list and another; and which test rows leak.

A test row leaks from the rows that a model was trained on if one of these is true, case and punctuation aside:

    duplicate       all its inputs are those of a training row
    near_duplicate  nearly all of its words are (`duplicates.NEAR`)
    shared_field    one of its fields is a field of a training row: the model has seen the sentence, premise or article
    shared_target   its answer is free text, and the answer of a training row

Three limits. Fields and answers of fewer than `MIN_WORDS` words ("yes", "Paris") are the same by chance and do not
leak; a row of fewer words in all is a duplicate only with its punctuation, since `3 + 4` is not `3 - 4`. A field that
hardly differs from row to row, such as an instruction, does not leak (`TELLING`). And common questions have common
answers: a seen answer does not prove that it is remembered. It is enough reason to score the other rows separately.

Every count is given under each normaliser (`duplicates.NORMALISERS`). The rows of a defect are those of the widest,
`words`. Rows of one list that share a field (PAWS, MNLI) depend on each other: `clusters` gives their components.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from ..data.rows import Part
from ..text.task import Example, Task
from ..text.words import words
from .defects import Defect, excerpt
from .duplicates import MIN_WORDS, NORMALISERS, components, near_pairs

TELLING = 1 / 20  # a field distinguishes rows if it has at least so many different texts for each row

NOUNS: Mapping[Part, str] = {"train": "training rows", "test": "test rows", "demos": "demonstrations"}
Kind = Literal["duplicate", "shared_field", "shared_target"]  # near_duplicate has no keys
Near = Mapping[tuple[int, int], Mapping[int, int]]


@dataclass(frozen=True)
class Keys:
    """The texts by which each row is known: none, one or several."""

    of: Sequence[tuple[Hashable, ...]]

    @cached_property
    def places(self) -> Mapping[Hashable, list[int]]:
        """The rows of each text."""
        places: dict[Hashable, list[int]] = defaultdict(list)
        for row, texts in enumerate(self.of):
            for text in dict.fromkeys(texts):
                places[text].append(row)
        return dict(places)

    def repeated(self) -> list[list[int]]:
        """The rows of each text that several rows have."""
        return [rows for rows in self.places.values() if len(rows) > 1]

    def met(self, other: Keys) -> dict[int, int]:
        """The rows that share a text with a row of `other`, and the first such row."""
        found = ((row, other.places.get(text)) for row, texts in enumerate(self.of) for text in texts)
        return {row: places[0] for row, places in found if places}

    def wholly(self, other: Keys) -> int:
        """How many rows have several texts, each of which a row of `other` has."""
        return sum(len(texts) > 1 and all(text in other.places for text in texts) for texts in self.of)


@dataclass(frozen=True, eq=False)
class RowSet:
    """One list of rows of a data set.

    `requested`: how many rows it should have, if that is known. `scored`: the doc_ids of the rows that are scored.
    """

    dataset: str
    part: Part
    task: Task
    rows: Sequence[Example]
    requested: int | None = None
    scored: frozenset[int] = frozenset()
    _keys: dict[tuple[Kind, str], Keys] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """`paws test`, `paws train 6000`."""
        return f"{self.dataset} {self.part}" + (f" {self.requested}" if self._has_size else "")

    @property
    def noun(self) -> str:
        """The rows as findings of other lists name them: `training rows of paws (6,000)`."""
        return f"{NOUNS[self.part]} of {self.dataset}" + (f" ({self.requested:,})" if self._has_size else "")

    @property
    def _has_size(self) -> bool:
        return self.part == "train" and bool(self.requested)

    @cached_property
    def words(self) -> list[list[list[str]]]:
        """The words of every part of every row: earlier turns first, then the fields."""
        return [[words(text) for text in _parts(row)] for row in self.rows]

    @cached_property
    def telling(self) -> frozenset[str]:
        """The fields that tell rows apart."""
        different: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            for name, text in row.fields.items():
                different[name].add(text)
        enough = max(min(2, len(self.rows)), TELLING * len(self.rows))
        return frozenset(name for name, texts in different.items() if len(texts) >= enough)

    def keys(self, kind: Kind, how: str) -> Keys:
        """The texts that count for a kind of overlap, under one of `NORMALISERS`."""
        if (kind, how) not in self._keys:
            of = {"duplicate": self._whole, "shared_field": self._fields, "shared_target": self._target}[kind]
            rows = zip(self.rows, self.words, strict=True)
            self._keys[kind, how] = Keys([of(row, parts, how) for row, parts in rows])
        return self._keys[kind, how]

    def _whole(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        if how == "words" and sum(map(len, parts)) < MIN_WORDS:
            how = "lower"
        texts = tuple(_normal(text, part, how) for text, part in zip(_parts(row), parts, strict=True))
        return (texts,) if any(text.strip() for text in texts) else ()

    def _fields(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        named = () if row.whole else zip(row.fields.items(), parts[len(row.turns) :], strict=True)
        return tuple(
            _normal(text, part, how) for (name, text), part in named if name in self.telling and len(part) >= MIN_WORDS
        )

    def _target(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        long = not row.whole and not self.task.is_classification and len(words(row.target)) >= MIN_WORDS
        return (NORMALISERS[how](row.target),) if long else ()


def _parts(row: Example) -> list[str]:
    return [row.target] if row.whole else [*(text for _, text in row.turns), *row.fields.values()]


def _normal(text: str, found: list[str], how: str) -> str:
    """The text under a normaliser; its words are known."""
    return " ".join(found) if how == "words" else NORMALISERS[how](text)


def near_rows(sets: Sequence[RowSet], pairs: Collection[tuple[int, int]]) -> Near:
    """For each pair (a, b) of numbers of sets: which row of `a` is nearly which row of `b`. (a, a): within one set."""
    wanted = np.zeros((len(sets), len(sets)), bool)
    for a, b in pairs:
        wanted[a, b] = wanted[b, a] = True
    of = [number for number, one in enumerate(sets) for _ in one.rows]
    place = [row for one in sets for row in range(len(one.rows))]
    texts = [[word for part in parts for word in part] for one in sets for parts in one.words]
    found: dict[tuple[int, int], dict[int, int]] = {pair: {} for pair in pairs}
    for i, j, _ in near_pairs(texts, of, wanted):
        for x, y in ((i, j), (j, i)):
            if (of[x], of[y]) in found:
                found[of[x], of[y]].setdefault(place[x], place[y])
    return found


def _met(one: RowSet, other: RowSet, kind: Kind, how: str) -> dict[int, int]:
    """The rows of `one` that share a text with a row of `other`, and the first such row.

    Where the rows of `other` are whole texts, question and answer in one, the rows of `one` are compared as such too.
    """
    found = one.keys(kind, how).met(other.keys(kind, how))
    if kind == "duplicate" and any(row.whole for row in other.rows):
        found |= replace(one, rows=[row.as_whole for row in one.rows]).keys(kind, how).met(other.keys(kind, how))
    return found


def leaking(test: RowSet, trained: RowSet, near: Mapping[int, int]) -> set[int]:
    """The rows of `test`, by place, that leak from the rows trained on. `near` is what `near_rows` found."""
    met = (_met(test, trained, kind, "words") for kind in get_args(Kind))
    return set(near).union(*met)


def clusters(*sets: RowSet) -> list[int]:
    """The component of each row, list after list: rows are connected that share a field, or are the same."""
    keys = [[one.keys(kind, "words").of for one in sets] for kind in ("duplicate", "shared_field")]
    groups = [Keys([texts for of in each for texts in of]).places.values() for each in keys]
    return components(sum(len(one.rows) for one in sets), chain(*groups))


def connected(test: RowSet, other: RowSet) -> int:
    """How many rows of `test` share a field with `other`, or with rows that do, and so on."""
    component = clusters(test, other)
    others = set(component[len(test.rows) :])
    return sum(number in others for number in component[: len(test.rows)])


# --- defects --------------------------------------------------------------------------------------


def within(one: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of one list that are the same, nearly the same (`near`: as which), or connected by shared fields."""
    groups = {how: one.keys("duplicate", how).repeated() for how in NORMALISERS}
    by = {how: sum(map(len, found)) for how, found in groups.items()}
    same = _partners(groups["words"])
    if same:
        conflicting = sum(len(g) for g in groups["words"] if len({one.rows[row].target for row in g}) > 1)
        what = f"stand there more than once{_by(by)}"
        what += f"; {conflicting} of them with different targets" if conflicting else ""
        yield _defect("duplicate", what, one, one, same, by=by, conflicting=conflicting)
    if nearly := {row: other for row, other in near.items() if row not in same}:
        yield _defect("near_duplicate", "are nearly the same as another", one, one, nearly)
    components_of_several = Keys([(number,) for number in clusters(one)]).repeated()
    sharing = _partners(components_of_several)
    if sharing.keys() - same.keys():
        several, largest = len(components_of_several), max(map(len, components_of_several))
        what = f"share a field with another: {several:,} groups, the largest of {largest:,} rows"
        yield _defect("shared_field", what, one, one, sharing, components=several, largest=largest)


def between(one: RowSet, other: RowSet, near: Mapping[int, int]) -> Iterator[Defect]:
    """Rows of `one` that are also in `other`: as a whole, nearly (`near`: as which), by a field, by their target."""
    kinds: tuple[Kind, ...] = get_args(Kind)
    met = {kind: {how: _met(one, other, kind, how) for how in NORMALISERS} for kind in kinds}
    by = {kind: {how: len(found) for how, found in each.items()} for kind, each in met.items()}
    same, shared, targets = (met[kind]["words"] for kind in kinds)
    if same:
        what = f"are {other.noun} too{_by(by['duplicate'])}"
        yield _defect("duplicate", what, one, other, same, by=by["duplicate"])
    if nearly := {row: place for row, place in near.items() if row not in same}:
        yield _defect("near_duplicate", f"are nearly {other.noun}", one, other, nearly)
    if shared.keys() - same.keys():
        keys = {how: [each.keys("shared_field", how) for each in (one, other)] for how in NORMALISERS}
        wholly = {how: ours.wholly(theirs) for how, (ours, theirs) in keys.items()}
        beyond = connected(one, other)
        what = f"share a field with {other.noun}{_by(by['shared_field'])}"
        what += f"; {wholly['words']:,} in every field{_by(wholly)}" if wholly["words"] else ""
        what += f"; {beyond:,} are connected to them" if beyond > len(shared) else ""
        figures = {"by": by["shared_field"], "every_field": wholly, "connected": beyond}
        yield _defect("shared_field", what, one, other, shared, **figures)
    if targets and one.part == "test" and other.part == "train":
        different = {how: len({normal(row.target) for row in other.rows}) for how, normal in NORMALISERS.items()}
        what = f"have a target that is one of the {different['words']:,} of {other.noun}{_by(by['shared_target'])}"
        figures = {"by": by["shared_target"], "distinct_targets": different}
        yield _defect("shared_target", what, one, other, targets, **figures)


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
    )


def _example(row: Example, other: Example) -> str:
    """Two rows, shown by a text that both have, else by the first text of `row`."""
    normal = NORMALISERS["words"]
    theirs = {normal(text) for text in (*_parts(other), other.target)}
    ours = [text for text in (*_parts(row), row.target) if text.strip()]
    return f"{excerpt(row, next((text for text in ours if normal(text) in theirs), ours[0]))}, there row {other.doc_id}"


def _by(by: Mapping[str, int]) -> str:
    """The counts under the stricter normalisers, where they differ."""
    if len(set(by.values())) == 1:
        return ""
    return f" ({by['raw']:,} as they stand, {by['lower']:,} but for case)"
