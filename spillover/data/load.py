"""A data set, read: its training rows, its test rows and its demonstrations, as rows of its task.

The rows of a list of sources are those of all of them, one source after the other. `sources.py` reads each, and
`reader.py` turns its rows into an `Example` each. A row's `doc_id` is its number in the list: where there are several
sources, a note says which numbers are whose. `size` counts the rows that are kept: a row that is left out makes room
for the next. Where the sources hold fewer rows, all of them are taken, and a note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from ..errors import DataError, SourceUnavailable
from ..experiment.suite import HELD, DatasetSpec
from ..fingerprint import fingerprint
from ..text.task import Example, Task
from .cells import as_text, cell
from .files import Row
from .once import OncePerRows
from .reader import RowReader
from .rows import Part, TestSet, TrainSet
from .sources import Places, Read, read_part, sources_of

if TYPE_CHECKING:
    from .held_out import Held


class _Found(NamedTuple):
    """Rows of the sources, what to call these, and what was done to the rows."""

    examples: tuple[Example, ...]
    source: str
    notes: tuple[str, ...]


def load_train(name: str, spec: DatasetSpec, task: Task, size: int | None, places: Places) -> TrainSet:
    """The first `size` training rows (None: all there are).

    Raises DataError; that is SourceUnavailable where no source is available.
    """
    found, passed_over = _read(name, "train", spec, task, size, places)
    short = size is not None and len(found.examples) < size
    lacking = (f"{len(found.examples)} rows, {size} were asked for",) if short else ()
    return TrainSet(name, task, size, *found, (*lacking, *passed_over))


def load_test(name: str, spec: DatasetSpec, task: Task, places: Places, keep_unanswerable: bool = False) -> TestSet:
    """All test rows, and the set's own list of demonstrations where it has an available one.

    `keep_unanswerable` keeps the rows whose answer is one of `drop_labels`: no answer to them is right.
    """
    found, lacking = _read(name, "test", spec, task, None, places, keep_unanswerable)
    test = TestSet(name, task, spec.title or name, found.examples, (), found.source, found.notes, lacking)
    if not spec.demos:
        return test
    try:
        demos, _ = _read(name, "demos", spec, task, None, places)
    except SourceUnavailable as error:
        return replace(test, lacking=(*lacking, f"no list of demonstrations of its own: {error.what}"))
    notes = (*found.notes, *(f"demonstrations: {note}" for note in demos.notes))
    return replace(test, demos=demos.examples, notes=notes)


def load_demos(name: str, spec: DatasetSpec, task: Task, places: Places) -> tuple[Example, ...]:
    """The set's own list of demonstrations, empty where none is given. Raises as `load_train` does."""
    return _read(name, "demos", spec, task, None, places)[0].examples if spec.demos else ()


def load_groups(name: str, spec: DatasetSpec, task: Task, by: str, places: Places) -> dict[int, str]:
    """The value in the column `by` of every training row, by doc_id."""
    reads = [read_part(name, "train", source, None, places) for source in spec.train]
    return {example.doc_id: str(group) for example, group in _candidates(reads, by, task, places)}


def load_untouched(
    name: str, part: Part, spec: DatasetSpec, task: Task, size: int | None, places: Places
) -> tuple[Example, ...]:
    """The rows that the loaders above start from, for an audit: none left out, none mended, no label refused.

    As many as it takes for `size` of them to be kept. Raises as `load_train` does; nothing where no source is given.
    """
    found: list[Example] = []
    kept = first = 0
    belongs = _belonging(name, part, spec, task, places)
    for source in getattr(spec, part):
        if kept == size:
            break
        read = read_part(name, part, source, None if size is None else size - kept, places)
        reader = _reader(task, read, places)
        for number, row in read.raw:
            if kept == size:
                break
            if not belongs(first + number):
                continue
            example, fits = _untouched(reader, first + number, row, read.raw.where(number))
            kept += fits
            found += [example] if example else []
        first += len(read.raw.rows)
    return _in_order(found, name, part, spec, task, places)


def _read(
    name: str,
    part: Part,
    spec: DatasetSpec,
    task: Task,
    size: int | None,
    places: Places,
    keep_unanswerable: bool = False,
) -> tuple[_Found, tuple[str, ...]]:
    """Rows of the sources, and a line on whatever was not available or not reached."""
    examples: list[Example] = []
    passed_over: list[str] = []
    used: list[_Used] = []
    first = 0
    belongs = _belonging(name, part, spec, task, places)
    for source in sources_of(name, part, getattr(spec, part)):
        if len(examples) == size:
            passed_over.append(f"no row of {source} is among the {size}, which come from the sources before it")
            continue
        room = None if size is None else size - len(examples)
        read = read_part(name, part, source, room, places)
        reader = _reader(task, read, places, keep_unanswerable)
        own = ((first + number, row, read.raw.where(number)) for number, row in read.raw if belongs(first + number))
        kept = (reader.example(*one) for one in own)
        new = list(islice((example for example in kept if example is not None), room))
        if not new and not spec.hold_out:
            raise DataError("no rows are left: " + "; ".join(reader.notes()), where=read.raw.label)
        examples += new
        used.append(_Used(read.raw.label, first, len(read.raw.rows), reader))
        passed_over += read.passed_over
        first += len(read.raw.rows)
    label = " + ".join(one.label for one in used[:MOST]) + (f" and {len(used) - MOST} more" if len(used) > MOST else "")
    notes = (*_notes(used), *_notes_on_held_out(name, part, spec, task, places))
    return _Found(_in_order(examples, name, part, spec, task, places), label, notes), tuple(passed_over)


# --- rows that are held out -----------------------------------------------------------------------


def _belonging(name: str, part: Part, spec: DatasetSpec, task: Task, places: Places) -> Callable[[int], bool]:
    """Whether the row of this number belongs to a part of the data set, or is held out of it."""
    rule = spec.hold_out
    if rule is None or (part != "train" and getattr(rule, HELD[part]) is None):
        return lambda number: True
    held = _held(name, spec, task, places)
    demos = frozenset(held.demos)
    if part == "train":
        return lambda number: number not in held.test and number not in demos
    return (held.test if part == "test" else demos).__contains__


def _in_order(
    examples: Sequence[Example], name: str, part: Part, spec: DatasetSpec, task: Task, places: Places
) -> tuple[Example, ...]:
    """The rows of a part; demonstrations that are held out in the order in which they are shown."""
    if part != "demos" or spec.hold_out is None or spec.hold_out.demos is None:
        return tuple(examples)
    place = {doc_id: n for n, doc_id in enumerate(_held(name, spec, task, places).demos)}
    return tuple(sorted(examples, key=lambda example: place[example.doc_id]))


_splits: OncePerRows[Held] = OncePerRows(8)


def _held(name: str, spec: DatasetSpec, task: Task, places: Places) -> Held:
    """The numbers of the rows that are held out. Rows that have not changed since are split once."""
    from .held_out import held_out  # loads numpy

    rule = spec.hold_out
    assert rule is not None
    reads = [read_part(name, "train", source, None, places) for source in spec.train]
    asked = rule.model_dump(), [source.model_dump(mode="json") for source in spec.train]
    how = fingerprint([name, asked, task.fields, task.labels, places.chat is None])
    lists = tuple(read.raw.rows for read in reads)
    return _splits.get(lists, how, lambda: held_out(name, [*_candidates(reads, rule.by, task, places)], rule, task))


def _candidates(
    reads: Sequence[Read], by: str | None, task: Task, places: Places
) -> Iterator[tuple[Example, str | None]]:
    """Every row that is kept, with its group."""
    first = 0
    for read in reads:
        reader = _reader(task, read, places)
        for number, row in read.raw:
            where = read.raw.where(number)
            example = reader.example(first + number, row, where)
            if example is not None:
                yield example, None if by is None else as_text(cell(row, by, where), by, where)
        first += len(read.raw.rows)


def _notes_on_held_out(name: str, part: Part, spec: DatasetSpec, task: Task, places: Places) -> Iterator[str]:
    rule = spec.hold_out
    if rule and part == "test" and rule.rows:
        alike = "rows with one question, or nearly one" + (f", or one {rule.by!r}" if rule.by else "")
        yield f"{len(_held(name, spec, task, places).test):,} rows are held out of training; {alike}, are on one side"
    if rule and part == "demos" and rule.demos:
        yield f"{rule.demos:,} training rows, which are not trained on"


# --- several sources ------------------------------------------------------------------------------


MOST = 4  # sources that are named in one line


class _Used(NamedTuple):
    """A source of which rows were taken: its name, the number of its first row, how many it has, and its reader."""

    label: str
    first: int
    rows: int
    reader: RowReader

    def __str__(self) -> str:
        return f"{self.first} to {self.first + self.rows - 1} those of {self.label}"


def _notes(used: Sequence[_Used]) -> Iterator[str]:
    """What was done to the rows, by source if there are several, and which numbers the rows of each source have."""
    if len(used) > 1:
        more = f" and {len(used) - MOST} more" if len(used) > MOST else ""
        yield f"{len(used)} sources are read one after the other: rows {', '.join(map(str, used[:MOST]))}{more}"
        ways: dict[str, str] = {}
        for one in used:
            ways.setdefault(one.reader.read_as, one.label)
        if len(ways) > 1:
            yield "the sources are read in different ways: " + "; ".join(
                f"{label}: {way}" for way, label in ways.items()
            )
    for one in used:
        for note in one.reader.notes():
            yield f"{one.label}: {note}" if len(used) > 1 else note


def _reader(task: Task, read: Read, places: Places, keep_unanswerable: bool = False) -> RowReader:
    return RowReader.of(task, read.source, read.raw.rows[0], read.raw.where(0), places.chat, keep_unanswerable)


def _untouched(reader: RowReader, doc_id: int, row: Row, where: str) -> tuple[Example | None, bool]:
    """The row as its source has it, if it has an answer; and whether a run would keep it."""
    fits = reader.example(doc_id, row, where) is not None
    try:
        return reader.untouched(doc_id, row, where), fits
    except DataError:  # of a row that is left out, other columns may be missing too
        if fits:
            raise
        return None, False
