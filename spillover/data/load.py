"""A data set of a suite or an experiment, read: its task, its training rows, its test rows and demonstrations.

A data set lists its sources and the first that can be had is taken:

    file      the user's own file, relative to the experiment's YAML. Missing or malformed is an error at once.
    release   a file below the study's release folder (`--data-dir`). Not given or not there: the next source.
    hub       a split on the Hugging Face hub. Out of reach: the next source.
    builtin   generated, always to be had.

Order. Files are read from the top, so the first 2,000 rows are among the first 4,000 (the release has a file per
size, and they nest). Splits on the hub are often sorted by label or product, where the first thousand rows would be
one-star reviews only; they are read in one seeded order (`HUB_SEED`), for training and test alike, and smaller sizes
nest in larger ones just so. A row's `doc_id` is its number in the source either way.

Size. `size` rows that are kept: one that is left out (`drop_labels`, `require`) makes room for the next. Where a source
holds fewer, that is what is taken, and a note says so. The release has a file per size, and a size whose file
is missing is not silently cut from a smaller one: the next source is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from ..errors import DataError, ExperimentError, SourceUnavailable
from ..experiment.suite import DatasetSpec, Source
from ..text.task import Example, Task
from .files import Row, open_table
from .hub import read_hub
from .rows import TestSet, TrainSet
from .shapes import RowReader, named_task, own_task, with_overrides

HUB_SEED = 0

Part = Literal["train", "test", "demos"]
T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Where paths start: `base` is the folder of the YAML, `data_dir` the study's release, if there is one."""

    base: Path = Path()
    data_dir: Path | None = None


@dataclass(frozen=True)
class RawRows:
    """The rows of one source before they mean anything. `order` is the order in which they are to be read."""

    label: str
    columns: Sequence[str]
    rows: Sequence[Row]
    order: Sequence[int]
    where: Callable[[int], str]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return ((number, self.rows[number]) for number in self.order)


# --- tasks ---


def dataset_task(name: str, spec: DatasetSpec, specs: Mapping[str, DatasetSpec], places: Places) -> Task:
    """The task of data set `name`: one of the five, or that of the user's own data.

    A set that gives no template, no labels and no training rows, and names one own training set in `in_domain` or
    `out_of_domain`, has that set's task: a second test file needs no second description.
    """
    if spec.task is not None:
        return named_task(name, spec)
    parent = task_name(name, spec, specs)
    if parent != name:
        return with_overrides(_own_task(parent, specs[parent], places), name, spec)
    return _own_task(name, spec, places)


def task_name(name: str, spec: DatasetSpec, specs: Mapping[str, DatasetSpec]) -> str:
    """What `dataset_task` calls the task of data set `name`; no file is read."""
    if spec.task is not None:
        return spec.task
    if spec.train or spec.template or spec.labels:
        return name
    named = dict.fromkeys((*spec.in_domain, *spec.out_of_domain))
    own = [other for other in named if other in specs and specs[other].train and specs[other].task is None]
    return own[0] if len(own) == 1 else name


def _own_task(name: str, spec: DatasetSpec, places: Places) -> Task:
    part: Part = "train" if spec.train else "test"
    sources = spec.train or spec.test
    if any(source.builtin for source in sources):
        raise ExperimentError("a builtin data set needs its task named", where=f"datasets.{name}.task")

    def take(source: Source) -> Task:
        raw = _raw(source, None, places)
        return own_task(name, spec, raw.columns, [raw.rows[0]], source, raw.where(0))

    task, _ = _first(name, part, sources, take)
    return task


# --- rows ---


def load_train(name: str, spec: DatasetSpec, task: Task, size: int | None, places: Places) -> TrainSet:
    """The first `size` training rows (None: all there are). Raises DataError, or SourceUnavailable if all are."""

    def take(source: Source) -> TrainSet:
        examples, label, notes = _examples(name, "train", source, task, size, places)
        short = size is not None and len(examples) < size
        lacking = (f"{len(examples)} rows, {size} were asked for",) if short else ()
        return TrainSet(name, task, size, examples, label, notes, lacking)

    train, passed_over = _first(name, "train", spec.train, take)
    return replace(train, lacking=(*train.lacking, *passed_over))


def load_test(name: str, spec: DatasetSpec, task: Task, places: Places, keep_unanswerable: bool = False) -> TestSet:
    """All test rows, and the set's own list of demonstrations where it has one that can be had.

    `keep_unanswerable` keeps the rows whose answer is one of `drop_labels`: no answer to them is right.
    """

    def take(source: Source) -> TestSet:
        examples, label, notes = _examples(name, "test", source, task, None, places, keep_unanswerable)
        return TestSet(name, task, spec.title or name, examples, (), label, notes)

    test, passed_over = _first(name, "test", spec.test, take)
    try:
        demos, notes = load_demos(name, spec, task, places)
    except SourceUnavailable as error:
        return replace(test, lacking=(*passed_over, f"no list of demonstrations of its own: {error.what}"))
    return replace(test, demos=demos, notes=(*test.notes, *notes), lacking=passed_over)


def load_demos(name: str, spec: DatasetSpec, task: Task, places: Places) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The set's own list of demonstrations, empty where none is given, and notes. Raises as `load_train` does."""
    if not spec.demos:
        return (), ()

    def take(source: Source) -> tuple[tuple[Example, ...], tuple[str, ...]]:
        examples, _, notes = _examples(name, "demos", source, task, None, places)
        return examples, tuple(f"demonstrations: {note}" for note in notes)

    return _first(name, "demos", spec.demos, take)[0]


def _examples(
    name: str,
    part: Part,
    source: Source,
    task: Task,
    size: int | None,
    places: Places,
    keep_unanswerable: bool = False,
) -> tuple[tuple[Example, ...], str, tuple[str, ...]]:
    """Rows of one source as examples, with what to call the source and what to say of it."""
    if source.builtin:
        from .builtin.datasets import generate

        return generate(source.builtin, part, size), str(source), ()
    raw = _raw(source, size if part == "train" else None, places)
    reader = RowReader.of(task, source, raw.columns, raw.where(0), keep_unanswerable)
    examples = tuple(islice(_kept(reader, raw, raw.where), size))
    if not examples:
        raise DataError("no rows are left: " + "; ".join(reader.notes()), where=raw.label)
    return examples, raw.label, reader.notes()


def load_untouched(
    name: str, part: Part, spec: DatasetSpec, task: Task, size: int | None, places: Places
) -> tuple[Example, ...]:
    """The rows that the loaders above start from, for an audit: none left out, none mended, no label refused.

    As many as it takes for `size` of them to be kept. Raises as `load_train` does; nothing where no source is given.
    """

    def take(source: Source) -> tuple[Example, ...]:
        if source.builtin:
            return _examples(name, part, source, task, size, places)[0]
        raw = _raw(source, size if part == "train" else None, places)
        reader = RowReader.of(task, source, raw.columns, raw.where(0))
        return tuple(_untouched(reader, raw, size))

    sources: Sequence[Source] = getattr(spec, part)
    return _first(name, part, sources, take)[0] if sources else ()


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


def _kept(reader: RowReader, rows: Iterable[tuple[int, Row]], where: Callable[[int], str]) -> Iterator[Example]:
    for number, row in rows:
        example = reader.example(number, row, where(number))
        if example is not None:
            yield example


# --- sources ---


def _first(name: str, part: Part, sources: Sequence[Source], take: Callable[[Source], T]) -> tuple[T, tuple[str, ...]]:
    """What `take` makes of the first source that can be had, and a note on those passed over."""
    if not sources:
        what = f"data set {name!r} has no {'training' if part == 'train' else part} rows"
        raise ExperimentError(what, where=f"datasets.{name}.{part}", allowed="give a file or another source")
    reasons: list[str] = []
    for source in sources:
        try:
            return take(source), tuple(f"not from {reason}" for reason in reasons)
        except SourceUnavailable as error:
            reasons.append(str(error))
    raise SourceUnavailable("no source can be had: " + "; ".join(reasons), where=f"datasets.{name}.{part}")


def _raw(source: Source, size: int | None, places: Places) -> RawRows:
    """The rows of a file, a release file or a hub split, in the order in which they are to be read."""
    if source.hub:
        return _raw_hub(source)
    path = _release_path(source, size, places) if source.release else places.base / Path(source.file or "").expanduser()
    table = open_table(path)
    label = f"release:{path.relative_to(_data_dir(source, places)).as_posix()}" if source.release else str(source)
    return RawRows(label, list(table.rows[0]), table.rows, range(len(table.rows)), table.where)


def _raw_hub(source: Source) -> RawRows:
    split = read_hub(source)
    order = list(range(len(split.rows)))
    if not order:
        raise SourceUnavailable("the split holds no rows", where=str(source))
    Random(HUB_SEED).shuffle(order)
    label = f"{source}, split {source.split or 'train'}, " + (
        f"commit {split.commit}" if split.commit else "from the cache"
    )
    return RawRows(label, split.columns, split.rows, order, lambda row: f"{source}, row {row}")


def _data_dir(source: Source, places: Places) -> Path:
    if places.data_dir is None:
        raise SourceUnavailable("the study's release is not here", where=str(source), allowed="give --data-dir")
    return places.data_dir.expanduser()


def _release_path(source: Source, size: int | None, places: Places) -> Path:
    """The release's file for `size` rows: that of the smallest listed size which suffices."""
    folder, pattern = _data_dir(source, places), source.release or ""
    if "{size}" not in pattern:
        return _present(folder / pattern, source)
    fit = [listed for listed in sorted(source.sizes) if size is None or listed >= size]
    if not fit:
        largest = max(source.sizes, default=0)
        raise SourceUnavailable(f"holds at most {largest} rows, {size} were asked for", where=str(source))
    paths = [folder / pattern.replace("{size}", str(listed)) for listed in fit]
    if size is None:  # all there is: the largest file that is there
        return next((path for path in reversed(paths) if path.is_file()), None) or _present(paths[-1], source)
    return _present(paths[0], source)


def _present(path: Path, source: Source) -> Path:
    if not path.is_file():
        raise SourceUnavailable(
            f"no file {path}", where=str(source), allowed="--data-dir is the study's release folder"
        )
    return path
