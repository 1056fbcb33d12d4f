"""What the readers hand on: rows of a task, with where they came from and what was left out.

`notes` say what was done to the rows, `lacking` what was asked for and could not be had: the first a reader may know,
the second changes what the results can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..text.task import Example, Task

Part = Literal["train", "test", "demos"]


@dataclass(frozen=True)
class TrainSet:
    """Training rows. `size` is what was asked for (None: all), `len(examples)` what there was."""

    name: str
    task: Task
    size: int | None
    examples: tuple[Example, ...]
    source: str
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """Test rows in file order, and the set's own list of demonstrations (empty: it has none)."""

    __test__ = False  # not a test case, whatever pytest thinks of the name

    name: str
    task: Task
    title: str
    examples: tuple[Example, ...]
    demos: tuple[Example, ...]
    source: str
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
