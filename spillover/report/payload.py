"""What the page's script knows: every cell and score, column by column, as small as JSON gets.

Names are numbers into lists, scores are integers in tenths of a point, so that 10,000 cells take a megabyte. Texts of
examples are not in here (`examples`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..analysis.metrics import METRICS
from ..analysis.results import ROLE_TITLES, ROLES, Results
from ..analysis.summaries import matrix
from ..analysis.verdict import recipe
from ..stats import MIN_ROWS
from .examples import Written


def payload(results: Results, answers: Written) -> dict[str, Any]:
    """The `data` of page.js."""
    grid = results.grid
    prompts = list(dict.fromkeys(cell.prompt for cell in grid.cells))
    tests = [test.name for test in grid.tests]
    metrics = list(METRICS)
    return {
        "variants": [{"name": variant.name, "recipe": recipe(variant)} for variant in grid.variants],
        "tests": [{"title": test.title or test.name, "metric": metrics.index(test.metrics[0])} for test in grid.tests],
        "prompts": prompts,
        "roles": [ROLE_TITLES[role] for role in (None, *ROLES)],
        "metrics": [METRICS[name].title for name in metrics],
        "base": grid.variants.index(results.base) if results.base else None,
        "least": MIN_ROWS,
        **_cells_and_rows(results, prompts, tests, metrics),
        "examples": [
            {**entry, "test": tests.index(entry["test"]), "prompt": prompts.index(entry["prompt"])}
            for entry in answers.index
        ],
        "start": _start(results, tests),
    }


def _cells_and_rows(
    results: Results, prompts: Sequence[str], tests: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    grid, variants = results.grid, results.variants
    number = {variant.key: i for i, variant in enumerate(grid.variants)}
    machines: dict[str, int] = {}
    cells: dict[str, list[Any]] = {name: [] for name in CELL}
    place: dict[tuple[Any, ...], int] = {}
    for i, cell in enumerate(grid.cells):
        variant = variants[cell.variant]
        receipt = results.receipts.get(cell.key, {}) if cell.key in results.first_metric else {}
        machine = ", ".join(str(receipt[name]) for name in ("device", "precision", "engine") if receipt.get(name))
        place[variant.name, cell.test, cell.shots, cell.prompt, cell.draw] = i
        row = (
            number[variant.key],
            tests.index(cell.test),
            (None, *ROLES).index(cell.role),
            cell.shots,
            prompts.index(cell.prompt),
            cell.draw,
            cell.key,
            None if "seconds" not in receipt else round(float(receipt["seconds"]), 1),
            receipt.get("tokens") or 0,
            machines.setdefault(machine, len(machines)),
        )
        for name, value in zip(CELL, row, strict=True):
            cells[name].append(value)
    df = results.df[results.df["value"].notna()]  # where no clean score can be had, a note says it
    keys = zip(df["variant"], df["test_dataset"], df["shots"], df["prompt"], df["draw"], strict=True)
    rows: dict[str, list[Any]] = {"cell": [place[key] for key in keys]}
    rows |= {"metric": [metrics.index(name) for name in df["metric"]], "n": df["n"].astype(int).tolist()}
    rows |= {"clean": [int(kind == "clean") for kind in df["rows"]], "p": _tenths(df["p_value"])}
    rows |= {name: _tenths(df[column]) for name, column in ROW.items()}
    return {"cells": cells, "rows": rows, "machines": list(machines)}


CELL = ("variant", "test", "role", "shots", "prompt", "draw", "key", "seconds", "tokens", "machine")
ROW = {"value": "value", "low": "ci_low", "high": "ci_high"}
ROW |= {"change": "delta", "change_low": "delta_ci_low", "change_high": "delta_ci_high"}


def _tenths(values: pd.Series) -> list[int | None]:
    """Scores from 0 to 1 as tenths of a point of a hundred, p-values as thousandths."""
    return [None if pd.isna(value) else round(1000 * value) for value in values.tolist()]


def _start(results: Results, tests: Sequence[str]) -> dict[str, int]:
    """Where the examples begin: at the clear change that is the largest loss, else the largest change."""
    changed = [(entry, entry.delta) for entry in matrix(results).values() if entry.delta is not None]
    first = min(changed, key=lambda item: (not item[0].is_clear, item[1] > 0, -abs(item[1])), default=None)
    names = [variant.name for variant in results.grid.variants]
    if first is None:
        return {"variant": 0, "test": 0}
    return {"variant": names.index(first[0].variant), "test": tests.index(first[0].test)}


def as_json(value: Any) -> str:
    """A value as JSON that can stand in a script element."""
    return in_script(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def in_script(text: str) -> str:
    """JSON that can stand in a script element: no end tag and no comment can begin in it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
