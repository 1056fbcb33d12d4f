"""Large grids: what plan, status and workers do grows with the cells, not with variants times cells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fakestore
import pytest
from plans import plan_of

from spillover.fingerprint import canonical, fingerprint, fingerprint_of_list
from spillover.plan.cost import NOTHING, estimate
from spillover.plan.grid import Cell, Grid
from spillover.report.plan import standing
from spillover.store.store import Store
from spillover.work.left import Left

FEW = 5  # walks over all cells, however many variants there are


class Walked(tuple[Cell, ...]):
    """Cells that count how often somebody goes through all of them."""

    walks = 0

    def __iter__(self) -> Iterator[Cell]:
        Walked.walks += 1
        return super().__iter__()


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> type[Walked]:
    monkeypatch.setattr(Walked, "walks", 0)
    return Walked


def walked(grid: Grid) -> Grid:
    return replace(grid, cells=Walked(grid.cells))


def test_status_goes_through_the_cells_a_few_times(tmp_path: Path, walks: type[Walked]) -> None:
    grid = walked(fakestore.many(20))
    store = Store(tmp_path)
    assert not store.valid(grid)
    standing(grid, {})
    assert walks.walks <= FEW < len(grid.variants)


def test_plan_and_worker_go_through_the_cells_a_few_times(
    tmp_path: Path, walks: type[Walked], smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan_of(train__seeds=list(range(10)))
    plan = replace(made, grid=walked(made.grid))
    estimated = estimate(plan, NOTHING)
    assert (estimated.cells, estimated.missing) == (len(plan.grid.cells),) * 2
    assert walks.walks <= FEW < len(plan.grid.variants)
    left = Left(plan, Store(tmp_path))
    before = walks.walks
    for job in left.longest_first(left.jobs()):
        left.look([job.variant.key])
    assert walks.walks == before, "one variant is looked at without the others"
    assert sum(map(len, left.missing.values())) == plan.grid.size


def test_a_sheet_is_written_out_once_for_all_variants(smollm2: Path) -> None:
    plan = plan_of()
    for cell in plan.grid.cells:
        rows = [[q.prompt_hash, q.example.doc_id, *q.example.right] for q in plan.sheets[cell.condition].questions]
        assert cell.key == fingerprint([cell.variant, rows])


def test_a_grid_is_written_with_a_line_for_each_cell() -> None:
    made = fakestore.make_grid()
    grid = replace(made, validation=made.cells[:2])
    text = grid.to_json()
    assert json.loads(text) == json.loads(json.dumps(asdict(grid)))
    assert [sum(cell.key in line for line in text.splitlines()) for cell in grid.cells[:3]] == [2, 2, 1]
    for some in (grid, replace(grid, cells=(), validation=())):
        assert Grid.read(some.to_json().encode()) == some


def test_receipts_hold_what_they_share_once(tmp_path: Path) -> None:
    """A million receipts fit into memory only if the words that all of them have are there once."""
    grid = fakestore.make_grid()
    receipts = list(Store(fakestore.write_store(tmp_path, grid)).valid(grid).values())
    names = [{id(name) for receipt in receipts for name in receipt if name == wanted} for wanted in receipts[0]]
    assert set(map(len, names)) == {1}
    assert len({id(receipt["versions"]["torch"]) for receipt in receipts}) == 1


def test_a_list_has_one_fingerprint_whole_or_in_parts() -> None:
    items: list[Any] = ["ä", [1, 2.5, {"b": None, "a": "\ud800"}], []]
    assert fingerprint_of_list(*map(canonical, items)) == fingerprint(items)
