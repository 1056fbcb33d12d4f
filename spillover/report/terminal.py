"""Verdict and generalisation matrix on a terminal, as on the page.

Variants that were trained on the same set share a table, since a test set that is in-domain for one training set is
cross-task for another. Rows are test sets under a heading for each role. Where the terminal is too narrow for all
variants there are several tables, each with the base.

Colour is never needed. An arrow shows the direction of a change beyond chance; no arrow means insufficient evidence.
Blue and orange, which colour-blind readers can tell apart, only repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from ..analysis.contrasts import ALPHA
from ..analysis.metrics import METRICS
from ..analysis.numbers import noise, points, signed, signed_interval
from ..analysis.results import ROLE_TITLES, Results
from ..analysis.summaries import Group, groups, matrix
from ..analysis.verdict import caveats, verdicts
from ..plan.grid import TestInfo, Variant

UP, DOWN = "bold dodger_blue1", "bold dark_orange"
CELL_WIDTH = 14  # "[−12.3, +45.6]"
GAP = 3  # between columns
NAME_WIDTH = 24  # longer names are folded


def show(results: Results, console: Console) -> None:
    """Print the verdict, the matrix, and how to read its numbers."""
    verdict(results, console)
    show_matrix(results, console)


def verdict(results: Results, console: Console) -> None:
    """Print which variant to ship, by training set, with a sentence for each."""
    found = verdicts(results)
    for one in found:
        console.print()
        console.print(Text(f"{one.title}: ", style="bold").append(one.advice).append(f" {one.why}", style="not bold"))
        for line in one.lines:
            console.print(Padding(Text(line.name, style="bold").append(f"  {line.sentence}", style="not bold"), (0, 2)))
    for caveat in caveats(results, found):
        console.print(Text(caveat, style="dim"))


def show_matrix(results: Results, console: Console) -> None:
    """Print the matrix of all variants, then how to read its numbers."""
    for group in groups(results):
        console.print()
        console.print(Text(group.title, style="bold"))
        for table in _tables(results, group, console.width):
            console.print(table)
    console.print()
    for note in notes(results):
        console.print(Text(note, style="dim"))


def _tables(results: Results, group: Group, width: int) -> Iterator[Table]:
    """As many tables as the width needs. A heading and a rule separate the roles."""
    tests = [test for _, of_role in group.columns for test in of_role]
    base = [results.base] if results.base else []
    names = min(NAME_WIDTH, max(max(len(test.name), len(_what(results, test))) for test in tests))
    room = max(1, (width - names) // (CELL_WIDTH + GAP) - len(base))
    for start in range(0, len(group.variants) or 1, room):
        variants = [*base, *group.variants[start : start + room]]
        table = Table(Column("", overflow="fold", max_width=NAME_WIDTH), box=box.SIMPLE_HEAD, pad_edge=False)
        for variant in variants:
            table.add_column(Text(variant.name, style="bold"), overflow="fold", min_width=CELL_WIDTH)
        for role, of_role in group.columns:
            if role:
                table.add_row(Text(ROLE_TITLES[role], style="italic"))
            for test in of_role:
                name = Text(test.name, style="bold").append(f"\n{_what(results, test)}", style="dim not bold")
                cells = [_cell(results, variant, test) for variant in variants]
                table.add_row(name, *cells, end_section=test is of_role[-1])
        yield table


def _what(results: Results, test: TestInfo) -> str:
    """The metric and the number of documents."""
    counts = {entry.n for (_, name), entry in matrix(results).items() if name == test.name}
    n = f"{min(counts)}–{max(counts)}" if len(counts) > 1 else str(*counts or {test.n})
    return f"{METRICS[test.metrics[0]].title}, n {n}"


def _cell(results: Results, variant: Variant, test: TestInfo) -> Text:
    entry = matrix(results).get((variant.name, test.name))
    if entry is None:
        return Text("missing", style="dim")
    text = Text(points(entry.score) + ("" if entry.cells == entry.planned else "*"))
    if entry.delta is None or entry.delta_interval is None:
        return text.append(f"\n[{points(entry.interval.low)}, {points(entry.interval.high)}]", style="dim")
    gains = entry.delta > 0
    arrow = (" ▲" if gains else " ▼") if entry.is_clear else "  "
    text.append(f"{arrow} {signed(entry.delta)}", style=(UP if gains else DOWN) if entry.is_clear else "")
    text.append(f"\n{signed_interval(entry.delta_interval)}", style="dim")
    floor = noise(entry.change) if entry.change else ""
    return text.append(f"\nseeds {floor}", style="dim") if floor else text


def notes(results: Results) -> list[str]:
    """What a reader of the matrix must know."""
    settings = sorted({entry.planned for entry in matrix(results).values()}) or [0]
    many = str(settings[0]) if len(settings) == 1 else f"{settings[0]} to {settings[-1]}, by test set,"
    lines = [
        f"Scores are of 100, each the mean over shots and prompts ({many} settings). n counts documents. Brackets are "
        "95 % intervals of single numbers.",
    ]
    compared = [entry for entry in matrix(results).values() if entry.delta is not None]
    if compared:
        lines.append(
            "The base has the interval of its score. The others have their change from the base on the same rows and "
            f"its interval. ▲ ▼: beyond chance, p < {ALPHA} after Holm’s correction over the {len(compared)} changes. "
            "No arrow: insufficient evidence."
        )
    if any(entry.cells != entry.planned for entry in matrix(results).values()):
        lines.append(
            "*: not all cells have run. The score is over those that have, the change over those that the base has too."
        )
    if results.missing:
        lines.append(f"{len(results.missing)} of {len(results.grid.cells)} cells are missing.")
    return lines
