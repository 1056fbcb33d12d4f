"""Rows that are the same, within one list and between two lists; and which test rows leak.

A test row leaks from the rows that a model was trained on if one of these is true, case and punctuation aside:

    duplicate       all its inputs are those of a training row
    near_duplicate  nearly all of its words are (`nearly.NEAR`)
    shared_field    one of its fields is a field of a training row: the model has seen the sentence, premise or article
    shared_target   its answer is free text, and the answer of a training row

Three limits. Fields and answers of fewer than `MIN_WORDS` words ("yes", "Paris") are the same by chance and do not
leak; a row of fewer words in all is a duplicate only with its punctuation, since `3 + 4` is not `3 - 4`. A field that
hardly differs from row to row, such as an instruction, does not leak (`TELLING`). And common questions have common
answers: a seen answer does not prove that it is remembered. It is enough reason to score the other rows separately.

Two texts are the same under a normaliser: `raw` compares them as they stand, `lower` ignores case, `words` ignores
case, punctuation and white space. Rows of one list that share a field (PAWS, MNLI) depend on each other: `clusters`
gives their components.

Texts are compared by 64-bit hashes, which are kept in arrays: a list of 200,000 rows of 40 words takes 80 megabytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Literal, get_args

import numpy as np

from ..text.task import Example, Task
from ..text.words import words
from .nearly import MIN_WORDS, Coded, Ints, Mask, components, near_pairs
from .rows import Part

TELLING = 1 / 20  # a field distinguishes rows if it has at least so many different texts for each row

Kind = Literal["duplicate", "shared_field", "shared_target"]  # near_duplicate has no keys
Near = Mapping[tuple[int, int], Mapping[int, int]]

NORMALISERS: Mapping[str, Callable[[str], str]] = {
    "raw": lambda text: text,
    "lower": str.casefold,
    "words": lambda text: " ".join(words(text)),
}


@dataclass(frozen=True)
class Keys:
    """The texts by which rows are known, as hashes: none, one or several of each row. `rows` ascends."""

    codes: Ints
    rows: Ints

    def repeated(self) -> list[list[int]]:
        """The rows of each text that several rows have, in the order of their first rows."""
        order = np.lexsort((self.rows, self.codes))
        codes, rows = self.codes[order], self.rows[order]
        new = np.diff(codes, prepend=codes[:1] - 1 if len(codes) else 0) != 0
        kept = new | (np.diff(rows, prepend=-1) != 0)  # a text that a row has twice counts once
        rows, new = rows[kept], new[kept]
        starts = np.flatnonzero(new)
        ends = np.append(starts[1:], len(rows))
        several = ends - starts > 1
        groups = [rows[a:b].tolist() for a, b in zip(starts[several], ends[several], strict=True)]
        return sorted(groups, key=lambda group: group[0])

    def met(self, other: Keys) -> dict[int, int]:
        """The rows that share a text with a row of `other`, and the first such row."""
        known, first = np.unique(other.codes, return_index=True)
        hit = self._among(known)
        places = other.rows[first[np.searchsorted(known, self.codes[hit])]]
        return dict(zip(self.rows[hit].tolist(), places.tolist(), strict=True))

    def wholly(self, other: Keys) -> int:
        """How many rows have several texts, each of which a row of `other` has."""
        hit = self._among(np.unique(other.codes))
        texts, met = np.bincount(self.rows), np.bincount(self.rows, weights=hit)
        return int(((texts > 1) & (texts == met)).sum())

    def _among(self, known: Ints) -> Mask:
        if not len(known):
            return np.zeros(len(self.codes), bool)
        places = np.minimum(np.searchsorted(known, self.codes), len(known) - 1)
        return np.asarray(known[places] == self.codes)


@dataclass(frozen=True)
class _Marks:
    """Every text of a list of rows as hashes. A row's parts are its earlier turns, then its fields; of a
    whole text, the text.

    `whole`, `parts` and `targets` have the hashes by normaliser. `names` has the number of each part's field, -1 for a
    turn; `lengths` the words of each part, `blank` the rows without any text, `long` the targets of enough words.
    """

    coded: Coded  # by row
    whole: Mapping[str, Ints]
    blank: Mask
    row_of: Ints
    names: Ints
    lengths: Ints
    parts: Mapping[str, Ints]
    targets: Mapping[str, Ints]
    long: Mask
    fields: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Example], with_targets: bool) -> _Marks:
        whole, parts, targets = ({how: array("q") for how in NORMALISERS} for _ in range(3))
        codes, row_of, names, lengths, of_rows = (array("q") for _ in range(5))
        blank, long = bytearray(), bytearray()
        numbers: dict[str, int] = {}
        for number, row in enumerate(rows):
            turns = [row.target] if row.whole else [text for _, text in row.turns]
            fields = {} if row.whole else row.fields
            texts = [(-1, text) for text in turns]
            texts += [(numbers.setdefault(name, len(numbers)), text) for name, text in fields.items()]
            hashes, before = [], len(codes)
            for name, text in texts:
                found = words(text)
                codes.extend(map(hash, found))
                hashes.append((hash(text), hash(text.casefold()), hash(tuple(found))))
                row_of.append(number)
                names.append(name)
                lengths.append(len(found))
            of_rows.append(len(codes) - before)
            raw, lower, by_words = map(hash, zip(*hashes, strict=True)) if hashes else (0, 0, 0)
            in_all = (raw, lower, by_words if of_rows[-1] >= MIN_WORDS else lower)
            if row.options:  # with other options the same words are another question
                options = hash(tuple(sorted(map(str.casefold, row.options))))
                in_all = (hash((raw, options)), hash((lower, options)), hash((in_all[-1], options)))
            for how, mark in zip(NORMALISERS, in_all, strict=True):
                whole[how].append(mark)
            for how, marks in zip(NORMALISERS, zip(*hashes, strict=True), strict=False):
                parts[how].extend(marks)
            blank.append(not any(text.strip() for _, text in texts))
            if with_targets:
                found = words(row.target)
                long.append(len(found) >= MIN_WORDS and not row.whole)
                marks = hash(row.target), hash(row.target.casefold()), hash(tuple(found))
                for how, mark in zip(NORMALISERS, marks, strict=True):
                    targets[how].append(mark)
        return cls(
            Coded(_array(codes), _array(of_rows)),
            {how: _array(marks) for how, marks in whole.items()},
            np.frombuffer(blank, np.bool_),
            _array(row_of),
            _array(names),
            _array(lengths),
            {how: _array(marks) for how, marks in parts.items()},
            {how: _array(marks) for how, marks in targets.items()},
            np.frombuffer(long, np.bool_),
            tuple(numbers),
        )

    def telling(self, rows: int) -> Mask:
        """The parts whose field tells rows apart."""
        enough = max(min(2, rows), TELLING * rows)
        different = [len(np.unique(self.parts["raw"][self.names == number])) for number in range(len(self.fields))]
        return np.array([*(n >= enough for n in different), False])[self.names]  # the last one: turns


def texts_of(row: Example) -> list[str]:
    """A row's parts, in the order of its columns."""
    return [row.target] if row.whole else [*(text for _, text in row.turns), *row.fields.values()]


def _array(numbers: array[int]) -> Ints:
    return np.frombuffer(numbers, np.int64)


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
        return f"{self.dataset} {self.part}" + (f" {self.requested}" if self.has_size else "")

    @property
    def has_size(self) -> bool:
        return self.part == "train" and bool(self.requested)

    @cached_property
    def marks(self) -> _Marks:
        return _Marks.of(self.rows, not self.task.is_classification)

    def keys(self, kind: Kind, how: str) -> Keys:
        """The texts that count for a kind of overlap, under one of `NORMALISERS`."""
        if (kind, how) not in self._keys:
            marks = self.marks
            if kind == "duplicate":
                kept = np.flatnonzero(~marks.blank)
                self._keys[kind, how] = Keys(marks.whole[how][kept], kept)
            elif kind == "shared_field":
                kept = np.flatnonzero(marks.telling(len(self.rows)) & (marks.lengths >= MIN_WORDS))
                self._keys[kind, how] = Keys(marks.parts[how][kept], marks.row_of[kept])
            else:
                kept = np.flatnonzero(marks.long)
                self._keys[kind, how] = Keys(marks.targets[how][kept], kept)
        return self._keys[kind, how]

    def different(self) -> tuple[Ints, Ints]:
        """(the first row with the same texts, for each row; how many rows have the texts of this one, if it is the
        first).
        """
        first, times = np.arange(len(self.rows)), np.ones(len(self.rows), np.int64)
        for group in self.keys("duplicate", "words").repeated():
            first[group] = group[0]
            times[group] = 0
            times[group[0]] = len(group)
        return first, times


def near_rows(sets: Sequence[RowSet], pairs: Collection[tuple[int, int]]) -> Near:
    """For each pair (a, b) of numbers of sets: which row of `a` is nearly which row of `b`. (a, a): within one set,
    where rows that are the same are not named.
    """
    wanted = np.zeros((len(sets), len(sets)), bool)
    for a, b in pairs:
        wanted[a, b] = wanted[b, a] = True
    used = [number for number in range(len(sets)) if wanted[number].any()]
    first = {number: sets[number].different() for number in used}
    kept = {number: np.flatnonzero(times) for number, (_, times) in first.items()}
    none = [np.zeros(0, np.int64)]
    of = np.concatenate([*none, *(np.full(len(kept[number]), number) for number in used)])
    place = np.concatenate([*none, *kept.values()])
    times = np.concatenate([*none, *(first[number][1][kept[number]] for number in used)])
    coded = [_only(sets[number].marks.coded, kept[number]) for number in used]
    nearest = {(a, b): np.full(len(sets[a].rows), -1) for a, b in pairs}
    for left, right, _ in near_pairs(_joined(coded), of, wanted, times):
        for x, y in ((left, right), (right, left)):
            for a, b in {*zip(of[x].tolist(), of[y].tolist(), strict=True)} & nearest.keys():
                here = (of[x] == a) & (of[y] == b)
                found = nearest[a, b].view(np.uint64)  # -1 is the largest
                np.minimum.at(found, place[x[here]], place[y[here]].astype(np.uint64))
    return {pair: _as_mapping(rows[first[pair[0]][0]]) for pair, rows in nearest.items()}


def _only(texts: Coded, rows: Ints) -> Coded:
    if len(rows) == len(texts.lengths):
        return texts
    kept = np.zeros(len(texts.lengths), bool)
    kept[rows] = True
    return Coded(texts.codes[np.repeat(kept, texts.lengths)], texts.lengths[rows])


def _joined(texts: Sequence[Coded]) -> Coded:
    if len(texts) == 1:
        return texts[0]
    none = np.zeros(0, np.int64)
    codes, lengths = ([none, *each] for each in zip(*texts, strict=True)) if texts else ([none], [none])
    return Coded(np.concatenate(codes), np.concatenate(lengths))


def _as_mapping(places: Ints) -> dict[int, int]:
    rows = np.flatnonzero(places >= 0)
    return dict(zip(rows.tolist(), places[rows].tolist(), strict=True))


def alike(one: RowSet, targets: bool) -> Iterator[Sequence[int]]:
    """Groups of rows that have a text in common: the same, nearly the same, sharing a field; or with `targets` a long
    answer.
    """
    kinds: tuple[Kind, ...] = ("duplicate", "shared_field", "shared_target")
    for kind in kinds if targets else kinds[:2]:
        yield from one.keys(kind, "words").repeated()
    _, times = one.different()
    kept = np.flatnonzero(times)
    texts, lists = _only(one.marks.coded, kept), np.zeros(len(kept), np.int64)
    for left, right, _ in near_pairs(texts, lists, np.ones((1, 1), bool), times[kept]):
        yield from zip(kept[left].tolist(), kept[right].tolist(), strict=True)


def met_rows(one: RowSet, other: RowSet, kind: Kind, how: str) -> dict[int, int]:
    """The rows of `one` that share a text with a row of `other`, and the first such row.

    Where the rows of `other` are whole texts, question and answer in one, the rows of `one` are compared as such too.
    """
    found = one.keys(kind, how).met(other.keys(kind, how))
    if kind == "duplicate" and any(row.whole for row in other.rows):
        found |= replace(one, rows=[row.as_whole for row in one.rows]).keys(kind, how).met(other.keys(kind, how))
    return found


def leaking(test: RowSet, trained: RowSet, near: Mapping[int, int]) -> set[int]:
    """The rows of `test`, by place, that leak from the rows trained on. `near` is what `near_rows` found."""
    met = (met_rows(test, trained, kind, "words") for kind in get_args(Kind))
    return set(near).union(*met)


def clusters(*sets: RowSet) -> list[int]:
    """The component of each row, list after list: rows are connected that share a field, or are the same."""
    return components(sum(len(one.rows) for one in sets), chain(*_sharing(sets)))


def _sharing(sets: Sequence[RowSet]) -> Iterator[list[list[int]]]:
    """The rows of each text that several rows share."""
    before = np.cumsum([0, *(len(one.rows) for one in sets)])
    kinds: tuple[Kind, ...] = ("duplicate", "shared_field")
    for kind in kinds:
        keys = [one.keys(kind, "words") for one in sets]
        rows = [each.rows + start for each, start in zip(keys, before, strict=False)]
        yield Keys(np.concatenate([each.codes for each in keys]), np.concatenate(rows)).repeated()


def connected(test: RowSet, other: RowSet) -> int:
    """How many rows of `test` share a field with `other`, or with rows that do, and so on."""
    component = clusters(test, other)
    others = set(component[len(test.rows) :])
    return sum(number in others for number in component[: len(test.rows)])
