"""What `spillover plan` prints: a row for each variant, and the cost of what is left."""

from __future__ import annotations

import shlex
from collections.abc import Container, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..analysis.choices import Choice, chosen
from ..analysis.numbers import counted
from ..disk import free_space
from ..plan.choice import unasked
from ..plan.cost import Estimate, VariantCost, gigabytes
from ..plan.grid import Grid
from ..work.execute import Worked
from ..work.progress import duration

DAY_S = 86_400.0
NAME_WIDTH = 24  # of a variant in the table, before it is folded


def render(estimate: Estimate, folder: Path) -> RenderableType:
    """A row a variant, and what it comes to."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    longest = max(len(cost.variant.name) for cost in estimate.variants)
    table.add_column("variant", overflow="fold", style="bold", min_width=min(longest, NAME_WIDTH))
    table.add_column("how", overflow="fold")
    for heading in ("cells\nthere", "tokens\nto train", "tokens\nto score"):
        table.add_column(heading, justify="right")
    for cost in estimate.variants:
        if _waits(cost):
            continue
        table.add_row(
            Text(cost.variant.name),
            Text(cost.how),
            f"{cost.cells - cost.missing:,} of {cost.cells:,}",
            amount(cost.train_tokens) if cost.train_tokens else "",
            amount(cost.tokens) if cost.missing else "",
        )
    return Group(table, *(Text(line) for line in closing(estimate, folder)))


def _waits(cost: VariantCost) -> bool:
    """Whether it is a seed, or a random change, that is made only if its recipe is chosen."""
    follows = bool(cost.variant.choices) or cost.variant.is_null
    return follows and not cost.cells and not cost.train_tokens


def closing(estimate: Estimate, folder: Path) -> list[str]:
    """The sum of it, in sentences."""
    if not estimate.missing:
        return [f"All {estimate.cells:,} cells are there: nothing is left to compute."]
    unshared = ""
    if estimate.tokens < estimate.tokens_plain:
        unshared = f" ({amount(estimate.tokens_plain)} if shared prefixes were not computed once)"
    lines = [
        f"{estimate.missing:,} of {estimate.cells:,} cells are missing. Tokens to score: about "
        f"{amount(estimate.tokens)}{unshared}; "
        f"to train: {amount(estimate.train_tokens)}."
    ]
    if estimate.processes > 1 and estimate.train_tokens:
        how = f"{estimate.processes} processes together ({estimate.parallel}), a device for each"
        lines.append(f"Each variant is trained by {how}: one variant at a time.")
    waiting = sum(map(_waits, estimate.variants))
    if estimate.unasked:
        lines.append(
            "Of each choice one alternative is tested: until it is made, the first stands for it. Asked validation "
            f"rows only: {counted(estimate.unasked - waiting, 'alternative')}."
        )
    if waiting:
        more = counted(waiting, "more variant")
        lines.append(f"Made only if their alternative is chosen: {more} (seeds, random changes).")
    if estimate.write_tokens:
        lines.append(f"Before that, the base model writes at most {amount(estimate.write_tokens)} tokens to train on.")
    if estimate.bytes_kept is None:
        lines.append("Disk: known once the model's weights are here.")
    elif estimate.train_tokens:
        lines.append(
            f"Weights that are kept: {gigabytes(estimate.bytes_kept)} (keep: {estimate.keep}); "
            f"{gigabytes(free_space(folder))} are free for {folder}."
        )
    dear = max(estimate.variants, key=lambda cost: cost.memory or 0)
    if dear.memory:
        what = f"Memory beside that of plain training: up to {gigabytes(dear.memory)} ({dear.variant.name})"
        lines.append(f"{what}, for what its penalty compares with.")
    if estimate.seconds is None:
        return [*lines, "Time: unknown until the first cell has been computed on this machine."]
    lines.append(f"Time: about {duration(estimate.seconds)} of one device, at the speed of this machine so far.")
    if estimate.seconds >= DAY_S:
        lines.append(
            "These are days: a smaller --limit, fewer test.shots or train.sizes make it shorter. "
            "A run can be stopped and goes on."
        )
    return lines


def amount(number: float) -> str:
    """A count in three digits or so: 950, 12 k, 1.2 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            return f"{scaled:.0f} {letter}" if scaled >= 10 else f"{scaled:.1f} {letter}"
    return f"{number:.0f}"


def standing(grid: Grid, valid: Container[str], made: Sequence[Choice] = ()) -> RenderableType:
    """How many cells of each variant are there, and what was chosen. `valid` are the keys of the cells that count.

    An alternative that is not chosen has only its cells on validation rows.
    """
    out = unasked(grid.variants, chosen(made))
    table = Table("variant", "cells done", "missing", box=None, header_style="bold", pad_edge=False)
    for variant in grid.variants:
        cells = grid.cells_of(variant.key, out)
        if not cells:
            continue  # what it was made from was not chosen, or not yet
        there = sum(key in valid for key in cells)
        table.add_row(variant.name, f"{there} of {len(cells)}", str(len(cells) - there) if there < len(cells) else "")
    return Group(table, *(Text(one.sentence) for one in made))


def where_it_stands(worked: Worked, folder: Path) -> str:
    """What `spillover work` did, what is left, and the next command."""
    place, done = shlex.quote(str(folder)), f"{worked.variant} is done. " if worked.variant else ""
    if not worked.left:
        return f"{done}Nothing is left. Next: spillover report {place}"
    left = ", ".join(worked.left)
    if not done:
        return f"Nothing to take now. Left, at work elsewhere or waiting for that: {left}"
    return f"{done}Left: {left}. Next: spillover work {place} --next"
