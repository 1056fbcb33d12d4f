"""`spillover clean`: free the disk without losing a result.

Weights are large. Cells are small, and they are what takes time to compute. By default only the weights of trained
variants whose cells are all there, and from which nothing is still to be made, are deleted. With `unused`, so is what
the last run does not name. What that is says the plan in the folder: `Store.grid` refuses one that is not the last
run's, so that nothing is deleted by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..analysis.choices import choices, chosen
from ..checks.training import count
from ..disk import size_on_disk
from ..plan.choice import awaiting, unasked
from ..plan.cost import gigabytes
from ..store.open import open_store

NAMED = 10  # of what is deleted, in a line


def clean(folder: Path, unused: bool, ask: Callable[[str], bool] | None) -> Iterator[str]:
    """Show what can be deleted, delete it after asking, and report what was freed.

    Raises StoreError for a folder without results or with a plan that is not the last run's, and StoreBusy if any
    process is working in it.
    """
    store = open_store(folder)
    grid = store.grid()
    with store.lock_all(grid):
        valid = store.valid(grid)
        made = chosen(choices(store, grid, valid))
        asked = grid.asked(unasked(grid.variants, made)).values()
        unfinished = {cell.variant for cell in asked if cell.key not in valid} | awaiting(grid.variants, made)
        needed = unfinished | {key for one in grid.variants if one.key in unfinished for key in one.made_from}
        done = [variant for variant in grid.made_here if variant.key not in needed]
        weights = {variant: size for variant in done if (size := store.weights_size(variant.key))}
        stale = {path: size_on_disk(path) for path in (store.unused(grid) if unused else [])}
        if not weights and not stale:
            yield "Nothing to clean."
            return
        if weights:
            yield _listed(
                f"Weights of {count(len(weights), 'variant')}", weights.values(), [one.name for one in weights]
            )
        for kind in ("variant", "cell"):
            if some := {path: size for path, size in stale.items() if path.parent.name == f"{kind}s"}:
                what = f"{count(len(some), kind)} that the last run does not name"
                yield _listed(what, some.values(), [f"{path.parent.name}/{path.name}" for path in some])
        total = sum(weights.values()) + sum(stale.values())
        if ask is not None and not ask(f"Delete this, {gigabytes(total)}?"):
            yield "Nothing deleted."
            return
        for variant in weights:
            store.drop_weights(variant.key)
        store.delete(list(stale))
        yield f"{gigabytes(total)} freed. Results stay; a new cell of a cleaned variant would train it again."


def _listed(what: str, sizes: Iterable[int], names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{what}, {gigabytes(sum(sizes))}: {', '.join(names[:NAMED])}{more}"
