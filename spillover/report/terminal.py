"""Verdict and generalisation matrix on a terminal, as on the page.

Variants that were trained on the same set share a table, since what is in-domain for one training set is cross-task for
another. With room, rows are variants and columns test sets by role; without, the table is turned, rows test sets under
a heading per role, and the variants go into as many tables as they need, each with the base for comparison.

Colour is never needed: an arrow says the direction of a change that is beyond chance, and its absence that there is
insufficient evidence. Blue and orange, which the common forms of colour-blindness keep apart, only repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from ..analysis.contrasts import ALPHA
from ..analysis.effects import noise
from ..analysis.metrics import METRICS
from ..analysis.numbers import points, signed, signed_interval
from ..analysis.results import ROLE_TITLES, Results
from ..analysis.summaries import Group, MatrixEntry, groups, matrix
from ..analysis.verdict import caveats, verdicts
from ..plan.grid import TestInfo, Variant

UP, DOWN = "bold dodger_blue1", "bold dark_orange"
CELL_WIDTH = 15  # "[−12.3, +45.6]" and a gap
NAME_WIDTH = 24  # longer names are folded


def show(results: Results, console: Console) -> None:
    """Print the verdict, the matrix, and what their figures are."""
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
    """Print the matrix of all variants, then what its figures are."""
    for group in groups(results):
        console.print()
        console.print(Text(group.title, style="bold"))
        for table in _tables(results, group, console.width):
            console.print(table)
    console.print()
    for note in notes(results):
        console.print(Text(note, style="dim"))


def _tables(results: Results, group: Group, width: int) -> Iterator[Table]:
    tests = [test for _, of_role in group.columns for test in of_role]
    names = min(NAME_WIDTH, max(len(v.name) for v in results.grid.variants)) + 2
    base = [results.base] if results.base else []
    if group.variants and names + CELL_WIDTH * len(tests) + 2 * len(group.columns) <= width:
        yield _by_variant(results, group, [*base, *group.variants])
        return
    names = min(NAME_WIDTH, max(len(t.name) for t in tests)) + 2
    room = max(1, (width - names - CELL_WIDTH * len(base)) // CELL_WIDTH)
    for start in range(0, len(group.variants) or 1, room):
        yield _by_test(results, group, [*base, *group.variants[start : start + room]])


def _by_variant(results: Results, group: Group, variants: Sequence[Variant]) -> Table:
    """Rows are variants; the columns of a role stand together under its name."""
    table = Table(Column("", overflow="fold", max_width=NAME_WIDTH), box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for role, tests in group.columns:
        for i, test in enumerate(tests):
            head = Text(ROLE_TITLES[role] if i == 0 else "", style="italic")
            head.append(f"\n{test.name}", style="bold not italic").append(
                f"\n{_what(results, test)}", style="dim not italic"
            )
            table.add_column(head, overflow="fold", min_width=CELL_WIDTH - 2)
    for variant in variants:
        cells = [_cell(results, variant, test) for _, tests in group.columns for test in tests]
        table.add_row(Text(variant.name, style="bold"), *cells)
    return table


def _by_test(results: Results, group: Group, variants: Sequence[Variant]) -> Table:
    """Rows are test sets; a heading and a rule set the roles apart."""
    table = Table(Column("", overflow="fold", max_width=NAME_WIDTH), box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    for variant in variants:
        table.add_column(Text(variant.name, style="bold"), overflow="fold", min_width=CELL_WIDTH - 2)
    for role, tests in group.columns:
        if role:
            table.add_row(Text(ROLE_TITLES[role], style="italic"))
        for i, test in enumerate(tests):
            name = Text(test.name, style="bold").append(f"\n{_what(results, test)}", style="dim not bold")
            cells = [_cell(results, variant, test) for variant in variants]
            table.add_row(name, *cells, end_section=i == len(tests) - 1)
    return table


def _what(results: Results, test: TestInfo) -> str:
    """The metric and how many documents it rests on."""
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
    text.append(f" {_change(entry)}", style=_style(entry))
    text.append(f"\n{signed_interval(entry.delta_interval)}", style="dim")
    floor = noise(entry.change) if entry.change else ""
    return text.append(f"\nseeds {floor}", style="dim") if floor else text


def _change(entry: MatrixEntry) -> str:
    assert entry.delta is not None
    arrow = ("▲" if entry.delta > 0 else "▼") if entry.is_clear else " "
    return f"{arrow} {signed(entry.delta)}"


def _style(entry: MatrixEntry) -> str:
    if not entry.is_clear or entry.delta is None:
        return ""
    return UP if entry.delta > 0 else DOWN


def notes(results: Results) -> list[str]:
    """What a reader of the matrix must know."""
    settings = sorted({entry.planned for entry in matrix(results).values()}) or [0]
    many = str(settings[0]) if len(settings) == 1 else f"{settings[0]} to {settings[-1]}, by test set,"
    lines = [
        f"Scores of 100, each the mean over shots and prompts ({many} settings); n is documents, "
        "and brackets are 95 % intervals, each for itself.",
    ]
    compared = [entry for entry in matrix(results).values() if entry.delta is not None]
    if compared:
        lines.append(
            "The base shows its score's interval; the others their change from the base on the same rows, and its "
            f"interval. ▲ ▼ beyond chance: p < {ALPHA} after Holm over the {len(compared)} changes; no arrow: "
            "insufficient evidence."
        )
    if any(entry.cells != entry.planned for entry in matrix(results).values()):
        lines.append(
            "* not all cells have run: the score is over those that have, the change over those the base has too."
        )
    if results.missing:
        lines.append(f"{len(results.missing)} of {len(results.grid.cells)} cells are missing.")
    return lines
