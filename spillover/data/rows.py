"""What the readers return: rows of a task, with their source and what was left out.

`notes` say what was done to the rows. `lacking` says what was requested and is missing, which limits what the results
can show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..text.task import Example, Task

Part = Literal["train", "test", "demos"]


@dataclass(frozen=True)
class TrainSet:
    """Training rows. `size` is the requested number (None: all), `len(examples)` the number found."""

    name: str
    task: Task
    size: int | None
    examples: tuple[Example, ...]
    source: str
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """Test rows in file order, and the set's own list of demonstrations (empty where it has none)."""

    __test__ = False  # tells pytest that this is no test case

    name: str
    task: Task
    title: str
    examples: tuple[Example, ...]
    demos: tuple[Example, ...]
    source: str
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
