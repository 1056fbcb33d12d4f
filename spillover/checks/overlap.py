"""Rows that stand in two lists: as a whole, nearly, by one field, by their target; and which of them leak.

A test row leaks from the rows that a model was trained on if, case and punctuation aside,

    duplicate       all its inputs are those of one of them
    near_duplicate  nearly all are (`duplicates.NEAR`)
    shared_field    one field is a field of one of them: the sentence, premise or article was seen
    shared_target   its answer is free text, and the answer of one of them

Fields and answers of fewer than `MIN_WORDS` words ("yes", "Paris") are the same by chance and leak nothing; nor does a
field that hardly differs from row to row, such as an instruction (`TELLING`). A row of fewer words in all is
a duplicate only with its punctuation: `3 + 4` is not `3 - 4`. That an answer was seen does not prove that it is
remembered, common questions being common; it is reason enough to score the other rows apart.

Rows of one list that share a field (PAWS, MNLI) depend on each other: `clusters` says which.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal, get_args

import numpy as np

from ..data.rows import Part
from ..text.task import Example, Task
from .duplicates import MIN_WORDS, NORMALISERS, components, near_pairs, words

TELLING = 1 / 20  # different texts a row that a field must have to tell rows apart

NOUNS: Mapping[Part, str] = {"train": "training rows", "test": "test rows", "demos": "demonstrations"}
Kind = Literal["duplicate", "shared_field", "shared_target"]  # beside near_duplicate, which has no keys
Near = Mapping[tuple[int, int], Mapping[int, int]]


@dataclass(frozen=True)
class Keys:
    """The texts that each row is known by: none, one or several."""

    of: Sequence[tuple[Hashable, ...]]

    @cached_property
    def places(self) -> Mapping[Hashable, list[int]]:
        """The rows of each text."""
        places: dict[Hashable, list[int]] = defaultdict(list)
        for row, texts in enumerate(self.of):
            for text in dict.fromkeys(texts):
                places[text].append(row)
        return dict(places)

    def met(self, other: Keys) -> dict[int, int]:
        """The rows that share a text with a row of `other`, and the first such row."""
        found = ((row, other.places.get(text)) for row, texts in enumerate(self.of) for text in texts)
        return {row: places[0] for row, places in found if places}

    def wholly(self, other: Keys) -> list[int]:
        """The rows of several texts that all stand in `other`, though not all in one row."""
        return [
            row for row, texts in enumerate(self.of) if len(texts) > 1 and all(text in other.places for text in texts)
        ]


@dataclass(frozen=True, eq=False)
class RowSet:
    """One list of rows of a data set.

    `asked` is how many there should be, where that is known; `scored` has the doc_ids of those that are scored.
    """

    dataset: str
    part: Part
    task: Task
    rows: Sequence[Example]
    asked: int | None = None
    scored: frozenset[int] = frozenset()
    _keys: dict[tuple[Kind, str], Keys] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """`paws test`, `paws train 6000`."""
        return f"{self.dataset} {self.part}" + (f" {self.asked}" if self.part == "train" and self.asked else "")

    @property
    def noun(self) -> str:
        """The rows as others call them: `training rows of paws (6,000)`."""
        size = f" ({self.asked:,})" if self.part == "train" and self.asked else ""
        return f"{NOUNS[self.part]} of {self.dataset}{size}"

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
        """What each row is known by in this respect, under one of `NORMALISERS`."""
        if (kind, how) not in self._keys:
            of = {"duplicate": self._whole, "shared_field": self._fields, "shared_target": self._target}[kind]
            self._keys[kind, how] = Keys(
                [of(row, parts, how) for row, parts in zip(self.rows, self.words, strict=True)]
            )
        return self._keys[kind, how]

    def _whole(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        if how == "words" and sum(map(len, parts)) < MIN_WORDS:
            how = "lower"
        texts = tuple(_normal(text, part, how) for text, part in zip(_parts(row), parts, strict=True))
        return (texts,) if any(text.strip() for text in texts) else ()

    def _fields(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        named = zip(row.fields.items(), parts[len(row.turns) :], strict=True)
        return tuple(
            _normal(text, part, how) for (name, text), part in named if name in self.telling and len(part) >= MIN_WORDS
        )

    def _target(self, row: Example, parts: list[list[str]], how: str) -> tuple[Hashable, ...]:
        long = not self.task.labels and len(words(row.target)) >= MIN_WORDS
        return (NORMALISERS[how](row.target),) if long else ()


def _parts(row: Example) -> list[str]:
    return [*(text for _, text in row.turns), *row.fields.values()]


def _normal(text: str, found: list[str], how: str) -> str:
    """The text under a normaliser; its words are known."""
    return " ".join(found) if how == "words" else NORMALISERS[how](text)


def near_rows(sets: Sequence[RowSet], between: Collection[tuple[int, int]]) -> Near:
    """For each pair (a, b) of numbers of sets: which row of `a` is nearly which row of `b`. (a, a): within one."""
    wanted = np.zeros((len(sets), len(sets)), bool)
    for a, b in between:
        wanted[a, b] = wanted[b, a] = True
    of = [number for number, one in enumerate(sets) for _ in one.rows]
    place = [row for one in sets for row in range(len(one.rows))]
    texts = [[word for part in parts for word in part] for one in sets for parts in one.words]
    found: dict[tuple[int, int], dict[int, int]] = {pair: {} for pair in between}
    for i, j, _ in near_pairs(texts, of, wanted):
        for x, y in ((i, j), (j, i)):
            if (of[x], of[y]) in found:
                found[of[x], of[y]].setdefault(place[x], place[y])
    return found


def leaking(test: RowSet, trained: RowSet, near: Mapping[int, int]) -> set[int]:
    """The rows of `test`, by place, that leak from the rows trained on. `near`: as `near_rows` has it."""
    met = (test.keys(kind, "words").met(trained.keys(kind, "words")) for kind in get_args(Kind))
    return set(near).union(*met)


def clusters(*sets: RowSet) -> list[int]:
    """The component of each row, list after list: rows are connected that share a field, or are the same."""
    keys = [[one.keys(kind, "words").of for one in sets] for kind in ("duplicate", "shared_field")]
    groups = [Keys([texts for of in each for texts in of]).places.values() for each in keys]
    return components(sum(len(one.rows) for one in sets), chain(*groups))


def connected(test: RowSet, other: RowSet) -> list[int]:
    """The rows of `test`, by place, that share a field with `other`, or with rows that do, and so on."""
    component = clusters(test, other)
    seen = set(component[len(test.rows) :])
    return [row for row in range(len(test.rows)) if component[row] in seen]
