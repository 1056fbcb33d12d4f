"""A data set, read: its training rows, its test rows and its demonstrations, as rows of its task.

Rows come from the first available source (`sources.py`), and `shapes.py` turns each into an `Example`. `size` counts
the rows that are kept: a row that is left out makes room for the next. Where a source holds fewer rows, all of them are
taken, and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from ..errors import DataError, SourceUnavailable
from ..experiment.suite import DatasetSpec, Source
from ..text.task import Example, Task
from .rows import Part, TestSet, TrainSet
from .shapes import RowReader
from .sources import Places, RawRows, first_available, read_source


class _Found(NamedTuple):
    """Rows of one source, what to call the source, and what was done to the rows."""

    examples: tuple[Example, ...]
    source: str
    notes: tuple[str, ...]


def load_train(name: str, spec: DatasetSpec, task: Task, size: int | None, places: Places) -> TrainSet:
    """The first `size` training rows (None: all there are).

    Raises DataError; that is SourceUnavailable where no source is available.
    """
    found, passed_over = _read(name, "train", spec.train, task, size, places)
    short = size is not None and len(found.examples) < size
    lacking = (f"{len(found.examples)} rows, {size} were asked for",) if short else ()
    return TrainSet(name, task, size, *found, (*lacking, *passed_over))


def load_test(name: str, spec: DatasetSpec, task: Task, places: Places, keep_unanswerable: bool = False) -> TestSet:
    """All test rows, and the set's own list of demonstrations where it has an available one.

    `keep_unanswerable` keeps the rows whose answer is one of `drop_labels`: no answer to them is right.
    """
    found, lacking = _read(name, "test", spec.test, task, None, places, keep_unanswerable)
    test = TestSet(name, task, spec.title or name, found.examples, (), found.source, found.notes, lacking)
    if not spec.demos:
        return test
    try:
        demos, _ = _read(name, "demos", spec.demos, task, None, places)
    except SourceUnavailable as error:
        return replace(test, lacking=(*lacking, f"no list of demonstrations of its own: {error.what}"))
    notes = (*found.notes, *(f"demonstrations: {note}" for note in demos.notes))
    return replace(test, demos=demos.examples, notes=notes)


def load_demos(name: str, spec: DatasetSpec, task: Task, places: Places) -> tuple[Example, ...]:
    """The set's own list of demonstrations, empty where none is given. Raises as `load_train` does."""
    return _read(name, "demos", spec.demos, task, None, places)[0].examples if spec.demos else ()


def load_untouched(
    name: str, part: Part, spec: DatasetSpec, task: Task, size: int | None, places: Places
) -> tuple[Example, ...]:
    """The rows that the loaders above start from, for an audit: none left out, none mended, no label refused.

    As many as it takes for `size` of them to be kept. Raises as `load_train` does; nothing where no source is given.
    """

    def take(source: Source) -> tuple[Example, ...]:
        raw = read_source(source, part, size, places)
        return tuple(_untouched(_reader(task, source, raw), raw, size))

    sources: Sequence[Source] = getattr(spec, part)
    return first_available(name, part, sources, take)[0] if sources else ()


def _read(
    name: str,
    part: Part,
    sources: Sequence[Source],
    task: Task,
    size: int | None,
    places: Places,
    keep_unanswerable: bool = False,
) -> tuple[_Found, tuple[str, ...]]:
    """Rows of the first available source, and a line on each source that was not available."""

    def take(source: Source) -> _Found:
        raw = read_source(source, part, size, places)
        reader = _reader(task, source, raw, keep_unanswerable)
        kept = (reader.example(number, row, raw.where(number)) for number, row in raw)
        examples = tuple(islice((example for example in kept if example is not None), size))
        if not examples:
            raise DataError("no rows are left: " + "; ".join(reader.notes()), where=raw.label)
        return _Found(examples, raw.label, reader.notes())

    return first_available(name, part, sources, take)


def _reader(task: Task, source: Source, raw: RawRows, keep_unanswerable: bool = False) -> RowReader:
    return RowReader.of(task, source, list(raw.rows[0]), raw.where(0), keep_unanswerable)


def _untouched(reader: RowReader, raw: RawRows, size: int | None) -> Iterator[Example]:
    kept = 0
    for number, row in raw:
        if kept == size:
            return
        fits = reader.example(number, row, raw.where(number)) is not None
        try:
            found = reader.untouched(number, row, raw.where(number))
        except DataError:  # of a row that is left out, other columns may be missing too
            if fits:
                raise
            continue
        kept += fits
        yield found
