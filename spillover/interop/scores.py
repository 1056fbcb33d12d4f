"""Scores without texts: a file that can be published where the data may not be, and the way back into a folder.

The file holds the variants, conditions and cells of an experiment with their keys, and for each finished cell its
receipt, the numbers of its rows and what each row adds to each metric. That is all that scores, intervals and tests
need. It holds no text of a row: no field, target, answer, prompt or hash of a prompt. What a plan says in words about
rows (warnings, notes, the audit's examples) may quote them, so it is left out too. Names stay: those of data sets,
files, labels and metrics, and the experiment's YAML with its prompt templates.

A folder takes the file back as finished cells (`take`). They are reported, compared with others and gone on from as any
other cell: a run computes only what is missing.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..analysis.rows import aligned, rules
from ..data.packed import PACKS, unpacked
from ..disk import write_whole
from ..errors import DataError, shown
from ..experiment.schema import parse_experiment
from ..plan.grid import Grid
from ..store.folder import sealed, unsealed
from ..store.open import open_store
from ..store.store import Store
from .scored import Scored, scored
from .wanted import Wanted

Json = dict[str, Any]

FORMAT = "spillover-scores-1"
NAME = "scores.json"
KEY = re.compile(r"\w[\w.-]*", re.ASCII)  # one plain name: no place within what is there already
WRITTEN = "what `spillover export DIR --format scores` wrote"


def write(wanted: Wanted) -> list[str]:
    """Write the file. All of its numbers are those of the folder's report."""
    store, cells = wanted.store, list(scored(wanted))
    packed = PACKS.get(wanted.place.suffix)
    path = wanted.place if packed or wanted.place.suffix == ".json" else wanted.place / NAME
    variants, tests, audit = wanted.chosen_variants, wanted.chosen_tests, store.audit()
    names = {variant.key for variant in variants}
    bare = replace(
        wanted.grid,
        variants=tuple(variants),
        cells=tuple(cell for cell in wanted.grid.cells if cell.variant in names and cell.test in tests),
        tests=tuple(replace(test, notes=()) for test in tests.values()),
        warnings=(),
    )
    trained = {v.key: receipt for v in bare.variants if (receipt := store.variant_receipt(v.key)) is not None}
    experiment, _, _ = store.experiment()
    content = {
        "format": FORMAT,
        "grid": json.loads(bare.to_json()),
        "experiment": experiment.model_dump(mode="json", exclude_unset=True),
        "audit": {name: audit[name] for name in ("leaked", "clusters") if name in audit},
        "variants": trained,
        "inside": {v.key: inside for v in bare.variants if (inside := store.inside_of(v.key)) is not None},
        "cells": {cell.cell.key: _cell(cell) for cell in cells},
    }
    whole = sealed(FORMAT, content, indent=None)
    write_whole(path, packed(whole.encode()) if packed else whole)
    return [
        f"Wrote the scores of {len(cells)} cells, without texts, to {path}",
        f"Next: spillover import {shlex.quote(str(path))} DIR (on any machine), then: spillover report DIR",
    ]


def _cell(cell: Scored) -> Json:
    receipt = {name: value for name, value in cell.receipt.items() if name not in ("rows", "bytes", "sha256")}
    answers = {name: cell.receipt[name] for name in ("rows", "bytes", "sha256")}
    doc_ids, statistics = aligned(cell.statistics)
    return {
        "receipt": {"without_texts": rules(cell.label_scoring), "answers": answers, **receipt},
        "doc_ids": doc_ids.tolist(),
        "statistics": {
            name: [None if isnan(row[0]) else row for row in table.tolist()] for name, table in statistics.items()
        },
    }


def take(file: Path, folder: Path) -> list[str]:
    """Add the cells of a file to a folder, which may be new. Cells that are there already stay as they are.

    A folder with a plan shows only cells of that plan. Raises DataError for a file that is not what was written or has
    no cell of the plan, and StoreError for what the disk refuses.
    """
    content, grid = _read(file)
    store = open_store(folder)
    store.create()
    taken = 0
    with store.lock():
        if not store.has_grid():
            _write_plan(store, grid, content)
        planned = {cell.key for cell in store.grid().cells}
        foreign = len(content["cells"].keys() - planned)
        if foreign and foreign == len(content["cells"]):
            what = f"none of its {foreign} cells is in the plan of {folder}, so no report would show them"
            raise DataError(what, where=str(file), allowed="a new folder, or one of the same experiment")
        there = set(store.valid(grid))
        for key, receipt in content["variants"].items():
            if store.variant_receipt(key) is None:
                store.finish_variant(key, receipt)
        for key, inside in content["inside"].items():
            if store.inside_of(key) is None:
                store.write_inside(key, inside)
        for key, cell in content["cells"].items():
            if key not in there:
                store.write_cell(key, _rows(cell), cell["receipt"])
                taken += key in planned
    already = len(content["cells"]) - foreign - taken
    kept = f"; {already} were there already" if already else ""
    others = [f"{foreign} more cells are not in the plan of {folder}: its report does not show them"] if foreign else []
    place = shlex.quote(str(folder))
    return [
        f"Took {taken} finished cells into {folder}{kept}",
        *others,
        f"Next: spillover report {place}, or go on: spillover run FILE --output {place}",
    ]


@dataclass
class _ScoresOfCell:
    receipt: Json
    doc_ids: list[int]
    statistics: dict[str, list[list[float] | None]]


@dataclass
class _Content:
    grid: Json
    experiment: Json
    audit: dict[str, Json | None]
    variants: dict[str, Json]
    inside: dict[str, Json]
    cells: dict[str, _ScoresOfCell]


def _read(file: Path) -> tuple[Json, Grid]:
    """The content of a file, and its grid. A seal only says that the file is whole: anybody can make one."""
    try:
        found = unsealed(FORMAT, unpacked(file, str(file)))
        TypeAdapter(_Content).validate_json(json.dumps(found), strict=True)
        grid = Grid.read(json.dumps(found["grid"]).encode())
        _check(found, grid)
        parse_experiment(found["experiment"])
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(file)) from None
    except ValidationError as error:
        first = error.errors()[0]
        what = f"no file of scores: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(what, where=str(file), allowed=WRITTEN) from None
    except ValueError as error:
        what = f"no file of scores, or not as it was written: it {error}"
        raise DataError(what, where=str(file), allowed=WRITTEN) from None
    return found, grid


def _check(found: Json, grid: Grid) -> None:
    """Raise ValueError for names that are no keys, and for cells and variants that no report could read."""
    for name in (*found["cells"], *found["variants"], *found["inside"]):
        if not KEY.fullmatch(name):
            raise ValueError(f"has {shown(name)} where a key must stand")
    if any(not isinstance(receipt.get("weights"), str) for receipt in found["variants"].values()):
        raise ValueError("has a trained variant without the hash of its weights")
    widths: dict[tuple[str, str], set[int]] = {}
    tests = {cell.key: cell.test for cell in grid.cells}
    for key, cell in found["cells"].items():
        if key not in tests:
            raise ValueError(f"has a cell {shown(key)} that is not in its plan")
        if "without_texts" not in cell["receipt"] or not _fits(cell):
            raise ValueError("has other scores than its rows")
        for name, values in cell["statistics"].items():
            widths.setdefault((tests[key], name), set()).update(len(row) for row in values if row is not None)
    if odd := [name for (_, name), seen in widths.items() if 0 in seen or len(seen) > 1]:
        raise ValueError(
            f"has other scores than its rows: {shown(odd[0])} differs in its numbers between cells of a test set"
        )


def _fits(cell: Json) -> bool:
    """Whether every metric has a row for each document, and no document stands twice."""
    n = len(cell["doc_ids"])
    return n == len(set(cell["doc_ids"])) and all(len(values) == n for values in cell["statistics"].values())


def _rows(cell: Json) -> list[Json]:
    columns = cell["statistics"]
    return [
        {"doc_id": doc_id, **{name: values[number] for name, values in columns.items()}}
        for number, doc_id in enumerate(cell["doc_ids"])
    ]


def _write_plan(store: Store, grid: Grid, content: Json) -> None:
    experiment = parse_experiment(content["experiment"])
    store.write_plan(grid, content["audit"], claims=experiment.claims, experiment=experiment, base=Path.cwd())
