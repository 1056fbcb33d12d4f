"""Writes what a folder of results holds in the form of another tool: one writer for each format.

A writer gets what is asked for (`Wanted`), puts its files below the output folder and nowhere else, and returns lines
for the user; the last one says what to do next. To add a format, add an entry to `WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ..data.packed import PACKS
from ..disk import disk_errors, within
from ..errors import StoreError
from . import card, checkpoint, every_eval_ever, lm_eval_results, lm_eval_tasks, scores, training_data
from .wanted import Wanted

WRITERS: Mapping[str, Callable[[Wanted], list[str]]] = MappingProxyType(
    {
        "lm-eval-tasks": lm_eval_tasks.write,
        "lm-eval-results": lm_eval_results.write,
        "every-eval-ever": every_eval_ever.write,
        "card": card.write,
        "checkpoint": checkpoint.write,
        "trl": partial(training_data.write, shape="trl"),
        "messages": partial(training_data.write, shape="messages"),
        "alpaca": partial(training_data.write, shape="alpaca"),
        "scores": scores.write,
    }
)


def export(
    folder: Path,
    format: str,
    output: Path | None,
    tests: tuple[str, ...] = (),
    variant: str | None = None,
    merged: bool = False,
) -> list[str]:
    """Write `folder` in a format below `output` (default: DIR/export/FORMAT). Returns lines for the user."""
    if merged and format != "checkpoint":
        raise StoreError("is for --format checkpoint", where="--merged", allowed="leave it out")
    place = output or folder / "export" / format
    if place.is_file() and place.suffix not in (".json", ".jsonl", *PACKS):
        raise StoreError("is a file", where=str(place), allowed="a folder for --output")
    if output is None:
        _refuse_links(folder, place)
    wanted = Wanted(folder, place, tests, variant, merged)
    with disk_errors(place):
        lines = WRITERS[format](wanted)
    wanted.store.publish(place)
    return lines


def _refuse_links(folder: Path, place: Path) -> None:
    """Raises StoreError for a link in the place of a folder, which a writer would follow."""
    for link in (place, *(path for path in place.rglob("*") if path.is_symlink())):
        within(folder, str(link.relative_to(folder) / "a file in it"))
