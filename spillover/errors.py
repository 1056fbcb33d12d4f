"""Every error a user can meet, as one tree; and `Finding`, what a user should know although nothing fails.

A `SpilloverError` is something the user can mend: it carries one line that says what is wrong,
where (file, line or YAML path) and what is allowed. The command line prints that line and exits
with the class's `exit_code`; anything that is not a `SpilloverError` is a bug and keeps its traceback.

    SpilloverError             2   bad input of any kind
    ├── ExperimentError        2   the YAML: unknown key or value, impossible combination
    ├── DataError              2   a data file: missing, malformed, empty, wrong label
    │   └── SourceUnavailable  2   a data source that is not available (a warning where others remain)
    ├── ModelError             2   model, adapter or tokenizer: missing, gated, unsafe, too short
    │   └── BaseModelError     2   the base model, without which nothing can be computed
    ├── PromptError            2   prompts: too long, labels the tokenizer cannot tell apart
    ├── ClusterError           2   a cluster: not reachable, or a node that sees another folder or version
    └── StoreError             2   the output folder: other version, no disk
        └── StoreBusy          3   another run holds the folder, or another process the variant

`spillover gate` ends with the code of what it decided (`GATE_CODES`), which is no error.

Whatever the input holds, the line is short and safe to print: `visible` escapes control characters, `shortened` leaves
out the middle of a long text, and `shown` writes a value of the input with both.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Level = Literal["warning", "note"]
GATE_CODES = {"held": 0, "broken": 10, "insufficient evidence": 11}
"""The exit codes of `spillover gate` by what it decided."""
Say = Callable[[str], None]
"""Called with a line of text when something takes long."""

# What a terminal obeys or hides: control characters (ESC and BEL among them), line separators, changes of the writing
# direction, and halves of surrogate pairs, which no file can hold.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NAMED = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}
MOST_WHAT, MOST_WHERE, MOST_ALLOWED = 250, 120, 270  # characters of an error: about 650 in all

CALLED: dict[str, str] = {}
"""Folders that go by another name: the local copy of a store by its URL."""


def visible(text: str, keep: str = "") -> str:
    """The text with its control characters as escapes, such as `\\x1b`, except those in `keep`; and as `called`."""
    text = called(text)
    return CONTROL.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def called(text: str) -> str:
    """The text with the name of each store in place of its local copy's path."""
    for path, name in CALLED.items():
        text = text.replace(path, name)
    return text


def _escape(char: str) -> str:
    code = ord(char)
    return NAMED.get(char) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def shortened(text: str, most: int) -> str:
    """The text, or the beginning and the end of a long one, in at most `most` characters (100 or more)."""
    if len(text) <= most:
        return text
    half = (most - 36) // 2  # 36: for the note
    return f"{text[:half]} [{len(text) - 2 * half:,} characters left out] {text[-half:]}"


def shown(value: Any) -> str:
    """A value of the input as Python writes it, in one short line."""
    return shortened(visible(_BRIEFLY.repr(value)), 120)


_BRIEFLY = reprlib.Repr()
_BRIEFLY.fillvalue = " [left out] "
_BRIEFLY.maxlevel, _BRIEFLY.maxstring, _BRIEFLY.maxother, _BRIEFLY.maxlong = 3, 100, 100, 60


class SpilloverError(Exception):
    """Something the user can mend. `str(error)` is one line of a few hundred characters."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, allowed: str | None = None) -> None:
        self.what = _one_line(what, MOST_WHAT)
        self.where, self.allowed = where and _one_line(where, MOST_WHERE), allowed and _one_line(allowed, MOST_ALLOWED)
        line = f"{self.where}: {self.what}" if where else self.what
        super().__init__(f"{line} ({self.allowed})" if allowed else line)


def _one_line(text: str, most: int) -> str:
    return shortened(visible(re.sub(r"\s*[\r\n]\s*", " ", text.strip())), most)


class ExperimentError(SpilloverError):
    """The experiment or suite YAML is wrong."""


class DataError(SpilloverError):
    """A data file is missing, malformed, empty or contradicts its task."""


class SourceUnavailable(DataError):
    """A data source is not available here. Other data sets can go on without it."""


class ModelError(SpilloverError):
    """A model, adapter or tokenizer cannot be used."""


class BaseModelError(ModelError):
    """The base model cannot be used, so nothing can go on."""


class PromptError(SpilloverError):
    """A prompt cannot be scored as asked."""


class ClusterError(SpilloverError):
    """A cluster, or one of its nodes, cannot be used."""


class StoreError(SpilloverError):
    """The output folder cannot be used."""


class StoreBusy(StoreError):
    """Another run holds the output folder, or another process holds the variant."""

    exit_code = 3


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Say where an error of the block is, if the error does not know it."""
    try:
        yield
    except (DataError, PromptError) as error:
        if error.where:
            raise
        kind: type[DataError | PromptError] = DataError if isinstance(error, DataError) else PromptError
        raise kind(error.what, where=where, allowed=error.allowed) from None


@dataclass(frozen=True)
class Finding:
    """One fact about an experiment, in one line. `where` names the data set, prompt format, variant or folder.

    A `warning` says that something is missing from the results, or is in them although nobody asked for it. A `note`
    reports something harmless, or something that has been handled.
    """

    level: Level
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A clause for `allowed=`: the nearest valid word first, then all of them."""
    options = [str(c) for c in choices]
    near = get_close_matches(str(word)[:100], options, n=1, cutoff=0.5)
    listed = ", ".join(options) if options else "nothing"
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {listed}"
