"""What `spillover check` prints: the audit of the rows, the preflight of the prompts, and the other findings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..checks.audit import Audited
from ..checks.check import Checked
from ..checks.defects import as_counts
from ..checks.prompts import Preflight, PromptCheck
from ..checks.rows import Progress
from ..errors import Finding, Level
from ..work.progress import LOG_EVERY_S, duration

SUCH = 4  # row numbers in a table


def render(checked: Checked) -> RenderableType:
    """The audit data set by data set, the preflight, and what else was found."""
    reported = {finding for one in checked.audit for finding in one.findings()}
    rest = [finding for finding in checked.findings if finding not in reported]
    return Group(_audit_table(checked.audit), Text(), _preflight_table(checked.preflight), Text(), as_table(rest))


@contextmanager
def counting(console: Console, what: str) -> Iterator[Progress]:
    """A function that shows how much is done and the time left: on a terminal in one line, in a log now and then."""
    began = logged = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal logged
        now, share = time.monotonic(), done / max(total, 1)
        line = f"{what}: {share:.0%} · time left: {duration((now - began) * (1 - share) / max(share, 0.01))}"
        if status:
            status.update(line)
        elif now - logged > LOG_EVERY_S:
            logged = now
            console.print(line, highlight=False, markup=False)

    with console.status(what) if console.is_terminal else nullcontext() as status:
        yield show


def as_table(findings: Iterable[Finding]) -> RenderableType:
    """Findings under each other; the level is a word, colour only repeats it."""
    table = Table("level", "where", "what", box=None, header_style="bold", pad_edge=False)
    table.columns[1].max_width = 32
    for column in table.columns:
        column.overflow = "fold"
    for finding in findings:
        table.add_row(_level(finding.level), Text(finding.where), Text(finding.what))
    return table


def _level(level: Level) -> Text:
    return Text(level, style="bold yellow" if level == "warning" else "")


def _audit_table(audit: Sequence[Audited]) -> Table:
    """Each data set with its lists, and below them what was found: how many rows, how many of them scored, which."""
    table = Table("data", "rows", "scored", "what", "example rows", box=None, header_style="bold", pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for column in table.columns[3:]:
        column.overflow = "fold"
    by_dataset: dict[str, list[Audited]] = {}
    for audited in audit:
        by_dataset.setdefault(audited.rows.dataset, []).append(audited)
    for dataset, lists in by_dataset.items():
        table.add_row(Text(dataset, style="bold"))
        for audited in lists:
            rows = audited.rows
            scored = f"{len(rows.scored):,}" if rows.part == "test" else ""
            part = Text(f"  {rows.name.removeprefix(dataset).strip()}")
            table.add_row(part, f"{len(rows.rows):,}", scored, Text(_measures(audited), style="dim"))
            for defect in audited.defects:
                n = f"{len(defect.rows):,}" if defect.rows else ""
                among = f"{len(audited.scored(defect)):,}" if defect.rows and rows.part == "test" else ""
                table.add_row("", n, among, _what(defect.level, defect.what), _such(defect.rows))
    return table


def _measures(audited: Audited) -> str:
    """`labels yes 233, no 267; median tokens input_1 27, input_2 27`."""
    labels = "labels " + as_counts(audited.labels) if audited.labels else ""
    tokens = ", ".join(f"{name} {lengths.median:g}" for name, lengths in audited.lengths.items())
    return "; ".join(part for part in (labels, f"median tokens {tokens}" if tokens else "") if part)


def _what(level: Level, what: str) -> Text:
    return Text.assemble(_level(level), ": ", what) if level == "warning" else Text(what)


def _such(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:SUCH])) + (" …" if len(rows) > SUCH else "")


def _preflight_table(preflight: Preflight) -> Table:
    """A line for each label set and prompt format. `|` parts the tokens of a label, `·` is a space in them."""
    table = Table("task", "prompt", "answers", "longest", "BOS", "joint", "cut", box=None, header_style="bold")
    table.pad_edge = False
    table.columns[3].justify = "right"
    table.columns[2].overflow = "fold"
    for one in preflight.prompts:
        bos = " or ".join(map(str, sorted(set(one.bos.values()))))
        merged, tried = sum(len(joint.rows) for joint in one.joints), sum(joint.of for joint in one.joints)
        cut, of = sum(len(cut.too_long) for cut in one.cut), sum(cut.of for cut in one.cut)
        table.add_row(
            one.task,
            one.prompt,
            Text(_answers(one)),
            f"{one.longest:,} of {preflight.context:,}" if one.longest else "",
            bos,
            f"{merged} of {tried} merge" if merged else "clean",
            f"{cut} of {of:,}" if cut else "",
        )
    return table


def _answers(one: PromptCheck) -> str:
    if one.labels is None:
        return ("options in each row" if one.own_options else "text") if one.tests else "training only"
    return "  ".join("|".join(tokens).replace(" ", "·") for tokens in one.labels.values())
