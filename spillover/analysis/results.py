"""From an output folder to the results table, and from its rows to the few numbers a reader starts with.

`load` reads `grid.json` and what cells there are, and scores them: one row per cell and metric, each with its n, its
interval and its difference from the base on the same rows (`scoring`). Where the audit found test rows that leak from a
training set, what was trained on it has a second row, scored without them (`rows` is "clean"; `leaks`). Two summaries
lie above the table, both made of contrasts (`contrasts`). An entry of the `matrix` pools a variant's cells on one test
set, over shots, prompts and draws. A `RoleChange` is the mean change of a recipe over the test sets of one role, each
set counting the same. What stands together in a summary is corrected together.

Only the output folder is read: no data, no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from ..disk import write_whole
from ..errors import StoreError, did_you_mean
from ..experiment.protocol import Protocol
from ..experiment.suite import Role
from ..plan.grid import Cell, Grid, Recipe, TestInfo, Variant
from ..stats import Interval
from ..store.store import Store
from .clean_split import Audit, read_audit
from .contrasts import Effect, adjusted, difference
from .metrics import METRICS, Metric
from .rows import Rows, pool, read_rows
from .scoring import Clusters, cluster_codes, pooled_interval, score
from .uncertainty import Condition, condition

COLUMNS: Mapping[str, str] = {
    "model": "string",
    "variant": "string",
    "strategy": "string",
    "train_dataset": "string",
    "train_size": "Int64",
    "train_shots": "Int64",
    "learning_rate": "Float64",
    "seed": "Int64",
    "protocol": "string",
    "test_dataset": "string",
    "task": "string",
    "role": "string",
    "shots": "Int64",
    "prompt": "string",
    "draw": "Int64",
    "metric": "string",
    "value": "float64",
    "n": "Int64",
    "ci_low": "float64",
    "ci_high": "float64",
    "delta": "float64",
    "delta_ci_low": "float64",
    "delta_ci_high": "float64",
    "p_value": "float64",
    "rows": "string",
}
ROLES: tuple[Role, ...] = ("in_domain", "out_of_domain", "cross_task")
ROLE_TITLES: Mapping[Role | None, str] = {
    "in_domain": "in-domain",
    "out_of_domain": "out-of-domain",
    "cross_task": "cross-task",
    None: "",
}


@dataclass(frozen=True, eq=False)
class Results:
    """A scored experiment. `first_metric` keeps, by cell key, the rows of each cell's first metric, for pooling;
    `digests` the hash of each cell's predictions.

    `clusters` says of a test set's documents which hang together, by their component, where an audit found some.
    """

    grid: Grid
    df: pd.DataFrame
    missing: tuple[Cell, ...]
    receipts: Mapping[str, dict[str, Any]]
    first_metric: Mapping[str, Rows] = field(repr=False)
    digests: Mapping[str, str] = field(default_factory=dict, repr=False, kw_only=True)
    clusters: Mapping[str, Clusters] = field(default_factory=dict, repr=False, kw_only=True)

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
    def recipes(self) -> Mapping[Recipe, tuple[Variant, ...]]:
        """Variants by what they share but for the seed."""
        found: dict[Recipe, list[Variant]] = {}
        for variant in self.grid.variants:
            found.setdefault(variant.recipe, []).append(variant)
        return {key: tuple(variants) for key, variants in found.items()}

    @cached_property
    def _by_variant(self) -> Mapping[str, Sequence[Cell]]:
        """By the variant's key: found once, since every effect asks for some."""
        cells: dict[str, list[Cell]] = {}
        for cell in self.grid.cells:
            cells.setdefault(self.variants[cell.variant].key, []).append(cell)
        return cells

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
        """The cell's key by its variant's key and what it was asked."""
        return {(self.variants[cell.variant].key, condition(cell)): cell.key for cell in self.grid.cells}

    @cached_property
    def means(self) -> Mapping[str, float]:
        """The score of each finished cell by its test set's first metric, by key."""
        return {key: float(rows.statistics[:, 0].mean()) for key, rows in self.first_metric.items()}

    def cluster_codes(self, test: str, doc_ids: np.ndarray) -> np.ndarray | None:
        """The cluster of each document, numbered from 0; None where each stands alone."""
        return cluster_codes(self.clusters.get(test, {}), doc_ids)

    @cached_property
    def matrix(self) -> Mapping[tuple[str, str], MatrixEntry]:
        """The generalisation matrix, by variant name and test set; pairs without a finished cell are left out."""
        return {(entry.variant, entry.test): entry for entry in _together(list(_matrix(self)))}

    @cached_property
    def recipe_changes(self) -> Mapping[tuple[Recipe, Role], RoleChange]:
        """The mean change from the base by recipe, all its seeds together, and role."""
        return {(change.recipe, change.role): change for change in _together(list(_role_changes(self)))}


def recipe_name(variants: Sequence[Variant]) -> str:
    """The name of one variant; of several, that without the seed at its end."""
    first = variants[0]
    return first.name if len(variants) == 1 else first.name.removesuffix(f"-s{first.seed}")


# --- reading and scoring ----------------------------------------------------------------------------------------------


def load(folder: Path, rescore: bool = False) -> Results:
    """Read and score what is in an output folder. `rescore`: from the predictions, not from what is kept beside them.

    Raises StoreError where it holds no grid or a broken file.
    """
    if not (folder / "grid.json").is_file():
        raise StoreError("no grid.json: not an output folder, or a run that has not begun", where=str(folder))
    grid, store = Grid.read(folder / "grid.json"), Store(folder)
    audit, receipts = read_audit(folder / "audit.json"), _whole_cells(store, grid.cells)
    results = Results(grid, pd.DataFrame(), (), receipts, {}, clusters=audit.clusters)  # for its lookups only
    label_scoring = Protocol.named(grid.protocol).label_scoring
    records: list[dict[str, Any]] = []
    missing: list[Cell] = []
    first_metric: dict[str, Rows] = {}
    digests: dict[str, str] = {}
    for cells in _by_condition(grid.cells, results):
        test = results.tests[cells[0].test_dataset]
        metrics, labels = _metrics(test), grid.labels_for(test)
        done: dict[Cell, Mapping[str, Rows]] = {}
        for cell in cells:
            place = folder / "cells" / cell.key
            found = read_rows(place, metrics, labels, label_scoring, rescore) if cell.key in receipts else None
            if found is None:
                missing.append(cell)
            else:
                done[cell], digests[cell.key] = found.rows, found.digest
        first_metric |= {cell.key: rows[test.metrics[0]] for cell, rows in done.items()}
        records += _records(results, done, metrics, "all")
        records += _clean_records(results, done, metrics, audit)
    order = {v.name: i for i, v in enumerate(grid.variants)}
    records.sort(key=lambda r: order[r["variant"]])  # stable: conditions keep the grid's order
    df = pd.DataFrame(records, columns=list(COLUMNS)).astype(dict(COLUMNS))
    return replace(results, df=df, missing=tuple(missing), first_metric=first_metric, digests=digests)


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Rows as CSV, replaced as a whole."""
    write_whole(path, rows.to_csv(index=False, lineterminator="\n"))


def _by_condition(cells: Sequence[Cell], results: Results) -> Iterable[list[Cell]]:
    """Cells that are compared with each other, the base first: no more than one condition is held in memory."""
    order: dict[Condition, int] = {}
    for cell in cells:
        order.setdefault(condition(cell), len(order))
    ranked = sorted(cells, key=lambda c: (order[condition(c)], results.variants[c.variant].kind != "base"))
    for _, group in groupby(ranked, key=condition):
        yield list(group)


def _metrics(test: TestInfo) -> list[Metric]:
    unknown = [name for name in test.metrics if name not in METRICS]
    if unknown:
        raise StoreError(f"unknown metric {unknown[0]!r}", where="grid.json", allowed=did_you_mean(unknown[0], METRICS))
    return [METRICS[name] for name in test.metrics]


def _whole_cells(store: Store, cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """The receipts, by key, of the cells that are whole and were made with their variant's present weights."""
    trained = {key: store.variant_receipt(key) for key in {cell.variant for cell in cells}}
    receipts = {}
    for cell in cells:
        receipt, of_variant = store.cell_receipt(cell.key), trained[cell.variant]
        if receipt is not None and (of_variant is None or receipt.get("weights") == of_variant["weights"]):
            receipts[cell.key] = receipt
    return receipts


def _clean_records(
    results: Results, done: Mapping[Cell, Mapping[str, Rows]], metrics: Sequence[Metric], audit: Audit
) -> list[dict[str, Any]]:
    """The same of one condition without what leaks; rows without a value where nothing is left, or it is not known."""
    base: list[Cell] = []
    by_training: dict[str | None, list[Cell]] = {}
    for cell in done if audit.leaked is not None else ():
        variant = results.variants[cell.variant]
        (base if variant.kind == "base" else by_training.setdefault(variant.train_dataset, [])).append(cell)
    records: list[dict[str, Any]] = []
    for train_dataset, cells in by_training.items():
        gone = audit.leaking(train_dataset, cells[0].test_dataset)
        if gone is None:
            records += _unscored(results, cells, metrics, None)
        elif len(gone):
            kept = {cell: rows for cell in (*base, *cells) if (rows := _without(done[cell], gone)) is not None}
            records += _records(results, {cell: rows for cell, rows in kept.items() if rows}, metrics, "clean")
            records += _unscored(results, [cell for cell in cells if kept.get(cell) == {}], metrics, 0)
    return records


def _without(rows: Mapping[str, Rows], gone: np.ndarray) -> dict[str, Rows] | None:
    """A cell's rows without some documents: empty where none is left, None where all are."""
    doc_ids = next(iter(rows.values())).doc_ids
    clean = doc_ids[~np.isin(doc_ids, gone)]
    if len(clean) == len(doc_ids):
        return None
    return {name: part.only(clean) for name, part in rows.items()} if len(clean) else {}


def _unscored(
    results: Results, cells: Iterable[Cell], metrics: Sequence[Metric], n: int | None
) -> list[dict[str, Any]]:
    facts = [_facts(results.grid, results.variants[cell.variant], cell) for cell in cells]
    return [fact | {"metric": metric.name, "n": n, "rows": "clean"} for fact in facts for metric in metrics]


def _records(
    results: Results, done: Mapping[Cell, Mapping[str, Rows]], metrics: Sequence[Metric], rows: str
) -> list[dict[str, Any]]:
    """The table's rows of one condition; on clean rows the base is there to be compared with, and has none."""
    variants = [results.variants[cell.variant] for cell in done]
    has_base = any(variant.kind == "base" for variant in variants)
    facts = [_facts(results.grid, variant, cell) for variant, cell in zip(variants, done, strict=True)]
    records = []
    for metric in metrics:
        of_test = results.clusters.get(next(iter(done)).test_dataset, {}) if done else {}
        scores = score(metric, [parts[metric.name] for parts in done.values()], of_test, has_base)
        for variant, fact, own in zip(variants, facts, scores, strict=True):
            if rows == "all" or variant.kind != "base":
                records.append(fact | own | {"rows": rows})
    return records


def _facts(grid: Grid, variant: Variant, cell: Cell) -> dict[str, Any]:
    return {
        "model": grid.model,
        "variant": variant.name,
        "strategy": variant.strategy,
        "train_dataset": variant.train_dataset,
        "train_size": variant.train_size,
        "train_shots": variant.train_shots,
        "learning_rate": variant.learning_rate,
        "seed": variant.seed,
        "protocol": grid.protocol,
        "test_dataset": cell.test_dataset,
        "task": cell.task,
        "role": cell.role,
        "shots": cell.shots,
        "prompt": cell.prompt,
        "draw": cell.draw,
    }


# --- summaries --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MatrixEntry:
    """One variant on one test set by the set's first metric, pooled over `cells` of `planned` cells.

    `n` documents. The `change` is against the base over the cells both have; None where there are none.
    """

    variant: str
    test: str
    role: Role | None
    metric: Metric
    n: int
    cells: int
    planned: int
    score: float
    interval: Interval
    change: Effect | None = None

    @property
    def delta(self) -> float | None:
        return None if self.change is None else self.change.value

    @property
    def delta_interval(self) -> Interval | None:
        return None if self.change is None else self.change.interval

    @property
    def is_clear(self) -> bool:
        """Whether the change stands out from chance, all changes of the matrix taken together."""
        return self.change is not None and self.change.is_clear


@dataclass(frozen=True)
class RoleChange:
    """Mean change of a recipe, all its seeds together, over the test sets of one role, each counting the same."""

    recipe: Recipe
    role: Role
    metrics: tuple[str, ...]
    change: Effect

    @property
    def delta(self) -> float:
        return self.change.value

    @property
    def interval(self) -> Interval:
        return self.change.interval


_Entry = TypeVar("_Entry", MatrixEntry, RoleChange)


@dataclass(frozen=True)
class Group:
    """Variants with the same roles on all test sets, which can share a table: `columns` are (role, test sets)."""

    title: str
    variants: tuple[Variant, ...]
    columns: tuple[tuple[Role | None, tuple[TestInfo, ...]], ...]


def _together(entries: list[_Entry]) -> list[_Entry]:
    """The entries with their changes corrected for one another."""
    changes = adjusted([entry.change for entry in entries if entry.change is not None])
    waiting = iter(changes)
    return [entry if entry.change is None else replace(entry, change=next(waiting)) for entry in entries]


def _matrix(results: Results) -> Iterable[MatrixEntry]:
    cells: dict[tuple[str, str], list[Cell]] = {}
    for cell in results.grid.cells:
        cells.setdefault((results.variants[cell.variant].name, cell.test_dataset), []).append(cell)
    base = results.base.name if results.base else ""
    for (variant, test), planned in cells.items():
        done = [cell for cell in planned if cell.key in results.first_metric]
        if not done:
            continue
        metric = METRICS[results.tests[test].metrics[0]]
        rows = pool([results.first_metric[cell.key] for cell in done])
        theirs = [] if variant == base else cells.get((base, test), [])
        yield MatrixEntry(
            variant=variant,
            test=test,
            role=done[0].role,
            metric=metric,
            n=len(rows.doc_ids),
            cells=len(done),
            planned=len(planned),
            score=float(metric.score(rows.statistics.sum(axis=0))),
            interval=pooled_interval(metric, rows, results.clusters.get(test, {})),
            change=difference(results, done, theirs, name=f"{variant} on {test}"),
        )


def _role_changes(results: Results) -> Iterable[RoleChange]:
    base = results.cells_of_base
    for recipe, variants in results.recipes.items():
        for role in ROLES:
            name = f"{recipe_name(variants)} {ROLE_TITLES[role]}"
            change = difference(results, results.cells_of(variants, role), base, name=name)
            if change is not None:
                titles = dict.fromkeys(METRICS[results.tests[test].metrics[0]].title for test in change.tests)
                yield RoleChange(recipe, role, tuple(titles), change)


def groups(results: Results) -> list[Group]:
    """Variants that share their roles, in the grid's order, without the base. The base alone is one group."""
    roles: dict[str, dict[str, Role | None]] = {v.name: {} for v in results.grid.variants}
    for cell in results.grid.cells:
        roles[results.variants[cell.variant].name][cell.test_dataset] = cell.role
    alike: dict[tuple[Any, ...], list[Variant]] = {}
    for variant in results.grid.variants:
        if variant.kind != "base":
            signature = (variant.train_dataset, tuple(sorted(roles[variant.name].items(), key=lambda item: item[0])))
            alike.setdefault(signature, []).append(variant)
    if not alike:
        return [Group("The base model", (), _columns(results, {t.name: None for t in results.grid.tests}))]
    return [
        Group(
            f"Trained on {variants[0].train_dataset}" if variants[0].train_dataset else "Existing checkpoints",
            tuple(variants),
            _columns(results, roles[variants[0].name]),
        )
        for variants in alike.values()
    ]


def _columns(
    results: Results, roles: Mapping[str, Role | None]
) -> tuple[tuple[Role | None, tuple[TestInfo, ...]], ...]:
    """The test sets by role, within a role by task, tasks in the grid's order."""
    tasks = list(dict.fromkeys(t.task for t in results.grid.tests))
    tests = sorted((t for t in results.grid.tests if t.name in roles), key=lambda t: tasks.index(t.task))
    columns = [(role, tuple(t for t in tests if roles[t.name] == role)) for role in (*ROLES, None)]
    return tuple((role, of_role) for role, of_role in columns if of_role)
