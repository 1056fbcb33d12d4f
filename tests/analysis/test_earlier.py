"""Variants of an earlier form of the experiment: which stay, and with which cells."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import fakestore
import pytest
from prose import tells

from spillover.analysis import summaries, table
from spillover.analysis.earlier import with_earlier
from spillover.plan.grid import Grid, Variant
from spillover.report import page
from spillover.store.store import Store

BASE, NEWS_FT, NEWS_ICL, SHOP_FT, SHOP_ICL = fakestore.VARIANTS


def grid_of(*variants: Variant, shots: tuple[int, ...] = (0,), tests: tuple[str, ...] = ("shop", "film")) -> Grid:
    grid = fakestore.make_grid(variants=(BASE, *variants), shots=shots, prompts=("p1",), rows=12)
    cells = tuple(cell for cell in grid.cells if cell.test in tests)
    return replace(grid, cells=cells, tests=tuple(test for test in grid.tests if test.name in tests))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two variants were run, then the experiment was changed: another one, a test set more, and 2 shots for all."""
    fakestore.write_store(tmp_path, grid_of(SHOP_FT, NEWS_FT))
    return fakestore.write_store(tmp_path, grid_of(SHOP_ICL, tests=("shop", "film", "news"), shots=(0, 2)))


def test_they_stay_where_the_questions_are_the_same(folder: Path) -> None:
    results = table.load(folder, earlier=True)
    assert [variant.name for variant in results.grid.variants] == ["base", "shop-fticl", "shop-ft", "news-ft"]
    assert results.earlier == {SHOP_FT.key, NEWS_FT.key} and not results.missing
    of_earlier = [cell for cell in results.grid.cells if cell.variant == SHOP_FT.key]
    assert {(cell.test, cell.shots) for cell in of_earlier} == {("shop", 0), ("film", 0)}
    assert ("shop-ft", "film") in summaries.matrix(results) and ("shop-ft", "news") not in summaries.matrix(results)
    together = next(group for group in summaries.groups(results) if group.title == "Trained on shop")
    assert [variant.name for variant in together.variants] == ["shop-fticl", "shop-ft"]  # though it lacks a test set
    current = table.load(folder)
    assert [variant.name for variant in current.grid.variants] == ["base", "shop-fticl"] and not current.earlier


def test_what_is_broken_of_them_is_left_out_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another role would put its scores into another mean."""
    (path,) = (folder / "earlier").iterdir()
    path.write_text(path.read_text().replace('"in_domain"', '"cross_task"'))
    assert not table.load(folder, earlier=True).earlier
    assert tells(caplog.messages[0], path.name, "left out")
    fakestore.write_store(folder, grid_of(NEWS_ICL))  # another is kept beside it
    assert len(list((folder / "earlier").iterdir())) == 2
    assert [variant.name for variant in table.load(folder, earlier=True).grid.variants] == [
        "base",
        "news-fticl",
        "shop-fticl",
    ]


def test_other_questions_are_not_compared() -> None:
    """Another limit gives the base's cell another key; another protocol scores otherwise."""
    old, now = grid_of(SHOP_FT), grid_of(SHOP_ICL)
    asked_more = replace(now, cells=tuple(replace(cell, key=f"{cell.key}x") for cell in now.cells))
    for grid in (asked_more, replace(now, protocol="paper")):
        assert with_earlier(grid, [old]) == (grid, frozenset())
    assert with_earlier(now, [old])[1] == {SHOP_FT.key}


def test_a_name_that_is_taken_is_marked() -> None:
    again = replace(SHOP_FT, key="other", name="shop-fticl", recipe_key=SHOP_ICL.recipe_key)
    made, _ = with_earlier(grid_of(SHOP_ICL), [grid_of(again)])
    assert [variant.name for variant in made.variants] == ["base", "shop-fticl", "shop-fticl (earlier)"]
    assert made.variants[2].recipe_key == "other"  # no seed of the recipe of now


def test_what_was_deleted_is_gone(folder: Path) -> None:
    store = Store(folder)
    store.delete(store.unused(store.grid()))
    assert store.earlier() == [] and not table.load(folder, earlier=True).earlier


def test_the_page_says_what_is_new_and_what_is_from_before(folder: Path, tmp_path: Path) -> None:
    def said(day: int, earlier: bool = True) -> str:
        to = tmp_path / "report.html"
        page.write(table.load(folder, earlier=earlier), folder, to, today=date(2026, 3, day))
        return to.read_text("utf-8")

    first = said(1)
    assert "New since" not in first and first.count("<small>from an earlier form</small>") == 2
    fakestore.write_store(folder, grid_of(SHOP_ICL, NEWS_ICL, tests=("shop", "film", "news"), shots=(0, 2)))
    for day in (2, 3):  # written again, it says the same
        assert "New since the report of 2026-03-01: news-fticl." in said(day)
    only = said(4, earlier=False)
    assert "No longer here: shop-ft and news-ft." in only and "from an earlier form" not in only
