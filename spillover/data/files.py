"""Reads files into rows: JSONL, JSON, CSV, TSV and Parquet, one data set a file, in UTF-8. Nothing is guessed.

A row is a mapping of column names to values, as the file has them; `shapes.py` says what they mean. Rows are counted
from 0 in file order, and that number is the row's `doc_id` in every later result. A `Table` keeps the line on which
each row begins: errors say `tickets.jsonl:17` where the format has lines and `tickets.parquet, row 16` where it has
none.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import DataError

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file. `lines` has the line on which each row begins; it is empty for Parquet and JSON."""

    name: str
    rows: list[Row]
    lines: list[int]

    def where(self, row: int) -> str:
        """Where row number `row` stands, for an error."""
        return f"{self.name}:{self.lines[row]}" if self.lines else f"{self.name}, row {row}"


def open_table(path: Path) -> Table:
    """The rows of a file. Raises DataError where it is missing, of an unknown kind, malformed or empty.

    A file that has not changed is read once: do not write into its rows.
    """
    name = _shown(path)
    if not path.exists():
        raise _missing(path, name)
    if path.is_dir():
        raise DataError("is a folder; a data set is one file", where=name, allowed=_SUFFIXES)
    if path.suffix.lower() not in _READERS:
        raise DataError(f"unknown kind of file {path.suffix!r}", where=name, allowed=_SUFFIXES)
    try:
        stat = path.stat()
        table = _read(path.resolve(), name, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=name) from None
    if not table.rows:
        raise DataError("holds no rows", where=name)
    return table


@lru_cache(maxsize=64)
def _read(path: Path, name: str, mtime_ns: int, size: int) -> Table:
    # Time and size are part of the key: a file that was edited is read again.
    rows, lines = _READERS[path.suffix.lower()](path, name)
    return Table(name, rows, lines)


def _shown(path: Path) -> str:
    """The path as a user would write it: relative if it lies below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _missing(path: Path, name: str) -> DataError:
    if not path.parent.is_dir():
        return DataError(f"no such file, and no folder {_shown(path.parent)}", where=name)
    siblings = [entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in _READERS]
    near = get_close_matches(path.name, siblings, n=1, cutoff=0.5)
    return DataError("no such file", where=name, allowed=f"did you mean {near[0]!r}?" if near else None)


def _text(path: Path, name: str) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The decoder counts from behind the byte order mark.
        body = raw.removeprefix(b"\xef\xbb\xbf")
        line = body.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8 text: byte 0x{body[error.start]:02x}"
        raise DataError(what, where=f"{name}:{line}", allowed="save the file as UTF-8") from None


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        return value
    kinds: dict[type, str] = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    kind = kinds.get(type(value), "null")
    raise DataError(f"a row must be an object with named columns, this is {kind}", where=where)


def _read_jsonl(path: Path, name: str) -> tuple[list[Row], list[int]]:
    rows, lines = [], []
    # Only "\n" ends a line: JSON may hold U+2028 and the like inside a text, where str.splitlines would cut.
    for number, line in enumerate(_text(path, name).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"not valid JSON: {error.msg} at column {error.colno}", where=where) from None
        rows.append(_object(value, where))
        lines.append(number)
    return rows, lines


def _read_json(path: Path, name: str) -> tuple[list[Row], list[int]]:
    try:
        value = json.loads(_text(path, name).strip() or "[]")
    except json.JSONDecodeError as error:
        # "Extra data" after a whole object is what one object a line looks like.
        hint = "one object a line is JSONL: name it .jsonl" if error.msg == "Extra data" else None
        raise DataError(f"not valid JSON: {error.msg}", where=f"{name}:{error.lineno}", allowed=hint) from None
    if not isinstance(value, list):
        raise DataError("must hold a list of objects", where=name)
    return [_object(row, f"{name}, row {number}") for number, row in enumerate(value)], []


def _read_csv(path: Path, name: str, delimiter: str = ",") -> tuple[list[Row], list[int]]:
    rows: list[Row] = []
    lines: list[int] = []
    # strict: an unclosed quote is an error; without it, it would swallow the rest of the file as one cell.
    reader = csv.reader(io.StringIO(_text(path, name), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    begins = 1
    try:
        with _long_cells():
            for cells in reader:
                line, begins = begins, reader.line_num + 1  # a quoted cell may span several lines
                if not cells:
                    continue
                if not header:
                    header = cells
                    if twice := [cell for cell in cells if cells.count(cell) > 1]:
                        raise DataError(f"column {twice[0]!r} stands twice in the header", where=f"{name}:{line}")
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{len(cells)} cells under {len(header)} column names", where=f"{name}:{line}")
                rows.append(dict(zip(header, cells, strict=True)))
                lines.append(line)
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", where=f"{name}:{begins}") from None
    return rows, lines


@contextmanager
def _long_cells() -> Iterator[None]:
    # The csv module refuses cells above 128 KiB; articles are longer.
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(path: Path, name: str) -> tuple[list[Row], list[int]]:
    import pyarrow
    from pyarrow import parquet

    try:
        # ParquetFile, not read_table: the latter makes columns of folder names such as `day=monday`.
        with parquet.ParquetFile(path) as handle:
            return handle.read().to_pylist(), []
    except pyarrow.ArrowException as error:
        raise DataError(f"not valid Parquet: {str(error).splitlines()[0]}", where=name) from None


_READERS: dict[str, Callable[[Path, str], tuple[list[Row], list[int]]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".parquet": _read_parquet,
}
_SUFFIXES = "allowed: " + ", ".join(_READERS)
