"""`spillover clean`: free the disk without losing a result.

Weights are what is large; cells are small and are what cost time. By default only the weights of trained variants
whose cells are all there go. `unused` adds what the current experiment does not name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..api import load
from ..disk import size_on_disk
from ..plan.grid import Grid
from ..store.store import Store


def clean(folder: Path, unused: bool, ask: Callable[[str], bool] | None) -> Iterator[str]:
    """Delete, after asking, and say what was freed. Raises StoreError where no results are."""
    store = Store(load(folder).folder)
    grid = Grid.read(store.folder / "grid.json")
    with store.lock():
        weights = [
            variant for variant in grid.variants if variant.kind == "trained" and _is_done(grid, store, variant.key)
        ]
        sizes = {variant.key: size_on_disk(store.variant_folder(variant.key)) for variant in weights}
        stale = store.unused({v.key for v in grid.variants}, {c.key for c in grid.cells}) if unused else []
        total = sum(sizes.values()) + sum(size_on_disk(path) for path in stale)
        if total < 1_000_000 and not stale:
            yield "Nothing to clean."
            return
        question = f"Delete the weights of {sum(size > 1e6 for size in sizes.values())} variants"
        question += f" and {len(stale)} folders the experiment does not name" if stale else ""
        if ask is not None and not ask(f"{question}, {total / 1e9:.1f} GB?"):
            yield "Nothing deleted."
            return
        for variant in weights:
            store.drop_weights(variant.key)
        for path in stale:
            shutil.rmtree(path)
        yield f"{total / 1e9:.1f} GB freed. Results stay; a new cell of a cleaned variant would train it again."


def _is_done(grid: Grid, store: Store, key: str) -> bool:
    return all(store.is_valid(cell) for cell in grid.cells if cell.variant == key)
