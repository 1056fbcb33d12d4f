"""A scored experiment and the look-ups in it: variants, cells, rows, means. `table.load` makes one from a folder."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ..experiment.suite import Role
from ..plan.grid import Cell, Condition, Grid, TestInfo, Use, Variant
from .choices import Choice
from .rows import RowStatistics
from .scoring import Clusters, cluster_codes

ROLES: tuple[Role, ...] = ("in_domain", "out_of_domain", "cross_task")
ROLE_TITLES: Mapping[Role | None, str] = {
    "in_domain": "in-domain",
    "out_of_domain": "out-of-domain",
    "cross_task": "cross-task",
    None: "",
}

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Cost:
    """What a trained variant costs: an adapter or whole weights, the seconds of its training, the bytes of its weights
    (None if they were not kept). Of what is made of trained weights, the seconds of all these trainings count too."""

    adapter: bool
    seconds: float | None
    bytes: int | None


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by their key; keys and items keep their order."""
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


@dataclass(frozen=True, eq=False)
class Results:
    """A scored experiment.

    By cell key, `first_metric` has the rows of each cell's first metric, and `digests` the hash of its predictions.
    `rounding` has, where answers were rounded, what that changes in some of a cell's rows (`rows.ROUNDING`).
    `ended` has, for free text, how each answer ended (`rows.ENDED`).
    `clusters` has, by test set, the component of each document that depends on others, if an audit found some.
    `nearly_base` has, by variant key, how little those differ from the base that hardly do.
    `leaked` has, by training set and test set, the documents that leak, if an audit found some.
    `earlier` are the keys of variants that only an earlier form of the experiment had (`earlier`).
    `checkpoints` has, by variant key, the path inside the folder of each trained variant's weights, if they were kept.
    `costs` has, by variant key, what each trained variant costs. `answers` reads a cell's answers, by key; none where
    they are not stored. `folder` is where all of this was read.
    `choices` are those made on validation rows, and those that are awaited: the variants of `grid` are the chosen ones.
    `best_uses` has, for `deploy: best`, how a recipe is asked best on the validation rows of a training set.
    """

    grid: Grid
    df: pd.DataFrame
    missing: tuple[Cell, ...]
    receipts: Mapping[str, dict[str, Any]]
    first_metric: Mapping[str, RowStatistics] = field(repr=False)
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    rounding: Mapping[str, RowStatistics] = field(default_factory=dict, repr=False, kw_only=True)
    ended: Mapping[str, RowStatistics] = field(default_factory=dict, repr=False, kw_only=True)
    nearly_base: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    clusters: Mapping[str, Clusters] = field(default_factory=dict, repr=False, kw_only=True)
    leaked: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict, repr=False, kw_only=True)
    earlier: frozenset[str] = field(default=frozenset(), repr=False, kw_only=True)
    checkpoints: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    costs: Mapping[str, Cost] = field(default_factory=dict, repr=False, kw_only=True)
    answers: Callable[[str], Sequence[Mapping[str, Any]]] = field(default=lambda key: (), repr=False, kw_only=True)
    folder: Path | None = field(default=None, kw_only=True)
    choices: Sequence[Choice] = field(default=(), repr=False, kw_only=True)
    best_uses: Mapping[tuple[str, str], Use] = field(default_factory=dict, repr=False, kw_only=True)

    @cached_property
    def variants(self) -> Mapping[str, Variant]:
        """Variants by key; a cell may name its variant by either key or name."""
        return {v.name: v for v in self.grid.variants} | {v.key: v for v in self.grid.variants}

    @cached_property
    def variant_numbers(self) -> Mapping[str, int]:
        """The place of each variant in the grid, by key or name."""
        numbered = list(enumerate(self.grid.variants))
        return {v.name: number for number, v in numbered} | {v.key: number for number, v in numbered}

    @cached_property
    def recipes(self) -> Mapping[str, tuple[Variant, ...]]:
        """The variants of each recipe, which differ in the seed alone."""
        found = grouped(self.grid.variants, lambda variant: variant.recipe_key)
        return {key: tuple(variants) for key, variants in found.items()}

    @cached_property
    def nulls(self) -> frozenset[str]:
        """The random changes, by recipe key and by name."""
        arms = [(key, arm) for key, arm in self.recipes.items() if arm[0].is_null]
        return frozenset(name for key, arm in arms for name in (key, recipe_name(arm), *(one.name for one in arm)))

    @cached_property
    def _by_variant(self) -> Mapping[str, Sequence[Cell]]:
        return grouped(self.grid.cells, lambda cell: self.variants[cell.variant].key)

    def cells_of(self, variants: Iterable[Variant], role: Role | None = None) -> list[Cell]:
        """The planned cells of some variants, at one `role` or at all."""
        found = [cell for variant in variants for cell in self._by_variant.get(variant.key, ())]
        return [cell for cell in found if role in (None, cell.role)]

    @cached_property
    def cells_of_base(self) -> list[Cell]:
        return self.cells_of([self.base]) if self.base else []

    @cached_property
    def tests(self) -> Mapping[str, TestInfo]:
        return {t.name: t for t in self.grid.tests}

    @cached_property
    def base(self) -> Variant | None:
        return next((v for v in self.grid.variants if v.kind == "base"), None)

    @cached_property
    def places(self) -> Mapping[tuple[str, Condition], str]:
        """The cell's key by its variant's key and condition."""
        return {(self.variants[cell.variant].key, cell.condition): cell.key for cell in self.grid.cells}

    @cached_property
    def means(self) -> Mapping[str, float]:
        """The score of each finished cell by its test set's first metric, by key."""
        return {key: float(rows.statistics[:, 0].mean()) for key, rows in self.first_metric.items()}

    @cached_property
    def clean(self) -> Results:
        """The same without the rows that leak from the training set of the variant that answers them.

        A change compares the documents that both sides have, so the base is compared without them too. A cell of which
        every row leaks counts as one that has not run. This table is that of all rows.
        """
        kept = dict(self.first_metric)
        for cell in self.grid.cells:
            gone = self.leaked.get(self.variants[cell.variant].train_dataset or "", {}).get(cell.test)
            if gone and (rows := self.first_metric.get(cell.key)) is not None:
                clean = rows.doc_ids[~np.isin(rows.doc_ids, gone)]
                kept[cell.key] = rows.only(clean)
                if not len(clean):
                    del kept[cell.key]
        lost = any(kept.get(key) is not rows for key, rows in self.first_metric.items())
        return replace(self, first_metric=kept) if lost else self

    @cached_property
    def without_texts(self) -> frozenset[str]:
        """The keys of the finished cells that were imported as scores, without texts."""
        return frozenset(key for key in self.first_metric if "without_texts" in self.receipts.get(key, {}))

    @cached_property
    def rounded_rows(self) -> Mapping[str, tuple[float, float]]:
        """By test set with rounded answers: how many rows' changes are known, and the sum of the squares of these.

        How much rounding changes depends on texts more than on variants, so all cells of a test set count together.
        """
        sums: dict[str, np.ndarray] = {}
        for cell in self.grid.cells:
            if (rows := self.rounding.get(cell.key)) is not None:
                sums[cell.test] = sums.get(cell.test, np.zeros(2)) + rows.statistics.sum(axis=0)
        return {test: (float(known), float(squares)) for test, (known, squares) in sums.items()}

    def cluster_codes(self, test: str, doc_ids: np.ndarray) -> np.ndarray | None:
        """The cluster of each document, numbered from 0; None if all are independent."""
        return cluster_codes(self.clusters.get(test, {}), doc_ids)


def recipe_name(variants: Sequence[Variant]) -> str:
    """The name of one variant; of several, that without the seed at its end."""
    first = variants[0]
    return first.name if len(variants) == 1 else first.name.removesuffix(f"-s{first.seed}")
