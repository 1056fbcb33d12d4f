"""The data of the page's script: every score, and where to find every answer, as small JSON.

Names are places in lists, and scores are integers in tenths of a point, so that 30,000 rows take two megabytes. The
answers themselves are elsewhere (`examples`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ..analysis.metrics import METRICS
from ..analysis.results import ROLE_TITLES, ROLES, Results
from ..analysis.summaries import matrix
from ..stats import MIN_ROWS
from .examples import Written


def payload(results: Results, answers: Written) -> dict[str, Any]:
    """The `data` of page.js."""
    grid, roles, metrics = results.grid, [None, *ROLES], list(METRICS)
    prompts = list(dict.fromkeys(cell.prompt for cell in grid.cells))
    variants, tests = [variant.name for variant in grid.variants], [test.name for test in grid.tests]
    df = results.df[results.df["value"].notna()]  # rows without a clean score have none
    rows = pd.DataFrame(
        {
            "variant": _places(df["variant"], variants),
            "test": _places(df["test_dataset"], tests),
            "role": _places(df["role"].astype(object).where(df["role"].notna(), None), roles),
            "prompt": _places(df["prompt"], prompts),
            "metric": _places(df["metric"], metrics),
            "rows": _places(df["rows"], ["all", "clean"]),
            **{name: df[name].to_numpy() for name in ("shots", "draw", "n")},
            **{name: (1000 * df[column]).round().astype("Int64").to_numpy() for name, column in NUMBERS.items()},
        }
    ).sort_values(["test", "shots", "prompt", "draw", "variant"], kind="stable")
    return {
        "variants": variants,
        "tests": [test.title or test.name for test in grid.tests],
        "first": [metrics.index(test.metrics[0]) for test in grid.tests],  # by test set
        "prompts": prompts,
        "roles": [ROLE_TITLES[role] for role in roles],
        "metrics": [METRICS[name].title for name in metrics],
        "base": grid.variants.index(results.base) if results.base else None,
        "least": MIN_ROWS,
        "columns": list(rows),
        "rows": json.loads(rows.to_json(orient="values")),
        "examples": [
            {**entry, "test": tests.index(entry["test"]), "prompt": prompts.index(entry["prompt"])}
            for entry in answers.index
        ],
        "start": _start(results, variants, tests),
    }


NUMBERS = {"value": "value", "low": "ci_low", "high": "ci_high", "p": "p_value"}
NUMBERS |= {"change": "delta", "change_low": "delta_ci_low", "change_high": "delta_ci_high"}


def _places(values: Iterable[Any], names: Sequence[Any]) -> list[int]:
    place = {name: i for i, name in enumerate(names)}
    return [place[value] for value in values]


def _start(results: Results, variants: Sequence[str], tests: Sequence[str]) -> dict[str, int]:
    """Where the examples begin: the largest loss that is clear, else the largest change."""
    changed = [(entry, entry.delta) for entry in matrix(results).values() if entry.delta is not None]
    first = min(changed, key=lambda item: (not item[0].is_clear, item[1] > 0, -abs(item[1])), default=None)
    if first is None:
        return {"variant": 0, "test": 0}
    return {"variant": variants.index(first[0].variant), "test": tests.index(first[0].test)}


def as_json(value: Any) -> str:
    """A value as JSON that can stand in a script element."""
    return in_script(json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def in_script(text: str) -> str:
    """JSON that can stand in a script element: no end tag and no comment can begin in it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
