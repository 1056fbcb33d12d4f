"""How answers ended, and when a difference from the base is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakestore
import pytest

from spillover.analysis import table
from spillover.analysis.endings import endings, told
from spillover.analysis.results import Results
from spillover.report.why import how_ended


def ended(folder: Path, base: str, other: str, stop: tuple[str, ...]) -> Results:
    """A store of a base and a variant whose answers to free text ended in these ways: stop, end, limit."""
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,), prompts=("p1",), rows=len(base))
    for test in grid.tests:
        if test.kind == "generation":
            object.__setattr__(test, "stop", stop)
    fakestore.write_store(folder, grid)
    names = {"s": "stop", "e": "end", "l": "limit"}
    for cell in grid.cells:
        ways = base if grid.variants[0].key == cell.variant else other

        def change(rows: list[dict[str, Any]], ways: str = ways) -> list[dict[str, Any]]:
            return [row | ({} if "free" in row else {"ended": names[way]}) for row, way in zip(rows, ways, strict=True)]

        fakestore.change_rows(folder, cell.key, change)
    return table.load(folder)


def test_shares_by_variant_and_test_set(tmp_path: Path) -> None:
    results = ended(tmp_path, "ssssssel", "eeeeeeee", ("\n",))
    found = endings(results)
    texts = {test.name for test in results.grid.tests if test.kind == "generation"}
    assert {test for _, test in found} == texts
    base, other = (variant.name for variant in results.grid.variants)
    assert {tuple(found[base, test]) for test in texts} == {(0.75, 0.125, 0.125)}
    assert {tuple(found[other, test]) for test in texts} == {(0.0, 1.0, 0.0)}
    rows = results.df[results.df.test_dataset.isin(texts) & (results.df.variant == base)]
    assert set(rows.ended_stop) == {0.75} and set(rows.ended_limit) == {0.125}
    assert results.df[~results.df.test_dataset.isin(texts)].ended_stop.isna().all()
    part = how_ended(results)
    assert part and part["table"]["rows"][0][2:] == ["75 %", "12 %", "12 %", "a line break"]


@pytest.mark.parametrize(
    ("base", "other", "stop", "word"),
    [
        ("llllssss", "eeeeeeee", ("\n",), "larger"),
        ("eeeeeeee", "llllssss", ("\n",), "smaller"),
        ("ssssssss", "eeeeeeee", ("\n\n",), "larger"),
        ("ssssssss", "eeeeeeee", ("\n",), None),  # both are cut at the same place
        ("eeeeeees", "eeeeeeel", ("\n\n",), None),
    ],
)
def test_a_large_difference_is_told_with_its_direction(
    tmp_path: Path, base: str, other: str, stop: tuple[str, ...], word: str | None
) -> None:
    results = ended(tmp_path, base, other, stop)
    lines = list(told(results))
    texts = [test for test in results.grid.tests if test.kind == "generation"]
    assert len(lines) == (len(texts) if word else 0)
    assert all(word and word in line and "\n" not in line for line in lines)
    assert all(("stop: [" in line) == ("\n" not in stop) for line in lines)
