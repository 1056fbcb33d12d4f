"""Rows of Apache Arrow: Parquet files, and folders that `datasets.save_to_disk` wrote.

Such a folder holds Arrow files, and a `state.json` that lists them. A folder with several splits holds a
`dataset_dict.json`, and a folder for each split. pyarrow is imported here only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pyarrow

Rows = list[dict[str, Any]]

STATE, SPLITS = "state.json", "dataset_dict.json"


def read_parquet(source: Path | bytes, name: str) -> Rows:
    """The rows of a Parquet file, or of its bytes. Raises DataError."""
    import pyarrow
    from pyarrow import parquet

    try:
        # ParquetFile, not read_table: the latter makes columns of folder names such as `day=monday`.
        with parquet.ParquetFile(source if isinstance(source, Path) else pyarrow.BufferReader(source)) as handle:
            table = handle.read()
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        raise DataError(f"not valid Parquet: {_first_line(error)}", where=name) from None
    return _rows(table, name)


def saved_files(folder: Path, name: str, split: str | None) -> tuple[Path, ...] | None:
    """The Arrow files of a folder that `datasets` saved, or None where it is no such folder. Raises DataError."""
    if (folder / SPLITS).is_file():
        splits = _listed(folder / SPLITS, "splits", f"{name}/{SPLITS}")
        if split is None and len(splits) > 1:
            allowed = f"say which with split: {', '.join(splits)}; or name the folder of one"
            raise DataError("holds several splits", where=name, allowed=allowed)
        if split is not None and split not in splits:
            raise DataError(f"has no split {split!r}", where=name, allowed=did_you_mean(split, splits))
        chosen = split or splits[0]
        folder, name = folder / Path(chosen).name, f"{name}, split {chosen}"
    elif split is not None and (folder / STATE).is_file():
        raise DataError(f"has no split {split!r}, it holds one", where=name, allowed="leave out split")
    if not (folder / STATE).is_file():
        return None
    files = tuple(folder / Path(file).name for file in _listed(folder / STATE, "_data_files", f"{name}/{STATE}"))
    if missing := next((file for file in files if not file.is_file()), None):
        raise DataError(f"lacks the file {missing.name}", where=name, allowed="save the data set again")
    return files


@lru_cache(maxsize=16)
def read_saved(files: Sequence[Path], name: str, mtime_ns: int, size: int) -> Rows:
    """The rows of Arrow files. Time and size are part of the key: files that were written again are read again."""
    import pyarrow

    rows: Rows = []
    for file in files:
        try:
            with pyarrow.OSFile(str(file)) as handle:
                table = pyarrow.ipc.open_stream(handle).read_all()
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            raise DataError(f"not valid Arrow: {_first_line(error)}", where=f"{name}/{file.name}") from None
        rows += _rows(table, name)
    return rows


def _listed(path: Path, key: str, where: str) -> list[str]:
    """The names that a JSON file of `datasets` lists below a key."""
    try:
        value = json.loads(path.read_text("utf-8"))
        items = value[key]
        names = [item["filename"] if isinstance(item, dict) else item for item in items]
    except (ValueError, LookupError, TypeError, RecursionError):
        names = []
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"lists no {key.strip('_').replace('_', ' ')}", where=where, allowed="save the data set again")
    return names


def _rows(table: pyarrow.Table, name: str) -> Rows:
    """A table as rows. Raises DataError for two columns of one name, and for a value that Python cannot hold."""
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        raise DataError(f"two columns are called {twice!r}", where=name, allowed="each name once")
    values = [_column(table.column(place), column, name) for place, column in enumerate(names)]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*values, strict=True)]


def _column(column: pyarrow.ChunkedArray, named: str, name: str) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, TypeError, KeyError):  # a date beyond the year 9999, text that is not UTF-8
        return [_value(value, named, f"{name}, row {row}") for row, value in enumerate(column)]


def _value(value: Any, named: str, where: str) -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError, TypeError, KeyError) as error:
        what = f"column {named!r} holds a value of the type {value.type} that cannot be read: {_first_line(error)}"
        raise DataError(what, where=where) from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
