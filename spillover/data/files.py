"""Files into rows: JSONL, JSON, CSV, TSV and Parquet, one data set a file, in UTF-8. Nothing is guessed.

A row is a mapping of column names to values, as the file has them; `shapes.py` says what they mean. Rows are counted
from 0 in file order. A `Table` keeps the line on which each row begins: errors say `tickets.jsonl:17` where the format
has lines and `tickets.parquet, row 16` where it has none.

Each of these may be compressed (`packed.py`). A folder that `datasets.save_to_disk` wrote is read as well (`arrow.py`).
"""

from __future__ import annotations

import csv
import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ..errors import DataError
from .packed import PACKED, unpacked

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


def open_table(path: Path, split: str | None = None) -> Table:
    """The rows of a file, or of a split of a folder that `datasets.save_to_disk` wrote.

    Raises DataError where it is missing, of an unknown kind, malformed or empty. A file that has not changed is read
    once: do not write into its rows.
    """
    name = _shown(path)
    try:
        if not path.exists():
            raise _missing(path, name)
        if path.is_dir():
            table = _folder(path, name, split)
        elif split is not None:
            raise DataError(f"is a file and has no split {split!r}", where=name, allowed="leave out split")
        else:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise DataError("is a pipe or a device; a data set is a file", where=name, allowed=_SUFFIXES)
            if _kind(path) not in _READERS:
                raise DataError(f"unknown kind of file {_kind(path)!r}", where=name, allowed=_SUFFIXES)
            table = _read(path.resolve(), name, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=name) from None
    except MemoryError:
        raise DataError("does not fit into memory", where=name) from None
    if not table.rows:
        raise DataError("holds no rows", where=name)
    return table


def stem(path: Path) -> str:
    """The file's name without the endings that say how it is written: `tickets` for `tickets.jsonl.gz`."""
    name = path.name
    while (suffix := Path(name).suffix.lower()) in _READERS or suffix in PACKED:
        name = Path(name).stem
    return name


def _kind(path: Path) -> str:
    """The ending that says how the file is written, without that of its compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in PACKED), "") if suffixes else ""


@lru_cache(maxsize=64)
def _read(path: Path, name: str, mtime_ns: int, size: int) -> Table:
    # Time and size are part of the key: a file that was edited is read again.
    rows, lines = _READERS[_kind(path)](path, name)
    return Table(name, rows, lines)


def _folder(path: Path, name: str, split: str | None) -> Table:
    from .arrow import read_saved, saved_files

    files = saved_files(path, name, split)
    if files is None:
        what = "is a folder; a data set is one file, or a folder that datasets' save_to_disk wrote"
        raise DataError(what, where=name, allowed=_SUFFIXES)
    found = [file.stat() for file in files]
    newest, size = max(one.st_mtime_ns for one in found), sum(one.st_size for one in found)
    rows = read_saved(files, name, newest, size)
    return Table(f"{name}, split {split}" if split else name, rows, [])


def _shown(path: Path) -> str:
    """The path as a user would write it: relative if it lies below the working directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError, RuntimeError):  # not below it; a loop of links
        return str(path)


def _missing(path: Path, name: str) -> DataError:
    if not path.parent.is_dir():
        return DataError(f"no such file, and no folder {_shown(path.parent)}", where=name)
    siblings = [entry.name for entry in path.parent.iterdir() if _kind(entry) in _READERS]
    near = get_close_matches(path.name, siblings, n=1, cutoff=0.5)
    return DataError("no such file", where=name, allowed=f"did you mean {near[0]!r}?" if near else None)


# --- text -----------------------------------------------------------------------------------------

_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def _text(path: Path, name: str) -> str:
    raw = unpacked(path, name)
    if encoding := _WIDE.get(raw[:2]):
        raise DataError(f"is {encoding} text", where=name, allowed="save the file as UTF-8")
    body = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text: byte 0x{body[error.start]:02x}"
        where = f"{name}:{_line(body, error.start)}"
        raise DataError(what, where=where, allowed="save the file as UTF-8") from None
    if (nul := body.find(0)) >= 0:
        where = f"{name}:{_line(body, nul)}"
        raise DataError("holds a NUL byte, which no text has", where=where, allowed="save the file as UTF-8")
    return text


def _line(body: bytes, at: int) -> int:
    return body.count(b"\n", 0, at) + 1


def _object(value: Any, where: str) -> Row:
    if isinstance(value, dict):
        if odd := next((name for name in value if not name.isascii() and not _is_text(name)), None):
            raise DataError(f"the name of column {odd!r} holds half a character (a lone surrogate)", where=where)
        return value
    kinds: dict[type, str] = {list: "a list", str: "a text", bool: "a truth value", int: "a number", float: "a number"}
    kind = kinds.get(type(value), "null")
    raise DataError(f"a row must be an object with named columns, this is {kind}", where=where)


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


class _Twice(ValueError):
    """A name that stands twice in one object."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


_JSON = json.JSONDecoder(object_pairs_hook=_pairs)


def _json(text: str, where: Callable[[int | None], str]) -> Any:
    """The value of a JSON text. Raises DataError with `where` of the wrong line, or of None if that is unknown."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        # "Extra data" after a whole object is what one object a line looks like.
        hint = "one object a line is JSONL: name it .jsonl" if error.msg == "Extra data" and "\n" in text else None
        column = f" at column {error.colno}" if "\n" not in text else ""
        raise DataError(f"not valid JSON: {error.msg}{column}", where=where(error.lineno), allowed=hint) from None
    except RecursionError:
        raise DataError("not valid JSON: lists or objects are nested too deeply", where=where(None)) from None
    except _Twice as error:
        raise DataError(f"column {str(error)!r} stands twice in one object", where=where(None)) from None
    except ValueError:  # int() refuses thousands of digits
        raise DataError("not valid JSON: a number of thousands of digits", where=where(None)) from None


def _read_jsonl(path: Path, name: str) -> tuple[list[Row], list[int]]:
    rows, lines = [], []
    # Only "\n" ends a line: JSON may hold U+2028 and the like inside a text, where str.splitlines would cut.
    for number, line in enumerate(_text(path, name).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        rows.append(_object(_json(line, partial(_same, where)), where))
        lines.append(number)
    return rows, lines


def _same(where: str, _: int | None) -> str:
    return where


def _read_json(path: Path, name: str) -> tuple[list[Row], list[int]]:
    text = _text(path, name)
    value = _json(text, lambda line: f"{name}:{line}" if line else name) if text.strip() else []
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
                    refuse_twice(cells, f"{name}:{line}")
                    continue
                if len(cells) != len(header):
                    raise DataError(f"{len(cells)} cells under {len(header)} column names", where=f"{name}:{line}")
                rows.append(dict(zip(header, cells, strict=True)))
                lines.append(line)
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", where=f"{name}:{begins}") from None
    return rows, lines


def refuse_twice(columns: list[str], where: str) -> None:
    """Raises DataError where two columns have one name."""
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise DataError(f"column {twice!r} stands twice in the header", where=where)


@contextmanager
def _long_cells() -> Iterator[None]:
    # The csv module refuses cells above 128 KiB; articles are longer.
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_parquet(path: Path, name: str) -> tuple[list[Row], list[int]]:
    from .arrow import read_parquet

    return read_parquet(unpacked(path, name) if path.suffix.lower() in PACKED else path, name), []


_READERS: dict[str, Callable[[Path, str], tuple[list[Row], list[int]]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": partial(_read_csv, delimiter="\t"),
    ".parquet": _read_parquet,
}
_SUFFIXES = "allowed: " + ", ".join(_READERS) + "; each also compressed, with " + ", ".join(PACKED)
