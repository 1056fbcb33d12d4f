"""Where rows come from: one reader for each kind of source.

    file      the user's own file or folder, relative to the YAML. Missing or malformed is an error at once.
    release   a file below the study's release folder (`--data-dir`). Without it, the next source is tried.
    hub       a split on the Hugging Face hub. Without the hub, the next source is tried.
    builtin   generated, and always available.
    archive   a data set of a package on the package index, fetched once. Without the index, the next source is tried.

    first_of  the first of these sources that is available.

To add a kind of source, give `experiment.suite.Source` a field for it and write a reader into `READERS`. Files are read
from the top. Splits on the hub are often sorted by label, so they are read in one seeded order (`HUB_SEED`). Smaller
sizes nest in larger ones either way, and a row's `doc_id` is its number in the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from ..errors import DataError, ExperimentError, Say, SourceUnavailable
from ..experiment.suite import SUITES, DatasetSpec, Source, load_suite
from ..text.chat import ChatTemplate
from .cells import as_text, cell
from .files import Row, open_table
from .hub import read_hub
from .once import OncePerRows
from .rows import Part
from .shares import order_of

HUB_SEED = 0


@dataclass(frozen=True)
class Places:
    """Where paths start: `base` is the folder of the YAML, `data_dir` the study's release, if there is one.

    `chat` is the model's chat template, which writes the calls of tools in a row.
    `members` are the data sets that are needed of each archive.
    """

    base: Path = Path()
    data_dir: Path | None = None
    chat: ChatTemplate | None = None
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class RawRows:
    """The rows of one source, as its columns have them. `order`: in which order they are read (None: as they stand)."""

    label: str
    rows: Sequence[Row]
    where: Callable[[int], str]
    order: Sequence[int] | None = None

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        return ((number, self.rows[number]) for number in self.order or range(len(self.rows)))


Reader = Callable[[Source, Part, int | None, Places], RawRows]

_with_groups: OncePerRows[Sequence[Row]] = OncePerRows(8)


class Read(NamedTuple):
    """The rows of one source with the source that gave them, and a line on each that was not available."""

    source: Source
    raw: RawRows
    passed_over: tuple[str, ...] = ()


def read_source(source: Source, part: Part, size: int | None, places: Places) -> Read:
    """The rows of one part of a data set, at least one. `size` rows are needed (None: all there are).

    Raises SourceUnavailable where no source is available.
    """
    if not source.first_of:
        reader = next(own for kind, own in READERS.items() if getattr(source, kind))
        return Read(source, _share(_matched(reader(source, part, size, places), source.patterns), source))
    reasons: list[str] = []
    for one in source.first_of:
        try:
            read = read_source(one, part, size, places)
        except SourceUnavailable as error:
            reasons.append(str(error))
        else:
            return read._replace(passed_over=(*(f"not from {reason}" for reason in reasons), *read.passed_over))
    raise SourceUnavailable("no source is available: " + "; ".join(reasons))


def read_part(name: str, part: Part, source: Source, size: int | None, places: Places) -> Read:
    """`read_source` for a part of the data set `name`, which the error names."""
    try:
        return read_source(source, part, size, places)
    except SourceUnavailable as error:
        what = str(error) if source.first_of else f"no source is available: {error}"
        raise SourceUnavailable(what, where=f"datasets.{name}.{part}") from None


def _matched(raw: RawRows, patterns: Mapping[str, str]) -> RawRows:
    """The rows with a column for each named group. Raises DataError for a row that does not match."""
    if not patterns:
        return raw
    return replace(raw, rows=_with_groups.get((raw.rows,), tuple(patterns.items()), lambda: _groups_of(raw, patterns)))


def _groups_of(raw: RawRows, patterns: Mapping[str, str]) -> Sequence[Row]:
    compiled = {column: re.compile(pattern, re.DOTALL) for column, pattern in patterns.items()}
    rows = []
    for number, row in enumerate(raw.rows):
        groups: dict[str, str] = {}
        for column, pattern in compiled.items():
            where = raw.where(number)
            found = pattern.fullmatch(as_text(cell(row, column, where), column, where))
            if found is None:
                raise DataError(f"the column {column!r} does not match the source's pattern", where=where)
            groups |= found.groupdict(default="")
        rows.append({**row, **groups})
    return rows


def _share(raw: RawRows, source: Source) -> RawRows:
    """The rows of the part that the source names, in their seeded order."""
    if source.share is None:
        return raw
    order = order_of(raw.rows, source.share, source.target, raw.label)
    return replace(raw, label=f"{raw.label}, {' and '.join(source.share.part)} rows", order=order)


def members_of(specs: Iterable[DatasetSpec]) -> dict[str, tuple[str, ...]]:
    """The data sets that are needed of each archive."""
    found: dict[str, dict[str, None]] = {}
    for spec in specs:
        for source in (*spec.train, *spec.test, *spec.demos):
            for leaf in source.leaves():
                if leaf.archive and leaf.member:
                    found.setdefault(leaf.archive, {})[leaf.member] = None
    return {package: tuple(members) for package, members in found.items()}


@cache
def _of_suites() -> Mapping[str, Sequence[str]]:
    """What the packaged suites need of each archive: kept of one download, so that another suite needs no second."""
    return members_of(spec for suite in SUITES for spec in load_suite(suite).datasets.values())


def fetch_archives(specs: Iterable[DatasetSpec], say: Say) -> None:
    """Fetch what these data sets need of archives, and say how far it is. A source that is not available is left to
    those who read it."""
    for package, members in members_of(specs).items():
        from . import archives

        with suppress(SourceUnavailable):
            archives.ensure(package, members, say, beside=_of_suites().get(package, ()))


def sources_of(name: str, part: Part, sources: Sequence[Source]) -> Sequence[Source]:
    """The sources of one part of a data set. Raises ExperimentError where there are none."""
    if not sources:
        what = f"data set {name!r} has no {'training' if part == 'train' else part} rows"
        raise ExperimentError(what, where=f"datasets.{name}.{part}", allowed="give a file or another source")
    return sources


def _file(source: Source, part: Part, size: int | None, places: Places) -> RawRows:
    table = open_table(places.base / Path(source.file or "").expanduser(), source.split)
    return RawRows(str(source), table.rows, table.where)


def _release(source: Source, part: Part, size: int | None, places: Places) -> RawRows:
    """The release's file for `size` rows: that of the smallest listed size which suffices."""
    if places.data_dir is None:
        raise SourceUnavailable("the study's release is not here", where=str(source), allowed="give --data-dir")
    folder, pattern = places.data_dir.expanduser(), source.release or ""
    names = [pattern.replace("{size}", str(listed)) for listed in sorted(source.sizes) if listed >= (size or 0)]
    if "{size}" not in pattern:
        names = [pattern]
    elif not names:
        what = f"holds at most {max(source.sizes, default=0)} rows, {size} were asked for"
        raise SourceUnavailable(what, where=str(source))
    elif size is None:  # all there is: the largest file that is there
        names = [name for name in reversed(names) if (folder / name).is_file()] or names[-1:]
    if not (folder / names[0]).is_file():
        what = f"no file {folder / names[0]}"
        raise SourceUnavailable(what, where=str(source), allowed="--data-dir is the study's release folder")
    table = open_table(folder / names[0])
    return RawRows(f"release:{Path(names[0]).as_posix()}", table.rows, table.where)


def _hub(source: Source, part: Part, size: int | None, places: Places) -> RawRows:
    split = read_hub(source)
    order = list(range(len(split.rows)))
    if not order:
        raise SourceUnavailable("the split holds no rows", where=str(source))
    Random(HUB_SEED).shuffle(order)
    commit = f"commit {split.commit}" if split.commit else "from the cache"
    label = f"{source}, split {source.split or 'train'}, {commit}"
    return RawRows(label, split.rows, lambda row: f"{source}, row {row}", order)


def _builtin(source: Source, part: Part, size: int | None, places: Places) -> RawRows:
    from .builtin.datasets import generate

    rows = [{**row.fields, "output": row.target} for row in generate(source.builtin or "", part, size)]
    return RawRows(str(source), rows, lambda row: f"{source}, row {row}")


def _archive(source: Source, part: Part, size: int | None, places: Places) -> RawRows:
    """One data set of an archive. What the packaged suites and the experiment need of it is fetched together."""
    from . import archives  # late: it imports requests

    package, member = source.archive or "", source.member or ""
    archives.ensure(package, {member, *places.members.get(package, ())}, beside=_of_suites().get(package, ()))
    return RawRows(str(source), archives.rows(package, member), lambda row: f"{source}, row {row}")


READERS: Mapping[str, Reader] = {
    "file": _file,
    "release": _release,
    "hub": _hub,
    "builtin": _builtin,
    "archive": _archive,
}
