"""The options of a row, and which of them is the right one.

Options stand in one column or in several. One column holds a list of texts, an object `{text: [...], label: [...]}` as
in ARC, or a list of such objects. An option that stands twice in a row counts once.

The right answer is named in one of four ways, and the first that fits counts:

    text      the text of an option, also in another spelling (`text.labels`)
    name      the label beside an option, as ARC has it
    letter    A for the first option, B for the second
    number    0 for the first option, 1 for the second

Where options have names, the name counts before the text. A value that is a number and no text counts as the number of
an option before it counts as its text: MMLU has options such as "0", "1", "2" and the number of the right one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from string import ascii_uppercase
from typing import Any, NamedTuple

from ..errors import DataError
from ..experiment.suite import Source
from ..text.labels import Labels, listed
from .cells import as_text, cell

OPTIONS = ("choices", "options", "endings")
ASKED = ("question", "question_stem", "query", "problem", "ctx")
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
    return next((name for name in names if name in row), None)


def usual_columns(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the options by their usual names: a list, or a column for each, called A, B and so on."""
    in_one = first_of(row, OPTIONS)
    if in_one is not None and isinstance(row[in_one], (list, dict)):
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
    if isinstance(value, dict):
        names, texts = value.get("label"), value.get("text")
    elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
        names, texts = [one.get("label") for one in value], [one.get("text") for one in value]
    if not isinstance(texts, list) or not isinstance(names, list) or (names and len(names) != len(texts)) or not texts:
        allowed = "a list of texts, or {text: [...], label: [...]}"
        raise DataError(f"column {column!r} must hold a list of options", where=where, allowed=allowed)
    return Options(*(tuple(as_text(one, column, where) for one in many) for many in (texts, names)))


def right_option(value: Any, options: Options, column: str, where: str) -> tuple[str, bool]:
    """The right option, and whether the value could also name another one. Raises DataError where it names none."""
    word, texts = as_text(value, column, where).strip(), options.texts
    stripped = Labels(tuple(text.strip() for text in texts))
    by_text = stripped.find(word)
    as_number = int(word) if word.isdecimal() and len(word) < 4 else -1
    as_letter = LETTERS.find(word.upper()) if len(word) == 1 else -1
    found = {
        "name": options.names.index(word) if word in options.names else -1,
        "text": -1 if by_text is None else stripped.names.index(by_text),
        "letter": -1 if options.names else as_letter,
        "number": -1 if options.names else as_number,
    }
    first = ("number", "text") if isinstance(value, int) else ("name", "text", "letter", "number")
    meant = [texts[found[how]] for how in first if 0 <= found[how] < len(texts)]
    if not meant:
        what = f"column {column!r} holds {word[:40]!r}, which chooses none of the {len(texts)} options"
        raise DataError(what, where=where, allowed=f"text, name, letter or number (from 0) of {listed(texts)}")
    (right, *others) = [next(own for own in options.distinct if own.strip() == text.strip()) for text in meant]
    return right, any(other != right for other in others)
