"""`spillover clean`: free the disk without losing a result.

Weights are large. Cells are small, and they are what takes time to compute. By default only the weights of trained
variants whose cells are all there are deleted. With `unused`, so is what the current experiment does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..disk import size_on_disk
from ..store.store import Store


def clean(folder: Path, unused: bool, ask: Callable[[str], bool] | None) -> Iterator[str]:
    """Delete, after asking, and report what was freed.

    Raises StoreError for a folder without results, and StoreBusy if any process is working in it.
    """
    store = Store(folder)
    grid = store.grid()
    with store.lock_all(grid):
        valid = store.valid(grid)
        unfinished = {cell.variant for cell in grid.cells if cell.key not in valid}
        done = [v for v in grid.variants if v.kind == "trained" and v.key not in unfinished]
        sizes = {variant.key: size_on_disk(store.variant_folder(variant.key)) for variant in done}
        stale = store.unused(grid) if unused else []
        total = sum(sizes.values()) + sum(map(size_on_disk, stale))
        if total < 1_000_000 and not stale:
            yield "Nothing to clean."
            return
        question = f"Delete the weights of {sum(size > 1e6 for size in sizes.values())} variants"
        question += f" and {len(stale)} folders the experiment does not name" if stale else ""
        if ask is not None and not ask(f"{question}, {total / 1e9:.1f} GB?"):
            yield "Nothing deleted."
            return
        for key in sizes:
            store.drop_weights(key)
        store.delete(stale)
        yield f"{total / 1e9:.1f} GB freed. Results stay; a new cell of a cleaned variant would train it again."
