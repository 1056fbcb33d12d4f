"""Finds multiple choice in the columns of somebody's file: the question, its options, and which of them is right.

Options are a list or an object in a column with a name for options, or a column each, such as A to D or option1 to
option4. A column with a name for answers says which option is right, if it does so in at least half of the rows; a row
in which it does not is an error when it is read. Numbers count from 0, or from 1 where only that fits all rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..data.cells import cell, is_empty
from ..data.files import Row
from ..data.options import ABOUT, ASKED, LETTERS, OPTIONS, RIGHT, first_of, options_of, right_option
from ..errors import DataError
from ..text.labels import form

_OPTIONS = (*OPTIONS, "answer_choices", "answer_options", "possible_answers", "candidates", "alternatives")
_ASKED = (*ASKED, "prompt", "input", "stem", "sentence", "goal", "instruction", "premise", "text")
_ABOUT = (*ABOUT, "premise", "background", "story", "support", "text")
_RIGHT = (
    *(*RIGHT, "answer_idx", "answer_index", "answer_id", "correct_answer", "correct_option", "correct_choice"),
    *("correct_index", "correct_idx", "correct", "gold", "gold_index", "gold_label", "right", "solution", "key", "cop"),
    *("target", "output", "completion", "response"),
)
"""Names of columns, in any case, the surest first."""
_NUMBERED = re.compile(r"(op|opt|option|choice|ans|answer|ending|sol|solution)[_ ]?([a-h]|\d)")


class Found(NamedTuple):
    """Columns of a multiple choice. `map`: what a value of `right` means, where the reader would not know."""

    asked: str
    about: tuple[str, ...]
    options: tuple[str, ...]
    right: str
    map: Mapping[str, str]

    @property
    def columns(self) -> set[str]:
        """All of them, an object by its own name."""
        return {name.partition(".")[0] for name in (self.asked, *self.about, *self.options, self.right)}


def find(rows: Sequence[Row]) -> Found | None:
    """The columns of a multiple choice, or None where the rows are none."""
    first = rows[0]
    options = _options_columns(first)
    asked = next((name for name in _named(_ASKED, first) if isinstance(cell(first, name, ""), str)), None)
    if not options or asked is None or asked in options:
        return None
    for right in _named(_RIGHT, first):
        if right == asked or right in options or _are_measurements(rows, options, right):
            continue
        if (found := _meaning(rows, options, right)) is not None:
            about = dict.fromkeys(name for name in _named(_ABOUT, first) if name not in (asked, right, *options))
            told = tuple(name for name in about if any(not is_empty(row.get(name)) for row in rows))
            return Found(asked, told, options, right, found)
    return None


def _are_measurements(rows: Sequence[Row], options: Sequence[str], right: str) -> bool:
    """Whether columns with one-letter names hold numbers, beside a label that is a number: features, not options."""
    is_bare = len(options) > 1 and all(len(column) == 1 for column in options)
    return is_bare and all(_is_number(row.get(column)) for row in rows for column in (*options, right))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _named(names: Iterable[str], row: Row) -> Iterator[str]:
    """The columns with one of the names, in the order of the names."""
    spelled = {column.lower(): column for column in reversed([*row])}
    for name in names:
        if first_of(row, [name]):
            yield name
        elif (column := spelled.get(name.lower())) is not None:
            yield column


def _options_columns(first: Row) -> tuple[str, ...]:
    for name in _named(_OPTIONS, first):
        if isinstance(value := cell(first, name, ""), (list, dict)) and value:
            return (name,)
    by_stem: dict[str, dict[str, str]] = {}
    for column in first:
        if stem := _NUMBERED.fullmatch(column.lower()):
            by_stem.setdefault(stem[1], {})[stem[2]] = column
        elif len(column) == 1:
            by_stem.setdefault("", {})[column.lower()] = column
    for columns in by_stem.values():
        for marks in ("abcdefgh", "0123456789", "123456789"):
            run = [mark for n, mark in enumerate(marks) if all(each in columns for each in marks[: n + 1])]
            if len(run) > 1:
                return tuple(columns[mark] for mark in run)
    return ()


def _meaning(rows: Sequence[Row], options: Sequence[str], right: str) -> Mapping[str, str] | None:
    """What the values of a column mean that says which option is right; None where it says so in less than half."""
    from_one = {str(n + 1): letter for n, letter in enumerate(LETTERS[: max(_count(row, options) for row in rows)])}
    by_column = {column: letter for column, letter in zip(options, LETTERS, strict=False) if len(options) > 1}
    ways: list[Mapping[str, str]] = [{}, from_one, by_column]
    if len(options) > 1 and options[0].endswith("1"):
        ways = [from_one, {}, by_column]
    fits = []
    for way in ways:
        meaning = {form(value): letter for value, letter in way.items()}
        fits.append(sum(_names_one(row, options, right, meaning) for row in rows))
        if fits[-1] == len(rows):
            return way
    return ways[fits.index(max(fits))] if 2 * max(fits) >= len(rows) else None


def _count(row: Row, options: Sequence[str]) -> int:
    try:
        return len(options_of(row, options, "").texts)
    except DataError:
        return 0


def _names_one(row: Row, options: Sequence[str], right: str, meaning: Mapping[str, str]) -> bool:
    """Whether the row's value names one of its options. Where values are mapped, one that is a number must be."""
    value: Any = row.get(right)
    letter = meaning.get(form(str(value)))
    if meaning and letter is None and form(str(value)).isdecimal():
        return False
    try:
        found = options_of(row, options, "")
        named, _ = right_option(letter or value, found, right, "", is_mapped=letter is not None)
    except DataError:
        return False
    return letter is None or named.strip() == found.texts[LETTERS.index(letter)].strip()
