"""Verdict and generalisation matrix on a terminal, as on the page.

Variants that were trained on the same set share a table, since a test set that is in-domain for one training set is
cross-task for another. Rows are test sets under a heading for each role. Where the terminal is too narrow for all
recipes there are several tables, each with the base.

Colour is never needed. An arrow shows the direction of a change beyond chance; no arrow means insufficient evidence.
Blue and orange, which colour-blind readers can tell apart, only repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from ..analysis.numbers import noise, points, signed, signed_interval
from ..analysis.results import Results
from ..analysis.summaries import MatrixEntry
from ..analysis.verdict import caveats, verdicts
from .matrix import Block, Row, blocks, notes

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
        console.print(Text(f"{one.title}: ", style="bold").append(one.first).append(f" {one.why}", style="not bold"))
        for step in one.steps:
            console.print(Text(step.says))
            console.print(Text("  ").append(step.code, style="bold"), soft_wrap=True)  # in one line, to be copied
        for line in one.lines:
            console.print(Padding(Text(line.name, style="bold").append(f"  {line.sentence}", style="not bold"), (0, 2)))
    for caveat in caveats(results, found):
        console.print(Text(caveat, style="dim"))


def show_matrix(results: Results, console: Console) -> None:
    """Print the matrix of all recipes, then how to read its numbers."""
    for block in blocks(results):
        console.print()
        console.print(Text(block.title, style="bold"))
        for table in _tables(block, bool(results.base), console.width):
            console.print(table)
    console.print()
    for note in notes(results):
        console.print(Text(note, style="dim"))


def _tables(block: Block, has_base: bool, width: int) -> Iterator[Table]:
    """As many tables as the width needs. A heading and a rule separate the roles."""
    names = min(NAME_WIDTH, max(max(len(row.test.name), len(_what(row))) for row in block.rows))
    room = max(1, (width - names) // (CELL_WIDTH + GAP) - has_base)
    places = list(range(len(block.columns)))
    base, others = places[:has_base], places[has_base:]
    for start in range(0, len(others) or 1, room):
        shown = [*base, *others[start : start + room]]
        table = Table(Column("", overflow="fold", max_width=NAME_WIDTH), box=box.SIMPLE_HEAD, pad_edge=False)
        for i in shown:
            head = Text(block.columns[i].name, style="bold")
            head.append(f"\n{seeds}" if (seeds := block.columns[i].seeds) else "", style="dim not bold")
            head.append("\nearlier" if block.columns[i].earlier else "", style="dim not bold")
            table.add_column(head, overflow="fold", min_width=CELL_WIDTH)
        for role, rows in groupby(block.rows, lambda row: row.role):
            if role:
                table.add_row(Text(role, style="italic"))
            for row in rows:
                name = Text(row.test.name, style="bold").append(f"\n{_what(row)}", style="dim not bold")
                table.add_row(name, *(_cell(row.entries[i]) for i in shown))
            table.add_section()
        yield table


def _what(row: Row) -> str:
    return f"{row.metric}, n {row.n}"


def _cell(entry: MatrixEntry | None) -> Text:
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
    return text.append(f"\n{floor}", style="dim") if floor else text
