"""From an output folder to the results table: one row per cell and metric.

`load` reads the grid and the cells that have run, and scores them. Each row has its n, its interval and its difference
from the base on the same test rows (`scoring`). Where the audit found test rows that leak from a training set, variants
trained on that set have a second row, scored without them (`rows` is "clean"; `clean_split`).

Only the output folder is read: no data, no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import StoreError, did_you_mean, visible
from ..experiment.factors import FACTORS, shown
from ..experiment.protocol import Protocol
from ..models import is_adapter
from ..plan.choice import Chosen, unasked
from ..plan.grid import Cell, Grid, TestInfo, Variant
from ..store.inside import read as read_inside
from ..store.open import open_store
from ..store.store import Store
from .choices import best_uses, choices, chosen
from .clean_split import CleanSplit
from .earlier import answered, with_earlier
from .harness import metric_of
from .metrics import METRICS, Metric, Prediction, rescored
from .results import Cost, Results, grouped
from .rows import ENDED, ROUNDING, WAYS, RowStatistics, read_rows
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
    **dict.fromkeys(("ci_low", "ci_high", "delta", "delta_ci_low", "delta_ci_high", "p_value"), "float64"),
    "rows": "string",
    **dict.fromkeys((f"{ENDED}_{way}" for way in WAYS), "Float64"),
}


def columns(grid: Grid) -> dict[str, str]:
    """The columns of the results table with their types: the factors are those that any variant has."""
    has = {name for variant in grid.variants for name in variant.factors}
    return _BEFORE | {name: _OF_A_TYPE[FACTORS[name].type] for name in shown(has)} | _AFTER


def load(folder: Path, rescore: bool = False, earlier: bool = False) -> Results:
    """Read and score what is in an output folder. `rescore`: compute row statistics again, even if they were kept.

    `earlier`: with the variants of earlier forms of the experiment that answered the same questions.
    Raises StoreError for a folder without a grid, or with a broken file.
    """
    store = open_store(folder)
    planned, split = store.grid(), CleanSplit.of(store.audit())
    receipts = store.valid(planned)
    made, uses = choices(store, planned, receipts), best_uses(store, planned, receipts)
    grid = _of_chosen(planned, chosen(made))
    before: frozenset[str] = frozenset()
    if earlier:
        grid, before = with_earlier(grid, store.earlier(), {variant.key for variant in planned.variants})
        receipts = {**receipts, **store.valid(grid, before)}
        grid = answered(grid, before, receipts)
        before &= {variant.key for variant in grid.variants}
    leaked = split.leaked or {}
    # For its look-ups only.
    results = Results(grid, pd.DataFrame(), (), receipts, {}, clusters=split.clusters, leaked=leaked, earlier=before)
    label_scoring = Protocol.named(grid.protocol).label_scoring
    records: list[dict[str, Any]] = []
    missing: list[Cell] = []
    first_metric: dict[str, RowStatistics] = {}
    digests: dict[str, str] = {}
    rounding: dict[str, RowStatistics] = {}
    ended: dict[str, RowStatistics] = {}
    for of_condition in grouped(grid.cells, lambda cell: cell.condition).values():
        cells = sorted(of_condition, key=lambda cell: results.variants[cell.variant].kind != "base")  # the base first
        test = results.tests[cells[0].test]
        metrics, labels = _metrics(test), grid.labels_for(test)
        done: dict[Cell, Mapping[str, RowStatistics]] = {}
        for cell in cells:
            receipt = receipts.get(cell.key)
            digest = receipt and receipt["sha256"]
            found = read_rows(store, cell.key, digest, metrics, labels, label_scoring, rescore) if digest else None
            if found is None:
                missing.append(cell)
            else:
                done[cell], digests[cell.key] = found.rows, found.digest
        first = {cell.key: rows[metrics[0].name] for cell, rows in done.items()}
        first_metric |= {key: rows for key, rows in first.items() if len(rows.doc_ids)}
        rounding |= {cell.key: rows[ROUNDING] for cell, rows in done.items() if ROUNDING in rows}
        ended |= {cell.key: rows[ENDED] for cell, rows in done.items() if ENDED in rows}
        records += _records(results, done, metrics, "all")
        records += _clean_records(results, done, metrics, split)
        records += _as_a_whole(results, done, receipts)
    order = {v.name: i for i, v in enumerate(grid.variants)}
    records.sort(key=lambda r: order[r["variant"]])  # stable: conditions keep the grid's order
    types = columns(grid)
    df = pd.DataFrame(records, columns=list(types)).astype(types)
    kept = {variant.key: place for variant in grid.variants if (place := store.checkpoint(variant.key)) is not None}
    inside = read_inside(folder)
    nearly = {key: how for key, seen in inside.items() if (how := seen.hardly_differs)}
    of_cells = replace(results, first_metric=first_metric, digests=digests, rounding=rounding, ended=ended)
    of_store = replace(of_cells, answers=_answers(store, label_scoring, set(digests)), folder=folder)
    of_store = replace(of_store, choices=made, best_uses=uses)
    costs = {variant.key: _cost(store, variant) for variant in grid.variants if variant.kind == "trained"}
    return replace(of_store, df=df, missing=tuple(missing), checkpoints=kept, costs=costs, nearly_base=nearly)


def _answers(store: Store, label_scoring: str, cells: Collection[str]) -> Callable[[str], Sequence[Prediction]]:
    """Reads the answers of a finished cell, as the protocol scores them. The last ones stay in memory."""

    @lru_cache(maxsize=64)
    def read(key: str) -> Sequence[Prediction]:
        return rescored(store.predictions(key), label_scoring) if key in cells else ()

    return read


def _cost(store: Store, variant: Variant) -> Cost:
    """What a variant costs; the trainings that it is made from are trained for it."""
    own, *parents = (store.variant_receipt(key) or {} for key in (variant.key, *variant.made_from))
    seconds: list[Any] = [receipt.get("seconds") for receipt in (own, *parents)]
    size = store.weights_size(variant.key) or None
    return Cost(stored_as_adapter(store, variant), None if None in seconds else sum(seconds), size)


def stored_as_adapter(store: Store, variant: Variant) -> bool:
    """Whether a variant is an adapter on disk, or was one. What is made of adapters may be whole weights."""
    receipt = store.variant_receipt(variant.key) or {}
    if "adapter" not in receipt and store.weights_size(variant.key):
        return is_adapter(store.variant_folder(variant.key))
    return bool(receipt.get("adapter", "lora_r" in variant.factors))


def _of_chosen(grid: Grid, made: Chosen) -> Grid:
    """The grid without the alternatives that were not chosen, or not yet, and without the cells on validation rows."""
    out = unasked(grid.variants, made)
    kept = tuple(variant for variant in grid.variants if variant.key not in out)
    return replace(grid, variants=kept, cells=tuple(c for c in grid.cells if c.variant not in out), validation=())


def as_csv(rows: pd.DataFrame) -> str:
    """A table as CSV. A text that a spreadsheet would run as a formula begins with an apostrophe; numbers stay."""
    texts = rows.select_dtypes(exclude="number")
    safe = rows.assign(**{str(name): texts[name].astype(object).map(_no_formula) for name in texts})
    return str(safe.to_csv(index=False, lineterminator="\n"))


FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What a text begins with that a spreadsheet takes for a formula; the wide signs are those of East Asian keyboards."""


def _no_formula(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return visible(f"'{value}" if value.startswith(FORMULA) else value)


def _metrics(test: TestInfo) -> list[Metric]:
    try:
        return [metric_of(name) for name in test.metrics]
    except KeyError as error:
        unknown = str(error.args[0])
        allowed = did_you_mean(unknown, METRICS)
        raise StoreError(f"unknown metric {unknown!r}", where="grid.json", allowed=allowed) from None


def _as_a_whole(
    results: Results, done: Iterable[Cell], receipts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Scores that only lm-evaluation-harness can compute, from all documents at once: without an interval."""
    base = next((cell for cell in done if results.variants[cell.variant].kind == "base"), None)
    theirs = receipts[base.key].get("as_a_whole", {}) if base else {}
    records = []
    for cell in done:
        for name, own in receipts[cell.key].get("as_a_whole", {}).items():
            own = {"metric": name, **own, "rows": "all"}
            other = theirs.get(name, {}) if cell is not base else {}
            known = None not in (own["value"], other.get("value"))
            if known and own["n"] == other.get("n"):
                own["delta"] = own["value"] - other["value"]
            records.append(_facts(results.grid, results.variants[cell.variant], cell) | own)
    return records


def _clean_records(
    results: Results, done: Mapping[Cell, Mapping[str, RowStatistics]], metrics: Sequence[Metric], split: CleanSplit
) -> list[dict[str, Any]]:
    """The records of one condition without the rows that leak.

    They have no value if no row is left, or if it is not known which rows leak.
    """
    base: list[Cell] = []
    by_training: dict[str | None, list[Cell]] = {}
    for cell in done if split.leaked is not None else ():
        variant = results.variants[cell.variant]
        (base if variant.kind == "base" else by_training.setdefault(variant.train_dataset, [])).append(cell)
    records: list[dict[str, Any]] = []
    for train_dataset, cells in by_training.items():
        gone = split.leaking(train_dataset, cells[0].test)
        if gone is None:
            records += _unscored(results, cells, metrics)
        elif len(gone):
            leaks = {cell: done[cell] for cell in (*base, *cells) if _has_any(done[cell], gone)}
            clean = {cell: {name: part.without(gone) for name, part in rows.items()} for cell, rows in leaks.items()}
            records += _records(results, clean, metrics, "clean")
    return records


def _has_any(rows: Mapping[str, RowStatistics], documents: np.ndarray) -> bool:
    return any(np.isin(part.doc_ids, documents).any() for part in rows.values())


def _unscored(results: Results, cells: Iterable[Cell], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    facts = [_facts(results.grid, results.variants[cell.variant], cell) for cell in cells]
    return [fact | {"metric": metric.name, "n": None, "rows": "clean"} for fact in facts for metric in metrics]


def _records(
    results: Results, done: Mapping[Cell, Mapping[str, RowStatistics]], metrics: Sequence[Metric], rows: str
) -> list[dict[str, Any]]:
    """The table's records of one condition. On clean rows the base is only compared with and has no record."""
    variants = [results.variants[cell.variant] for cell in done]
    has_base = any(variant.kind == "base" for variant in variants)
    facts = [_facts(results.grid, variant, cell) for variant, cell in zip(variants, done, strict=True)]
    for fact, parts in zip(facts, done.values(), strict=True):
        if ENDED in parts and len(parts[ENDED].doc_ids):
            shares = parts[ENDED].statistics.mean(axis=0)
            fact |= {f"{ENDED}_{way}": share for way, share in zip(WAYS, shares.tolist(), strict=True)}
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
