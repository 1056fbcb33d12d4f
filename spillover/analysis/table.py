"""From an output folder to the results table: one row per cell and metric.

`load` reads the grid and the cells that have run, and scores them. Each row has its n, its interval and its difference
from the base on the same test rows (`scoring`). Where the audit found test rows that leak from a training set, variants
trained on that set have a second row, scored without them (`rows` is "clean"; `clean_split`).

Only the output folder is read: no data, no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..disk import write_whole
from ..errors import StoreError, did_you_mean
from ..experiment.factors import FACTORS, shown
from ..experiment.protocol import Protocol
from ..plan.grid import Cell, Condition, Grid, TestInfo, Variant
from ..store.store import Store
from .clean_split import CleanSplit, read_clean_split
from .metrics import METRICS, Metric
from .results import Results
from .rows import RowStatistics, read_rows
from .scoring import score

_OF_A_TYPE = {str: "string", int: "Int64", float: "Float64"}
_BEFORE = {"model": "string", "variant": "string"}
_AFTER = {
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


def columns(grid: Grid) -> dict[str, str]:
    """The columns of the results table with their types: the factors are those that any variant has."""
    has = {name for variant in grid.variants for name in variant.factors}
    return _BEFORE | {name: _OF_A_TYPE[FACTORS[name].type] for name in shown(has)} | _AFTER


def load(folder: Path, rescore: bool = False) -> Results:
    """Read and score what is in an output folder. `rescore`: from the predictions, not from what is kept beside them.

    Raises StoreError where it holds no grid or a broken file.
    """
    if not (folder / "grid.json").is_file():
        raise StoreError("no grid.json: not an output folder, or a run that has not begun", where=str(folder))
    grid, store = Grid.read(folder / "grid.json"), Store(folder)
    audit, receipts = read_clean_split(folder / "audit.json"), _whole_cells(store, grid.cells)
    results = Results(grid, pd.DataFrame(), (), receipts, {}, clusters=audit.clusters)  # for its lookups only
    label_scoring = Protocol.named(grid.protocol).label_scoring
    records: list[dict[str, Any]] = []
    missing: list[Cell] = []
    first_metric: dict[str, RowStatistics] = {}
    digests: dict[str, str] = {}
    for cells in _by_condition(grid.cells, results):
        test = results.tests[cells[0].test]
        metrics, labels = _metrics(test), grid.labels_for(test)
        done: dict[Cell, Mapping[str, RowStatistics]] = {}
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
    types = columns(grid)
    df = pd.DataFrame(records, columns=list(types)).astype(types)
    return replace(results, df=df, missing=tuple(missing), first_metric=first_metric, digests=digests)


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Rows as CSV, replaced as a whole."""
    write_whole(path, rows.to_csv(index=False, lineterminator="\n"))


def _by_condition(cells: Sequence[Cell], results: Results) -> Iterable[list[Cell]]:
    """Cells that are compared with each other, the base first: no more than one condition is held in memory."""
    order: dict[Condition, int] = {}
    for cell in cells:
        order.setdefault(cell.condition, len(order))
    ranked = sorted(cells, key=lambda c: (order[c.condition], results.variants[c.variant].kind != "base"))
    for _, group in groupby(ranked, key=lambda cell: cell.condition):
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
    results: Results, done: Mapping[Cell, Mapping[str, RowStatistics]], metrics: Sequence[Metric], audit: CleanSplit
) -> list[dict[str, Any]]:
    """The same of one condition without what leaks; rows without a value where nothing is left, or it is not known."""
    base: list[Cell] = []
    by_training: dict[str | None, list[Cell]] = {}
    for cell in done if audit.leaked is not None else ():
        variant = results.variants[cell.variant]
        (base if variant.kind == "base" else by_training.setdefault(variant.train_dataset, [])).append(cell)
    records: list[dict[str, Any]] = []
    for train_dataset, cells in by_training.items():
        gone = audit.leaking(train_dataset, cells[0].test)
        if gone is None:
            records += _unscored(results, cells, metrics, None)
        elif len(gone):
            kept = {cell: rows for cell in (*base, *cells) if (rows := _without(done[cell], gone)) is not None}
            records += _records(results, {cell: rows for cell, rows in kept.items() if rows}, metrics, "clean")
            records += _unscored(results, [cell for cell in cells if kept.get(cell) == {}], metrics, 0)
    return records


def _without(rows: Mapping[str, RowStatistics], gone: np.ndarray) -> dict[str, RowStatistics] | None:
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
    results: Results, done: Mapping[Cell, Mapping[str, RowStatistics]], metrics: Sequence[Metric], rows: str
) -> list[dict[str, Any]]:
    """The table's rows of one condition; on clean rows the base is there to be compared with, and has none."""
    variants = [results.variants[cell.variant] for cell in done]
    has_base = any(variant.kind == "base" for variant in variants)
    facts = [_facts(results.grid, variant, cell) for variant, cell in zip(variants, done, strict=True)]
    records = []
    for metric in metrics:
        of_test = results.clusters.get(next(iter(done)).test, {}) if done else {}
        scores = score(metric, [parts[metric.name] for parts in done.values()], of_test, has_base)
        for variant, fact, own in zip(variants, facts, scores, strict=True):
            if rows == "all" or variant.kind != "base":
                records.append(fact | own | {"rows": rows})
    return records


def _facts(grid: Grid, variant: Variant, cell: Cell) -> dict[str, Any]:
    return {
        "model": grid.model,
        "variant": variant.name,
        **variant.factors,
        "seed": variant.seed,
        "protocol": grid.protocol,
        "test_dataset": cell.test,
        "task": cell.task,
        "role": cell.role,
        "shots": cell.shots,
        "prompt": cell.prompt,
        "draw": cell.draw,
    }
