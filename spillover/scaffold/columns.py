"""Guesses what the columns of somebody's file are: which are the question, and which is the answer.

Rows of a known shape (`data.shapes`) need no guess. Else the answer is the column with a name for answers, the column
whose values are few and short and repeat, or the last text; what is guessed is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.cells import is_empty
from ..data.files import Row
from ..data.options import LETTERS
from ..data.reader import ANSWER_COLUMNS
from ..data.shapes import (
    IDENTIFIER,
    MULTIPLE_CHOICE,
    PROMPT_COMPLETION,
    WHOLE_TEXT,
    Shape,
    column_names,
    known_shape,
    refuse_unreadable,
    unread,
)
from ..errors import DataError
from ..experiment.suite import Source
from .multiple_choice import Found, find

MAX_LABELS = 20
LABEL_CHARACTERS = 40


class Described(NamedTuple):
    """How a file is read, and a line for the user. A known shape needs no template."""

    template: str | None
    source: Source
    line: str
    shape: Shape | None = None


def describe(path: Path, rows: Sequence[Row]) -> Described:
    """What the columns of a file are. Raises DataError where they do not show what is asked and what is answered."""
    columns = list(rows[0])
    where = f"{path.name}: {len(rows):,} rows"
    shape = known_shape(rows[0], path.name)
    if (shape is None or shape in (MULTIPLE_CHOICE, PROMPT_COMPLETION)) and (found := find(rows)):
        return _multiple_choice(path, rows, found)
    if shape is not None:
        note = f" {shape.note[0].upper()}{shape.note[1:]}." if shape.note else ""
        unused = f"; not used: {column_names(more)}" if (more := unread(shape, rows[0], path.name)) else ""
        return Described(None, _source(path), f"{where} in the shape {shape.name}{unused}.{note}", shape)
    refuse_unreadable(rows[0], path.name)
    answer = _answer_column(path, columns, rows)
    inputs = [c for c in columns if c != answer and _is_text(c, rows) and _can_be_asked(c, rows)]
    if not inputs:
        others = ", ".join(column for column in columns if column != answer)
        raise DataError(f"no text beside the answer among {others}", where=path.name)
    fields = {_field(column): column for column in inputs}
    if len(fields) < len(inputs):
        raise DataError("two columns have the same name but for signs", where=path.name, allowed="rename one")
    template = "".join(f"### {_title(name)}:\n{{{name}}}\n" for name in fields) + f"### {_title(_field(answer))}:"
    unused = ", ".join(column for column in columns if column not in (*inputs, answer))
    line = f"{where}. {', '.join(inputs)}: the question; {answer}: the answer"
    several = any(isinstance(row.get(answer), list) for row in rows)
    alone = not several and answer in ANSWER_COLUMNS and sum(column in ANSWER_COLUMNS for column in columns) == 1
    renamed = {name: column for name, column in fields.items() if name != column}
    given = {"references": answer} if several else {"target": None if alone else answer}
    source = _source(path, fields=renamed, **given)
    return Described(template, source, line + (f"; not used: {unused}." if unused else "."))


def _multiple_choice(path: Path, rows: Sequence[Row], found: Found) -> Described:
    """Rows with options, with a template. A passage that only some rows have can stand in none."""
    always = [name for name in found.about if not any(is_empty(row.get(name)) for row in rows)]
    is_known = not found.map and known_shape(rows[0], path.name) is MULTIPLE_CHOICE
    bare = is_known and len(always) < len(found.about)
    about = [*found.about] if bare else always
    unused = ", ".join(
        column
        for column, value in rows[0].items()
        if column not in found.columns.difference(found.about).union(about)
        and (isinstance(value, str) and value and not _is_identifier(column, rows))
    )
    fields = {name: _field(name) for name in (*about, found.asked)}
    line = f"{path.name}: {len(rows):,} rows of multiple choice. {', '.join(fields)}: the question; "
    line += f"{', '.join(found.options)}: its options; {found.right}: the right one"
    line += " (1 is the first)" if found.map.get("1") == LETTERS[0] else ""
    line += f"; not used: {unused}." if unused else "."
    if bare:  # the reader joins what is there
        return Described(None, _source(path), line, MULTIPLE_CHOICE)
    continued = found.options == ("endings",) or found.asked == "prompt"  # an ending goes on with its text
    asked = f"{{{fields[found.asked]}}}"
    ask = asked if continued else f"Question: {asked}\nAnswer:"
    how = {"options": found.options, "target": found.right, "target_map": found.map}
    renamed = {name: column for column, name in fields.items() if name != column}
    template = "".join(f"{{{fields[name]}}}\n" for name in about) + ask
    return Described(template, _source(path, fields=renamed, **how), line, MULTIPLE_CHOICE)


def _source(path: Path, **how: object) -> Source:
    return Source.model_validate({"file": str(path), **how})


def _answer_column(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> str:
    """The column with a name for answers, else the one whose values are like labels, else the last text."""
    can = [column for column in columns if _can_be_answer(column, rows)]
    by_name = next((column for name in _ANSWERS for column in can if column.lower() == name), None)
    labels = [column for column in can if are_labels([str(row.get(column)) for row in rows], len(rows))]
    texts = [column for column in can if _is_text(column, rows)]
    answer = by_name or next(reversed(labels or texts), None)
    if answer and any(column != answer and _can_be_asked(column, rows) for column in columns):
        _refuse_one_of_several(path, answer, columns, rows)
        return answer
    asked = [column for column in columns if _is_text(column, rows) and _can_be_asked(column, rows)]
    if len(asked) == 1:
        what = f"the column {asked[0]!r} alone holds text, and nothing says where in it the answer begins"
        raise DataError(what, where=path.name, allowed=f"say so in a YAML: {WHOLE_TEXT}")
    raise DataError(
        f"the columns {column_names(columns)} do not show what is asked and what is answered",
        where=path.name,
        allowed="for example prompt and completion, messages, instruction and output, or text and label",
    )


_ANSWERS = (
    *ANSWER_COLUMNS,
    *("response", "answers", "chosen", "solution", "expected_output", "ideal", "correct_answer", "best_answer"),
    *("references", "targets"),
    *("summary", "highlights", "abstract", "title", "simplified", "category", "class", "intent", "sentiment"),
)
"""Names of the column with the answer, the surest first."""

_NO_ANSWERS = (
    *("question", "query", "instruction", "prompt", "context", "passage", "article", "document", "dialogue", "source"),
    *("tools", "system", "text", "sentence", "premise", "hypothesis", "input", "chat", "language", "lang", "split"),
)
"""Names of columns that are never guessed to be the answer."""


_WRONG = re.compile(
    r"(.*_)?(non_?preferred|dispreferred|rejected|reject|incorrect|wrong|bad|worse|worst|loser|negative|distractors?)"
    r"(_?\d+|_.*)?"
)
"""Names of columns with answers that are not the right one: neither a question nor the answer."""

_ABOUT_ANSWER = re.compile(
    r"(.*_)?(solution|rationale|explanation|exp|reasoning|reasoning_content|thinking|thought|thoughts|cot|chain_of_thought)"
    r"(_?\d+)?"
)
"""Names of columns that lead to the answer or explain it, so that a question with them would give it away."""


def _can_be_answer(column: str, rows: Sequence[Row]) -> bool:
    lower = column.lower()
    return lower not in _NO_ANSWERS and not _WRONG.fullmatch(lower) and not _is_identifier(column, rows)


def _can_be_asked(column: str, rows: Sequence[Row]) -> bool:
    lower = column.lower()
    return not (_WRONG.fullmatch(lower) or _ABOUT_ANSWER.fullmatch(lower) or _is_identifier(column, rows))


def _refuse_one_of_several(path: Path, answer: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Raises DataError if the answer is a text of several that are named alike, such as response_0 and response_1."""
    stem = _NUMBERED.fullmatch(answer)
    if stem is None or not _is_text(answer, rows):
        return
    alike = [c for c in columns if (other := _NUMBERED.fullmatch(c)) and other[1] == stem[1] and _is_text(c, rows)]
    if len(alike) > 1:
        what = f"the columns {column_names(alike)} could each be the answer"
        raise DataError(what, where=path.name, allowed="say which in a YAML, with target, or with choose for each row")


_NUMBERED = re.compile(r"(.*[^\d_])_?(?:\d{1,2}|_[a-dA-D])")


def _is_text(column: str, rows: Sequence[Row]) -> bool:
    values = [row.get(column) for row in rows]
    has_letter = any(re.search(r"[^\W\d_]", str(value)) for value in values)
    return has_letter and all(isinstance(value, str) for value in values)


def _is_identifier(column: str, rows: Sequence[Row]) -> bool:
    """Whether the column has a name for identifiers and never more than two words."""
    named = IDENTIFIER.fullmatch(column.lower())
    return bool(named) and all(len(str(row.get(column)).split()) < 3 for row in rows)


def are_labels(values: Sequence[str], rows: int) -> bool:
    """Whether the different values of so many rows are few and short, and repeat."""
    distinct = set(values)
    short = all(0 < len(value.strip()) <= LABEL_CHARACTERS and "\n" not in value.strip() for value in distinct)
    return short and 2 <= len(distinct) <= MAX_LABELS and 3 * len(distinct) <= rows


_GROUPS = (
    *("group", "group_id", "cluster", "cluster_id", "document_id", "article_id", "conversation_id", "session_id"),
    *("thread_id", "user_id", "author_id", "speaker_id", "patient_id", "customer_id"),
)
"""Names of columns with groups of rows that depend on each other."""
FEWEST_GROUPS = 10  # of fewer groups, no share could be held out


def group_column(rows: Sequence[Row], used: Collection[str | None]) -> str | None:
    """A column with a name for groups in which values repeat, and which is no part of a question or an answer."""
    for column in rows[0]:
        values = [row.get(column) for row in rows]
        if column.lower() not in _GROUPS or column in used or not all(isinstance(v, (str, int)) for v in values):
            continue
        if FEWEST_GROUPS <= len(set(values)) < len(rows):
            return column
    return None


def _field(column: str) -> str:
    """A name that a template can hold."""
    name = re.sub(r"\W+", "_", column).strip("_")
    return name if name and not name[0].isdigit() else f"column_{name}"


def _title(name: str) -> str:
    return name.replace("_", " ").strip().capitalize()
