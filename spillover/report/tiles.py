"""The generalisation matrix as the page shows it: a tile for each recipe and test set, with its seeds behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from ..analysis.numbers import details, noise, points, written
from ..analysis.results import Results
from ..analysis.summaries import MatrixEntry
from .examples import Tally
from .matrix import Column, Row, blocks

SHADES = (0.05, 0.15)  # from 5 and from 15 points on, a tile is darker
Tallies = Mapping[tuple[str, str], Tally]


def arms(results: Results) -> list[dict[str, Any]]:
    """The recipes that were trained with several seeds: name, and numbers of their variants in the grid."""
    return [
        {"name": column.name, "variants": [results.variant_numbers[variant.key] for variant in column.variants]}
        for column in _columns(results)
        if column.seeds
    ]


def matrices(results: Results, tallies: Tallies) -> list[dict[str, Any]]:
    """A table for each training set: rows are test sets by role, columns the base and the recipes."""
    tests = [test.name for test in results.grid.tests]
    chosen = _choices(results)

    def tiles(row: Row, columns: list[Column]) -> Iterator[dict[str, Any]]:
        for column, entry, seeds in zip(columns, row.entries, row.seeds, strict=True):
            answers = [tallies.get((variant.name, row.test.name), Tally()) for variant in column.variants]
            off, n = sum(tally.off_format for tally in answers), sum(tally.n for tally in answers)
            number = {"v": chosen[column.name, column.variants], "t": tests.index(row.test.name)}
            yield {
                **_tile(entry),
                **number,
                "off": off / n if n else 0.0,
                "seeds": [_seed(results, seed) for seed in seeds],
            }

    return [
        {
            "title": block.title,
            "columns": block.columns,
            "has_seeds": any(column.seeds for column in block.columns),
            "parts": [
                {"role": role, "rows": [{"row": row, "tiles": tiles(row, block.columns)} for row in rows]}
                for role, rows in groupby(block.rows, lambda row: row.role)
            ],
        }
        for block in blocks(results)
    ]


def _columns(results: Results) -> list[Column]:
    """Each recipe once; the base stands in several tables."""
    return list(dict.fromkeys(column for block in blocks(results) for column in block.columns))


def _choices(results: Results) -> dict[tuple[str, tuple[Any, ...]], str]:
    """What the table of results is filtered by, for each column: the number of a variant, or `r` and that of `arms`."""
    found, several = {}, 0
    for column in _columns(results):
        place = f"r{several}" if column.seeds else str(results.variant_numbers[column.variants[0].key])
        found[column.name, column.variants] = place
        several += bool(column.seeds)
    return found


def _tile(entry: MatrixEntry | None) -> dict[str, Any]:
    tile: dict[str, Any] = {"entry": entry, "shade": "", "arrow": "", "title": _title(entry) if entry else ""}
    tile["noise"] = noise(entry.change) if entry and entry.change else ""
    if entry and entry.delta is not None and entry.is_clear:
        gain = entry.delta > 0
        depth = 1 + sum(abs(entry.delta) >= step for step in SHADES)
        tile |= {"shade": f"{'gain' if gain else 'loss'} s{depth}", "arrow": "▲ " if gain else "▼ "}
    return tile


def _seed(results: Results, entry: MatrixEntry) -> dict[str, str]:
    """A training of a recipe in a line: its seed, its score and its change from the base."""
    variant = results.variants[entry.variant]
    change = written(entry.change) if entry.change else ""
    return {"name": entry.variant, "seed": f"seed {variant.seed}", "score": points(entry.score), "change": change}


def _title(entry: MatrixEntry) -> str:
    """A tile in words, for screen readers."""
    words = (
        f"{entry.variant} on {entry.test}: {entry.metric.title} {points(entry.score)}, 95 % interval "
        f"{points(entry.interval.low)} to {points(entry.interval.high)}, n {entry.n}, "
        f"{entry.cells} of {entry.planned} cells"
    )
    if entry.change is None:
        return words
    end = "" if entry.is_clear else "; insufficient evidence"
    return f"{words}; change from the base {written(entry.change)}{end}; {details(entry.change)}"
