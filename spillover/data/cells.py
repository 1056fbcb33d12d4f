"""Values of a row: the one in a column, and any of them as text.

A missing value is an error, an empty text is not. Text is what a tokenizer can read: no half characters, no lists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..errors import DataError, did_you_mean


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


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: null, no number, white space, an empty list or object."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return not value.strip() if isinstance(value, str) else isinstance(value, (list, dict)) and not value


def as_text(value: Any, column: str, where: str) -> str:
    """A value as text. Raises DataError for one that is missing or infinite, and for lists and objects."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DataError(f"column {column!r} has no value", where=where, allowed="an empty text is allowed, null is not")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isinf(value):
        raise DataError(f"column {column!r} holds an infinite number, or one beyond 64 bits", where=where)
    if isinstance(value, (list, dict, bytes)):
        kind = {list: "a list", dict: "an object", bytes: "bytes"}[type(value)]
        first = f"{column}.0 is its first item; for an answer, references: {column} takes all of them"
        inside = {list: first, dict: f"{column}.NAME is one of its values"}.get(type(value))
        raise DataError(f"column {column!r} holds {kind} where text is expected", where=where, allowed=inside)
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"column {column!r} holds half a character (a lone surrogate)", where=where) from None
    return text
