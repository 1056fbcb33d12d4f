"""Turns raw rows into examples: which columns are the question, and which is the answer.

    columns                     what it is                      field(s) of the task
    the task's fields, output   the study's release, or a map   the task's
    prompt, completion          TRL; text, or lists of turns    prompt
    messages                    chat, as TRL and OpenAI have it prompt, earlier turns aside
    conversations               ShareGPT: from/value            prompt, earlier turns aside
    instruction, input, output  Alpaca; input may be left out   prompt

A `RowReader` then does the same for rows of every shape: values become text, answers are mapped to labels and checked,
and rows that are left out are counted. A missing value is an error, an empty text is not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from ..errors import DataError, did_you_mean
from ..experiment.suite import Source
from ..text.task import Example, Task
from .files import Row

ANSWER_COLUMNS = ("output", "label", "answer", "target", "completion")

_SPEAKERS = {"system": ("system", "developer"), "user": ("user", "human"), "assistant": ("assistant", "gpt")}
_ROLES = {speaker: role for role, speakers in _SPEAKERS.items() for speaker in speakers}


class Parts(NamedTuple):
    """The parts of one row. `target` is the answer as column `column` has it."""

    fields: dict[str, str]
    target: Any
    column: str
    turns: tuple[tuple[str, str], ...] = ()


TakeApart = Callable[[Row, str], Parts]
"""From a row, and where it stands, to its parts."""


def cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    """The value of a column. `a.0` looks into a list, `a.b` into an object, unless a column has that very name."""
    if column in row:
        return row[column]
    head, *steps = column.split(".")
    if head not in row or not steps:
        raise DataError(f"no column {column!r}", where=where, allowed=did_you_mean(column, row))
    value = row[head]
    for step in steps:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise DataError(f"column {head!r} has nothing at {column!r}", where=where) from None
    return value


def as_text(value: Any, column: str, where: str) -> str:
    """A value as text. Raises DataError for one that is missing, and for lists and objects."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"column {column!r} has no value", where=where, allowed="an empty text is allowed, null is not")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict, bytes)):
        kind = {list: "a list", dict: "an object", bytes: "bytes"}[type(value)]
        raise DataError(f"column {column!r} holds {kind} where text is expected", where=where)
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"column {column!r} holds half a character (a lone surrogate)", where=where) from None
    return text


def _turns(value: Any, column: str, where: str) -> list[tuple[str, str]]:
    """A list of messages as (role, text), from `role`/`content` or from ShareGPT's `from`/`value`."""
    if not isinstance(value, list):
        raise DataError(f"column {column!r} must hold a list of messages", where=where)
    turns = []
    for message in value:
        speaker, words = ("from", "value") if isinstance(message, dict) and "from" in message else ("role", "content")
        if not isinstance(message, dict) or speaker not in message or words not in message:
            raise DataError(f"a message in {column!r} must have role and content, or from and value", where=where)
        role = _ROLES.get(str(message[speaker]))
        if role is None:
            allowed = did_you_mean(str(message[speaker]), _ROLES)
            raise DataError(f"unknown role {message[speaker]!r} in {column!r}", where=where, allowed=allowed)
        turns.append((role, as_text(_joined(message[words]), column, where)))
    return turns


def _joined(content: Any) -> Any:
    """OpenAI's list of text parts as one text; anything else as it is."""
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def _asked(turns: list[tuple[str, str]], column: str, where: str) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """The user's question at the end of the turns, and the turns before it."""
    if not turns or turns[-1][0] != "user":
        raise DataError(f"the message before the answer in {column!r} must be the user's", where=where)
    return {"prompt": turns[-1][1]}, tuple(turns[:-1])


def _from_chat(column: str, row: Row, where: str) -> Parts:
    turns = _turns(cell(row, column, where), column, where)
    # LLaMA-Factory keeps ShareGPT's system message in a column of its own.
    if row.get("system"):
        turns.insert(0, ("system", as_text(row["system"], "system", where)))
    if not turns or turns[-1][0] != "assistant":
        raise DataError(f"the last message in {column!r} must be the assistant's: it is the answer", where=where)
    fields, earlier = _asked(turns[:-1], column, where)
    return Parts(fields, turns[-1][1], column, earlier)


def _from_prompt_completion(row: Row, where: str) -> Parts:
    prompt, completion = cell(row, "prompt", where), cell(row, "completion", where)
    if isinstance(completion, list):
        answers = _turns(completion, "completion", where)
        if [role for role, _ in answers] != ["assistant"]:
            raise DataError("column 'completion' must hold one message, the assistant's", where=where)
        completion = answers[0][1]
    if isinstance(prompt, list):
        fields, earlier = _asked(_turns(prompt, "prompt", where), "prompt", where)
        return Parts(fields, completion, "completion", earlier)
    return Parts({"prompt": as_text(prompt, "prompt", where)}, completion, "completion")


def _from_alpaca(row: Row, where: str) -> Parts:
    parts = [as_text(cell(row, "instruction", where), "instruction", where)]
    if row.get("input"):  # absent, null and "" all mean that there is none
        parts.append(as_text(row["input"], "input", where))
    turns = [("system", as_text(row["system"], "system", where))] if row.get("system") else []
    for pair in row.get("history") or []:
        turns += zip(("user", "assistant"), (as_text(text, "history", where) for text in pair), strict=False)
    return Parts({"prompt": "\n\n".join(parts)}, cell(row, "output", where), "output", tuple(turns))


class Shape(NamedTuple):
    """A shape that is known by its columns. All have one field, `prompt`."""

    name: str
    columns: tuple[str, ...]
    take_apart: TakeApart


SHAPES = (
    Shape("prompt/completion", ("prompt", "completion"), _from_prompt_completion),
    Shape("messages", ("messages",), partial(_from_chat, "messages")),
    Shape("conversations", ("conversations",), partial(_from_chat, "conversations")),
    Shape("alpaca", ("instruction", "output"), _from_alpaca),
)
PROMPT = ("prompt",)


def known_shape(columns: Sequence[str], where: str) -> Shape | None:
    """The shape that these columns have, or None. Two shapes at once are an error, because they could disagree."""
    shapes = [shape for shape in SHAPES if set(shape.columns) <= set(columns)]
    if len(shapes) > 1:
        what = f"the columns {', '.join(columns)} are both {' and '.join(shape.name for shape in shapes)}"
        raise DataError(what, where=where, allowed="say which with fields: {prompt: ...} and target: ...")
    return shapes[0] if shapes else None


def has_turns(shape: Shape | None, first: Row) -> bool:
    return shape is not None and (shape.name in ("messages", "conversations") or isinstance(first.get("prompt"), list))


def _answer_column(source: Source, fields: Sequence[str], columns: Sequence[str], where: str) -> str:
    if source.target:
        return source.target
    found = [column for column in ANSWER_COLUMNS if column in columns and column not in fields]
    if len(found) == 1:
        return found[0]
    what = f"several columns could be the answer: {', '.join(found)}" if found else "no column is the answer"
    raise DataError(what, where=where, allowed=f"say which with target: one of {', '.join(columns)}")


def _by_name(fields: Sequence[str], source: Source, columns: Sequence[str], where: str) -> TakeApart:
    """For rows with one column a field. A column is called as its field is, or as the source says."""
    column_of = {name: source.fields.get(name, name) for name in fields if name not in source.choose}
    answer = _answer_column(source, [*column_of.values()], columns, where)

    def take_apart(row: Row, where: str) -> Parts:
        values = {name: as_text(cell(row, column, where), column, where) for name, column in column_of.items()}
        for name, choice in source.choose.items():
            key = as_text(cell(row, choice.by, where), choice.by, where)
            if key not in choice.of:
                allowed = did_you_mean(key, choice.of)
                raise DataError(f"{choice.by!r} is {key!r}, which chooses no column", where=where, allowed=allowed)
            values[name] = as_text(cell(row, choice.of[key], where), choice.of[key], where)
        return Parts({name: values[name] for name in fields}, cell(row, answer, where), answer)

    return take_apart


def _take_apart(fields: Sequence[str], source: Source, columns: Sequence[str], where: str) -> TakeApart:
    """The function that takes rows with these columns apart into the fields of a task."""
    given = {*source.fields, *source.choose}
    if unknown := sorted(given - set(fields)):
        allowed = did_you_mean(unknown[0], fields)
        raise DataError(f"the task has no field {unknown[0]!r}", where=where, allowed=allowed)
    by_shape = not given and not source.target and tuple(fields) == PROMPT
    shape = known_shape(columns, where) if by_shape else None
    return shape.take_apart if shape else _by_name(fields, source, columns, where)


@dataclass
class RowReader:
    """Turns the rows of one source into examples of one task. Counts what it leaves out and what it changes.

    `keep_unanswerable`: rows with one of the source's `drop_labels` stay, though no answer to them is right.
    """

    task: Task
    source: Source
    take_apart: TakeApart
    keep_unanswerable: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    unanswerable: Counter[str] = field(default_factory=Counter)
    unescaped: int = 0

    @classmethod
    def of(cls, task: Task, source: Source, columns: Sequence[str], where: str, keep: bool = False) -> RowReader:
        """A reader for rows with these columns. Raises DataError where they cannot be the task's."""
        return cls(task, source, _take_apart(task.fields, source, columns, where), keep_unanswerable=keep)

    def example(self, doc_id: int, row: Row, where: str) -> Example | None:
        """The row as an example, or None where the source says to leave it out."""
        for column in self.source.require:
            value = cell(row, column, where)
            if value is None or not str(value).strip():
                self.left_out[f"with empty {column!r}"] += 1
                return None
        parts = self.take_apart(row, where)
        raw = as_text(parts.target, parts.column, where)
        target = self._label(raw, where)
        if raw in self.source.drop_labels or target in self.source.drop_labels:
            if not self.keep_unanswerable:
                self.left_out[f"with label {raw!r}"] += 1
                return None
            self.unanswerable[f"with label {raw!r}"] += 1
        elif self.task.labels is not None and target not in self.task.labels:
            allowed = did_you_mean(target, self.task.labels)
            raise DataError(f"label {target!r} is not one of the task's", where=where, allowed=allowed)
        example = Example(doc_id, parts.fields, target, parts.turns)
        return self._unescaped(example) if self.source.unescape else example

    def untouched(self, doc_id: int, row: Row, where: str) -> Example:
        """The row as its source has it: never left out, not changed, its answer not checked against the labels."""
        missing = {column: "" for column in self.source.require if cell(row, column, where) is None}
        parts = self.take_apart({**row, **missing}, where)
        target = self._label(as_text(parts.target, parts.column, where), where)
        return Example(doc_id, parts.fields, target, parts.turns)

    def notes(self) -> tuple[str, ...]:
        """What was left out or changed, for those who read the results."""
        notes = [f"{_rows(n)} {reason} left out" for reason, n in self.left_out.items()]
        notes += [f"{_rows(n)} {reason} kept: no answer is right" for reason, n in self.unanswerable.items()]
        if self.unescaped:
            notes.append(rf"{_rows(self.unescaped)} with a literal \n: made a line break")
        return tuple(notes)

    def _label(self, raw: str, where: str) -> str:
        threshold = self.source.target_above
        if threshold is None:
            return self.source.target_map.get(raw, raw)
        try:
            return threshold.then if float(raw) > threshold.above else threshold.otherwise
        except ValueError:
            raise DataError(f"the answer {raw!r} is not a number", where=where) from None

    def _unescaped(self, example: Example) -> Example:
        fields = {name: text.replace(r"\n", "\n") for name, text in example.fields.items()}
        if fields == example.fields:
            return example
        self.unescaped += 1
        return replace(example, fields=fields)


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
