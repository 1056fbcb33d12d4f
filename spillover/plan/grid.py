"""The two nouns everything turns around: a `Variant` of the model and a `Cell` of the grid.

A cell is one variant on one test set at one shot count in one prompt format with one draw of the
demonstrations. Both carry a key, which is their identity by content (`spillover.plan.plan` computes it), and the
plain facts a table shows. `Grid` is the pair of lists with what a reader of results must
know about tasks, test sets and what was found odd in them (each a `Finding`); it is stored as `grid.json` in the
output folder, so that a report is made without reading data or model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..disk import write_whole
from ..errors import Finding
from ..experiment.suite import Role

VariantKind = Literal["base", "trained", "path"]
Recipe = tuple[str | int | float | None, ...]


@dataclass(frozen=True)
class Variant:
    """The base model, a model trained here (`trained`), or an existing checkpoint or adapter (`path`)."""

    key: str
    name: str
    kind: VariantKind
    strategy: str | None = None
    train_dataset: str | None = None
    train_task: str | None = None
    train_size: int | None = None
    train_shots: int | None = None
    learning_rate: float | None = None
    seed: int | None = None

    @property
    def recipe(self) -> Recipe:
        """What trainings with other seeds have in common. What was not trained here is a recipe of its own."""
        if self.kind != "trained":
            return (self.key,)
        return self.strategy, self.train_dataset, self.train_size, self.train_shots, self.learning_rate


@dataclass(frozen=True)
class Cell:
    """One variant x test set x shots x prompt format x draw. `n` rows are scored; `role` is None for the base."""

    key: str
    variant: str
    test_dataset: str
    task: str
    role: Role | None
    shots: int
    prompt: str
    draw: int
    n: int

    def __hash__(self) -> int:
        """The key says all; a report of thousands of cells looks them up millions of times."""
        return hash(self.key)


@dataclass(frozen=True)
class TestInfo:
    """What a table says of a test set. `excluded` rows are demonstrations too and are not scored."""

    __test__ = False

    name: str
    title: str
    task: str
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    source: str
    n: int
    excluded: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A whole experiment as a table knows it. `warnings` are what the plan found, notes among them."""

    model: str
    protocol: str
    variants: tuple[Variant, ...]
    cells: tuple[Cell, ...]
    tests: tuple[TestInfo, ...]
    labels_of_train_task: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()

    def labels_for(self, test: TestInfo) -> tuple[str, ...]:
        """The labels that scores of a test set must know: its own, or for free text those of every task here.

        A model that has learned to classify may answer anything with a label; see `off_format` in `metrics`.
        """
        if test.labels:
            return test.labels
        every = [*(other.labels or () for other in self.tests), *self.labels_of_train_task.values()]
        return tuple(dict.fromkeys(label for labels in every for label in labels))

    def write(self, path: Path) -> None:
        """Replace the file as a whole: a killed run leaves the old grid or the new one."""
        write_whole(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Grid:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        tests = [
            TestInfo(
                **{
                    **t,
                    "labels": t["labels"] and tuple(t["labels"]),
                    "metrics": tuple(t["metrics"]),
                    "notes": tuple(t["notes"]),
                }
            )
            for t in raw["tests"]
        ]
        return cls(
            model=raw["model"],
            protocol=raw["protocol"],
            variants=tuple(Variant(**v) for v in raw["variants"]),
            cells=tuple(Cell(**c) for c in raw["cells"]),
            tests=tuple(tests),
            labels_of_train_task={k: tuple(v) for k, v in raw["labels_of_train_task"].items()},
            warnings=tuple(Finding(**w) for w in raw["warnings"]),
        )
