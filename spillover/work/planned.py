"""A plan in a folder: written once by `run` or `plan --write`, and made again from there by every `work`."""

from __future__ import annotations

from ..checks.rows import audit_run
from ..errors import StoreError
from ..plan.grid import Grid
from ..plan.plan import Plan, make_plan
from ..plan.questions import kept
from ..store.store import Store


def write(plan: Plan, store: Store) -> None:
    """Make `store` a folder that can be worked on. The grid is written last: it says that the rest is there."""
    store.write_experiment(plan.experiment, plan.base, plan.data_dir)
    store.write_claims(plan.experiment.claims)
    store.write_audit(audit_run(plan))
    for condition, sheet in plan.sheets.items():
        store.write_prompts(condition, kept(sheet))
    store.write_grid(plan.grid)


def read(store: Store) -> Plan:
    """The plan of a folder, made again from its experiment.

    Raises StoreError if that gives other variants or cells than were planned, as when a data file has changed.
    """
    grid = store.grid()
    plan = make_plan(*store.experiment())
    if _keys(plan.grid) != _keys(grid):
        raise StoreError(
            "its data, its model or the program have changed since it was planned",
            where=str(store.folder),
            allowed="plan it again: spillover plan FILE --write DIR",
        )
    return plan


def _keys(grid: Grid) -> tuple[set[str], set[str]]:
    return {variant.key for variant in grid.variants}, {cell.key for cell in grid.cells}
