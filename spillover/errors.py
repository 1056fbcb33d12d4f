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
    └── StoreError             2   the output folder: other version, no disk
        └── StoreBusy          3   another run holds the folder, or another process the variant
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Level = Literal["warning", "note"]


class SpilloverError(Exception):
    """Something the user can mend. `str(error)` is one line."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, allowed: str | None = None) -> None:
        self.what, self.where, self.allowed = what, where, allowed
        line = f"{where}: {what}" if where else what
        super().__init__(f"{line} ({allowed})" if allowed else line)


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


class StoreError(SpilloverError):
    """The output folder cannot be used."""


class StoreBusy(StoreError):
    """Another run holds the output folder, or another process holds the variant."""

    exit_code = 3


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
    near = get_close_matches(str(word), options, n=1, cutoff=0.5)
    listed = ", ".join(options) if options else "nothing"
    return (f"did you mean {near[0]!r}? " if near else "") + f"allowed: {listed}"
