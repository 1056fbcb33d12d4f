"""Turns raw rows into examples of a task: by the columns that the source names, or by their shape (`shapes.py`).

A `RowReader` does the same for rows of every shape: values become text, answers are mapped to labels and checked, and
rows that are left out are counted, as are labels in another spelling (`text.labels`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..errors import DataError, did_you_mean
from ..experiment.suite import Source
from ..text.chat import ChatTemplate
from ..text.labels import Labels, listed
from ..text.task import Example, Task
from ..text.tools import written
from .cells import as_text, cell, is_empty
from .files import Row
from .options import options_columns, options_of, right_option
from .shapes import PROMPT, TEXT, LeftOut, Parts, TakeApart, column_names, from_whole_text, known_shape, unread

SPELLINGS = 5  # other spellings of labels that a note names
ANSWER_COLUMNS = ("output", "label", "answer", "target", "completion", "answerKey")
LISTED = "options"  # the field of a template that lists a row's options


def _answer_column(source: Source, fields: Sequence[str], columns: Sequence[str], where: str) -> str:
    if named := source.target or source.references:
        return named
    found = [column for column in ANSWER_COLUMNS if column in columns and column not in fields]
    if len(found) == 1:
        return found[0]
    what = f"several columns could be the answer: {', '.join(found)}" if found else "no column is the answer"
    raise DataError(what, where=where, allowed=f"say which with target: one of {column_names(columns)}")


def _by_name(
    column_of: dict[str, str], fields: Sequence[str], source: Source, answer: str, options_in: Sequence[str]
) -> TakeApart:
    """For rows with one column a field. A column is called as its field is, or as the source says.

    The field `options` of a multiple choice is all its options, a line each.
    """

    def take_apart(row: Row, where: str) -> Parts:
        options = options_of(row, options_in, where) if options_in else None
        values = {name: as_text(cell(row, column, where), column, where) for name, column in column_of.items()}
        for name, choice in source.choose.items():
            key = as_text(cell(row, choice.by, where), choice.by, where)
            if key not in choice.of:
                allowed = did_you_mean(key, choice.of)
                raise DataError(f"{choice.by!r} is {key!r}, which chooses no column", where=where, allowed=allowed)
            values[name] = as_text(cell(row, choice.of[key], where), choice.of[key], where)
        if options and LISTED in fields:
            values.setdefault(LISTED, options.lettered)
        right = _references(row, source.references, where) if source.references else ()
        target = right[0] if right and not source.target else cell(row, answer, where)
        return Parts({name: values[name] for name in fields}, target, answer, references=right, options=options)

    return take_apart


def _references(row: Row, column: str, where: str) -> list[Any]:
    """All right answers of a row: the items of a list, or one text."""
    value = cell(row, column, where)
    if is_empty(value):
        allowed = f"require: [{column}] leaves such rows out"
        raise DataError(f"column {column!r} holds no answer", where=where, allowed=allowed)
    return value if isinstance(value, list) else [value]


def _take_apart(task: Task, source: Source, first: Row, where: str) -> tuple[TakeApart, str, str]:
    """The function that takes rows like the first apart into fields; what rows are read as; what a reader must know."""
    if source.reads_whole_texts:
        return _whole_texts(task, source, where)
    if source.references and task.kind != "generation":
        what = "references (several right answers to one question) are for free text, and the task has labels"
        raise DataError(what, where=where, allowed="target, the column of the label")
    if source.options and not task.own_options:
        what = f"the options of each row are named, but the answers of task {task.name!r} are "
        what += "its labels" if task.is_classification else "free text"
        raise DataError(what, where=where, allowed="leave out options, or the task and the labels")
    fields = task.fields
    given = {*source.fields, *source.choose}
    if unknown := sorted(given - set(fields)):
        allowed = did_you_mean(unknown[0], fields)
        raise DataError(f"the task has no field {unknown[0]!r}", where=where, allowed=allowed)
    named = source.target or source.references or source.options
    by_shape = not given and not named and tuple(fields) == PROMPT
    shape = known_shape(first, where) if by_shape else None
    if shape:
        more = unread(shape, first, where)
        unused = f"columns that are not read: {column_names(more)}" if more else ""
        return shape.take_apart, f"the shape {shape.name}", "; ".join(filter(None, (shape.note, unused)))
    options_in = options_columns(source, first, task.labels is not None)
    made = {*source.choose, *({LISTED} - {*source.fields} if options_in else ())}
    column_of = {name: source.fields.get(name, name) for name in fields if name not in made}
    answer = _answer_column(source, [*column_of.values(), *options_in], list(first), where)
    return _by_name(column_of, fields, source, answer, options_in), f"the answer in {answer!r}", ""


def _whole_texts(task: Task, source: Source, where: str) -> tuple[TakeApart, str, str]:
    after, column = source.answer_after, source.target or TEXT
    if tuple(task.fields) != PROMPT:
        what = f"rows that are one text have the one field 'prompt', the task has {column_names(task.fields)}"
        raise DataError(what, where=where, allowed="leave out task and template")
    if task.is_classification and not after:
        what = "a text that is learnt as a whole (loss: all) has no label"
        raise DataError(what, where=where, allowed="labels in a data set of its own, with this one in in_domain")
    note = f"the answer is what follows {after!r}" if after else "trained on the whole text, prompt and answer alike"
    return partial(from_whole_text, column, after), f"a whole text in {column!r}", note


@dataclass
class RowReader:
    """Turns the rows of one source into examples of one task. Counts what it leaves out and what it changes.

    `read_as` says how rows are read. `keep_unanswerable`: rows with one of the source's `drop_labels` stay, though no
    answer to them is right. `chat`: the template that writes calls of tools.
    """

    task: Task
    source: Source
    take_apart: TakeApart
    read_as: str = ""
    note: str = ""
    chat: ChatTemplate | None = None
    keep_unanswerable: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    unanswerable: Counter[str] = field(default_factory=Counter)
    respelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    references: Counter[int] = field(default_factory=Counter)  # by number in a row
    unescaped: int = 0
    several_times: int = 0
    options_twice: int = 0
    named_two: int = 0

    def __post_init__(self) -> None:
        self._labels, self._mapped = Labels(self.task.labels or ()), Labels(tuple(self.source.target_map))
        self._dropped = Labels(self.source.drop_labels)

    @classmethod
    def of(
        cls, task: Task, source: Source, first: Row, where: str, chat: ChatTemplate | None = None, keep: bool = False
    ) -> RowReader:
        """A reader for rows like the first one. Raises DataError where they cannot be the task's."""
        return cls(task, source, *_take_apart(task, source, first, where), chat, keep)

    def example(self, doc_id: int, row: Row, where: str) -> Example | None:
        """The row as an example, or None where the source says to leave it out."""
        for column in self.source.require:
            if is_empty(cell(row, column, where)):
                self.left_out[f"with empty {column!r}"] += 1
                return None
        parts = self.take_apart(row, where)
        if isinstance(parts, LeftOut):
            self.left_out[parts.why] += 1
            return None
        raw = as_text(parts.target, parts.column, where)
        target = self._right(parts, self._label(raw, where), where)
        if self._dropped.find(raw) is not None or self._dropped.find(target) is not None:
            if not self.keep_unanswerable:
                self.left_out[f"with label {raw!r}"] += 1
                return None
            self.unanswerable[f"with label {raw!r}"] += 1
        elif self.task.labels is not None:
            target = self._as_label(target, where)
        after = self.source.answer_after
        self.several_times += after is not None and parts.fields["prompt"].count(after) > 1
        example = self._written(doc_id, parts, target, where)
        self.references[len(example.right)] += 1
        return self._unescaped(example) if self.source.unescape else example

    def untouched(self, doc_id: int, row: Row, where: str) -> Example | None:
        """The row as its source has it: not changed, and its answer not checked. None where it has no right answer."""
        missing = {column: "" for column in self.source.require if cell(row, column, where) is None}
        parts = self.take_apart({**row, **missing}, where)
        if isinstance(parts, LeftOut):
            return None
        target = self._label(as_text(parts.target, parts.column, where), where)
        return self._written(doc_id, parts, self._right(parts, target, where), where)

    def notes(self) -> Iterator[str]:
        """How rows are read where a reader must know it, and what was left out or changed."""
        if self.note:
            yield self.note
        for reason, n in self.left_out.items():
            yield f"{_rows(n)} {reason} left out"
        for reason, n in self.unanswerable.items():
            yield f"{_rows(n)} {reason} kept: no answer is right"
        if self.respelled:
            spellings = [f"{listed([text])} as {listed([label])}" for text, label in [*self.respelled][:SPELLINGS]]
            more = ", …" if len(self.respelled) > SPELLINGS else ""
            read = f"{', '.join(spellings)}{more}"
            yield f"{_rows(self.respelled.total())} with a label in another spelling, read as the label: {read}"
        if several := [count for count in self.references if count > 1]:
            n, most = sum(self.references[count] for count in several), max(several)
            best = "the best of them counts, and training and demonstrations use the first"
            yield f"{_rows(n)} with several right answers, up to {most}: {best}"
        if self.several_times:
            yield f"{_rows(self.several_times)} with {self.source.answer_after!r} more than once: cut at the last"
        if self.options_twice:
            yield f"{_rows(self.options_twice)} with an option twice: it counts once"
        if self.named_two:
            yield f"{_rows(self.named_two)} whose answer names one option in one way and another one in another way"
        if self.unescaped:
            yield rf"{_rows(self.unescaped)} with a literal \n: made a line break"

    def _written(self, doc_id: int, parts: Parts, target: str, where: str) -> Example:
        column = self.source.references or parts.column
        texts = (as_text(value, f"{column}.{n}", where) for n, value in enumerate(parts.references))
        right = tuple(dict.fromkeys([target, *(self._label(text, where) for text in texts)]))
        right = right if len(right) > 1 else ()
        options = parts.options.distinct if parts.options and self.task.own_options else ()
        whole = self.source.loss == "all"
        example = Example(doc_id, parts.fields, target, parts.turns, whole, parts.raw, right, options)
        return written(example, self.chat, where) if parts.raw and self.chat else example

    def _right(self, parts: Parts, named: str, where: str) -> str:
        """The option that the answer names; without options the answer itself."""
        if parts.options is None or self._dropped.find(named) is not None:
            return named
        self.options_twice += len(parts.options.distinct) < len(parts.options.texts)
        value = parts.target if named == str(parts.target) else named  # a number is one as long as nothing maps it
        is_mapped = self._mapped.find(str(parts.target)) is not None
        right, could_be_another = right_option(value, parts.options, parts.column, where, is_mapped)
        self.named_two += could_be_another
        return right

    def _label(self, raw: str, where: str) -> str:
        threshold = self.source.target_above
        if threshold is None:
            known = self._mapped.find(raw)
            return raw if known is None else self.source.target_map[known]
        try:
            return threshold.then if float(raw) > threshold.above else threshold.otherwise
        except ValueError:
            raise DataError(f"the answer {raw!r} is not a number", where=where) from None

    def _as_label(self, target: str, where: str) -> str:
        """The label that a target is, in whatever spelling (`text.labels`). Raises DataError for one that is none."""
        label = self._labels.find(target)
        if label is None:
            allowed = did_you_mean(target, self._labels.names)
            raise DataError(f"label {listed([target])} is not one of the task's", where=where, allowed=allowed)
        if label != target:
            self.respelled[target, label] += 1
        return label

    def _unescaped(self, example: Example) -> Example:
        fields = {name: text.replace(r"\n", "\n") for name, text in example.fields.items()}
        mended = replace(
            example, fields=fields, target=example.target.replace(r"\n", "\n") if example.whole else example.target
        )
        self.unescaped += mended != example
        return mended


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
