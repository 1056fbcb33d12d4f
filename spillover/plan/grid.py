"""The nouns of an experiment: a `Variant` of the model, a `Condition` in which it is tested, and the `Cell` of both.

Variants and cells carry a key, which is their identity by content (`plan.plan` computes it). `Grid` holds both lists
with what a reader of results must know about the test sets and what was found odd in them (each a `Finding`). The
store keeps it, so that a report is made without reading data or model.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ..errors import Finding
from ..experiment.factors import Value
from ..experiment.suite import Kind, Role

VariantKind = Literal["base", "trained", "existing"]


class Condition(NamedTuple):
    """How a test set is asked: its prompt format, the number of demonstrations, and which draw of them."""

    test: str
    prompt: str
    shots: int
    draw: int


class Use(NamedTuple):
    """How a model is asked: the number of demonstrations and the prompt format."""

    shots: int
    prompt: str

    @classmethod
    def of(cls, cell: Cell) -> Use:
        return cls(cell.shots, cell.prompt)

    def __str__(self) -> str:
        return f"{self.shots} {'shot' if self.shots == 1 else 'shots'}, {self.prompt}"


@dataclass(frozen=True)
class Deploy:
    """How the base and the variants will be asked once they are in use (the YAML's `deploy`)."""

    base: Use
    variant: Use


@dataclass(frozen=True)
class Variant:
    """The base model, a model trained here (`trained`), or a checkpoint or adapter from elsewhere (`existing`).

    `factors` say how it came to be (`experiment.factors`). `recipe_key` is the same for trainings that differ in their
    seed alone. `against` names the strategy that a trained variant is compared with. What is made of trained weights
    is `trained` too, and `made_from` are the keys of the variants whose weights these are. `choices` are those that it
    is a candidate of (`plan.choice`): it is asked validation rows, and the test sets only once it is chosen. `is_null`:
    it is a random change, with which others are compared, and never a candidate to be used.
    """

    key: str
    name: str
    kind: VariantKind
    factors: Mapping[str, Value] = field(default_factory=dict, hash=False)
    seed: int | None = None
    recipe_key: str = ""
    against: str | None = None
    made_from: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    is_null: bool = False

    def __post_init__(self) -> None:
        if not self.recipe_key:  # what was not trained here has no other seeds
            object.__setattr__(self, "recipe_key", self.key)

    @property
    def train_dataset(self) -> str | None:
        """The training set, where it is known: the roles of the test sets follow from it."""
        found = self.factors.get("train_dataset")
        return None if found is None else str(found)

    @property
    def strategy(self) -> str | None:
        found = self.factors.get("strategy")
        return None if found is None else str(found)


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant in one condition. `n` rows are scored; `role` is None for the base."""

    key: str
    variant: str
    condition: Condition
    task: str
    role: Role | None
    n: int

    def __hash__(self) -> int:
        """The key says all, and a report of thousands of cells looks them up millions of times."""
        return hash(self.key)

    @property
    def test(self) -> str:
        return self.condition.test

    @property
    def prompt(self) -> str:
        return self.condition.prompt

    @property
    def shots(self) -> int:
        return self.condition.shots

    @property
    def draw(self) -> int:
        return self.condition.draw


@dataclass(frozen=True)
class TestInfo:
    """What a table says of a test set. `excluded` rows are demonstrations too and are not scored.

    `chance` is the accuracy of random guesses: the mean over rows of 1 / number of options. None for free text.
    `stop` are the texts at which a generated answer is cut, if answers are free text.
    """

    __test__ = False

    name: str
    title: str
    task: str
    kind: Kind
    labels: tuple[str, ...] | None
    metrics: tuple[str, ...]
    source: str
    n: int
    excluded: int = 0
    notes: tuple[str, ...] = ()
    chance: float | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A whole experiment as a table knows it. `warnings` are what the plan found, notes among them.

    `helpers` are trained only because variants are made from them: they are not tested.

    `trained_prompt` is the prompt format of training samples. `deploy` and `keep` are what the verdict goes by, if the
    experiment says so: how the models will be asked, and the share of the base's score that has to be left outside.
    `validation` are the cells on validation rows, of the sets `validated`; what they decide is in no table of scores.
    """

    model: str
    protocol: str
    variants: tuple[Variant, ...]
    cells: tuple[Cell, ...]
    tests: tuple[TestInfo, ...]
    labels_of_train_task: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[Finding, ...] = ()
    trained_prompt: str = "p1"
    deploy: Deploy | Literal["best"] | None = None
    keep: float | None = None
    helpers: tuple[Variant, ...] = ()
    validation: tuple[Cell, ...] = ()
    validated: tuple[TestInfo, ...] = ()

    @property
    def made_here(self) -> list[Variant]:
        """The variants whose weights are made here, helpers among them."""
        return [variant for variant in (*self.variants, *self.helpers) if variant.kind == "trained"]

    @cached_property
    def every_cell(self) -> tuple[Cell, ...]:
        """The cells on validation rows, and those on test sets."""
        return (*self.validation, *self.cells)

    @cached_property
    def _of_variants(self) -> dict[str, tuple[dict[str, Cell], dict[str, Cell]]]:
        """By variant, its cells on validation rows and all of its cells, both by key."""
        found: dict[str, tuple[dict[str, Cell], dict[str, Cell]]] = {}
        for cells, kinds in ((self.validation, (0, 1)), (self.cells, (1,))):
            for cell in cells:
                of_variant = found.setdefault(cell.variant, ({}, {}))
                for kind in kinds:
                    of_variant[kind].setdefault(cell.key, cell)
        return found

    def cells_of(self, variant: str, unasked: Container[str] = ()) -> Mapping[str, Cell]:
        """The cells that are computed of a variant, by key: without those on test sets if it is among the `unasked`.

        Two test sets with the same rows share theirs: it is that of the first.
        """
        of_validation, every = self._of_variants.get(variant, ({}, {}))
        return of_validation if variant in unasked else every

    def asked(self, unasked: Container[str] = ()) -> dict[str, Cell]:
        """The cells that are computed, by key: two test sets with the same rows share theirs.

        `unasked` are the keys of variants that are not asked the test sets (`plan.choice`).
        """
        tested = (cell for cell in self.cells if cell.variant not in unasked)
        return {cell.key: cell for cell in (*self.validation, *tested)}

    @property
    def size(self) -> int:
        """The number of cells that are named."""
        return len(self.asked())

    def labels_for(self, test: TestInfo) -> tuple[str, ...]:
        """The labels that scores of a test set must know: its own, or for free text those of every task here.

        A model that has learned to classify may answer anything with a label; see `off_format` in `metrics`.
        """
        if test.labels is not None:
            return test.labels
        if test.kind == "multiple_choice":  # the options stand in the rows
            return ()
        every = [*(other.labels or () for other in self.tests), *self.labels_of_train_task.values()]
        return tuple(dict.fromkeys(label for labels in every for label in labels))

    def to_json(self) -> str:
        """As JSON, a cell a line: a million cells are written one by one."""
        few = asdict(replace(self, cells=(), validation=()))
        del few["cells"], few["validation"]
        lists = {name: ",\n".join(map(_line, getattr(self, name))) for name in ("cells", "validation")}
        parts = [json.dumps(few, indent=1, ensure_ascii=False).removesuffix("\n}")]
        parts += [f' "{name}": [\n{lines}\n ]' for name, lines in lists.items()]
        return ",\n".join(parts) + "\n}\n"

    @classmethod
    def read(cls, content: bytes) -> Grid:
        """The grid that `to_json` wrote. Raises ValueError for anything else."""
        try:
            return TypeAdapter(cls).validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _line(cell: Cell) -> str:
    return json.dumps({one.name: getattr(cell, one.name) for one in fields(cell)}, ensure_ascii=False)
