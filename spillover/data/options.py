"""The options of a row, and which of them is the right one.

Options stand in one column or in several. One column holds a list of texts, an object `{text: [...], label: [...]}` as
in ARC, a list of such objects, or an object of texts by their names, `{A: ..., B: ...}`. The question may be an object
that has its options in it, as in ARC's own files. An option that stands twice in a row counts once.

The right answer is named in one of four ways, and the first that fits counts:

    text      the text of an option, also in another spelling (`text.labels`)
    name      the label beside an option, as ARC has it
    letter    A for the first option, B for the second; also a, (A) and A.
    number    0 for the first option, 1 for the second

Where options have names, the name counts before the text, and in another spelling (a, (A) and A. for A) after it. A
value that is a number and no text counts as the number of an option before it counts as its text: MMLU has options such
as "0", "1", "2" and the number of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from string import ascii_uppercase
from typing import Any, NamedTuple

from ..errors import DataError
from ..experiment.suite import Source
from ..text.labels import Labels, form, listed
from .cells import as_text, cell

OPTIONS = ("question.choices", "choices", "options", "endings")
ASKED = ("question.stem", "question", "question_stem", "query", "problem", "ctx")
RIGHT = ("answer", "answerKey", "label")
ABOUT = ("article", "passage", "context")
LETTERS = ascii_uppercase


class Options(NamedTuple):
    """The texts of a row's options in their order, and their names where they have some."""

    texts: tuple[str, ...]
    names: tuple[str, ...] = ()

    @property
    def distinct(self) -> tuple[str, ...]:
        """The options, each once."""
        found: dict[str, str] = {}
        for text in self.texts:
            found.setdefault(text.strip(), text)
        return tuple(found.values())

    @property
    def lettered(self) -> str:
        """The options as lines of a prompt."""
        marks = LETTERS if len(self.distinct) <= len(LETTERS) else tuple(map(str, range(1, len(self.distinct) + 1)))
        return "\n".join(f"{mark}. {text.strip()}" for mark, text in zip(marks, self.distinct, strict=False))


def first_of(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that is a column, or of the form `column.name` and in an object."""
    return next((name for name in names if name in row or _inside(row, name)), None)


def _inside(row: Mapping[str, Any], name: str) -> bool:
    head, _, key = name.partition(".")
    return isinstance(inside := row.get(head), dict) and key in inside


def usual_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the options by their usual names: a list, or a column for each, called A, B and so on."""
    in_one = first_of(row, OPTIONS)
    if in_one is not None and isinstance(cell(row, in_one, ""), (list, dict)):
        return (in_one,)
    in_many = tuple(takewhile(row.__contains__, LETTERS))
    return in_many if len(in_many) > 1 else ()


def has_options(row: Mapping[str, Any]) -> bool:
    """Whether a row has a question, options and an answer in columns with the usual names."""
    return bool(first_of(row, ASKED) and first_of(row, RIGHT) and usual_columns(row))


def options_columns(source: Source, first: Mapping[str, Any], labelled: bool) -> tuple[str, ...]:
    """The columns of the options: those of the source, or the usual ones if nothing says otherwise."""
    says = source.options or source.target or source.references or source.reads_whole_texts or labelled
    return usual_columns(first) if not says and has_options(first) else source.options


def options_of(row: Mapping[str, Any], columns: Sequence[str], where: str) -> Options:
    """The options of a row. Raises DataError where the columns hold none."""
    if len(columns) > 1:
        return Options(tuple(as_text(cell(row, column, where), column, where) for column in columns))
    column = columns[0]
    value = cell(row, column, where)
    names: Any = []
    texts: Any = value
    if isinstance(value, dict) and "text" in value:
        names, texts = value.get("label"), value["text"]
    elif isinstance(value, dict):
        given = {name: text for name, text in value.items() if text is not None}  # Parquet fills up what a row lacks
        names, texts = list(given), list(given.values())
    elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
        names, texts = [one.get("label") for one in value], [one.get("text") for one in value]
    if not isinstance(texts, list) or not isinstance(names, list) or (names and len(names) != len(texts)) or not texts:
        allowed = "a list of texts, {text: [...], label: [...]}, or {A: text, B: text}"
        raise DataError(f"column {column!r} must hold a list of options", where=where, allowed=allowed)
    return Options(*(tuple(as_text(one, column, where) for one in many) for many in (texts, names)))


def right_option(value: Any, options: Options, column: str, where: str, is_mapped: bool = False) -> tuple[str, bool]:
    """The right option, and whether the value could also name another one. Raises DataError where it names none.

    A value that `target_map` gives (`is_mapped`) is the letter of a place before it is a text: `{"1": A}` means the
    first option, also where another one reads "A".
    """
    word, texts = as_text(value, column, where).strip(), options.texts
    number, bare = form(word), word.strip("()[].: ")  # (A) and A. are the letter A
    letter = _place(bare, options.names) if options.names else LETTERS.find(bare.upper()) if len(bare) == 1 else -1
    found = {
        "name": options.names.index(word) if word in options.names else -1,
        "text": _place(word, [text.strip() for text in texts]),
        "letter": letter,
        "number": int(number) if number.isdecimal() and len(number) < 4 and not options.names else -1,
    }
    is_number = isinstance(value, (int, float)) and not options.names
    first = ("number", "text") if is_number else ("name", "text", "letter", "number")
    first = ("name", "letter", "text", "number") if is_mapped else first
    meant = [texts[found[how]] for how in first if 0 <= found[how] < len(texts)]
    if not meant:
        what = f"column {column!r} holds {word[:40]!r}, which chooses none of the {len(texts)} options"
        allowed = f"text, name, letter or number (from 0) of {listed(texts)}"
        counted = '; where numbers begin at 1, target_map: {"1": A, "2": B} and so on' if number.isdecimal() else ""
        raise DataError(what, where=where, allowed=f"{allowed}{counted}")
    (right, *others) = [next(own for own in options.distinct if own.strip() == text.strip()) for text in meant]
    return right, any(other != right for other in others)


def _place(text: str, among: Sequence[str]) -> int:
    """The place of a text, also in another spelling; -1 if it is none of them."""
    labels = Labels(tuple(among))
    return -1 if (found := labels.find(text)) is None else labels.names.index(found)
