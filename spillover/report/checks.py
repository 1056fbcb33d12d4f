"""What `spillover check` prints: the audit of the rows, the preflight of the prompts, and the other findings."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..checks.audit import Audited
from ..checks.check import Checked
from ..checks.defects import as_counts
from ..checks.kinds import Kind
from ..checks.prompts import Preflight, PromptCheck
from ..checks.rows import Counted
from ..errors import Finding, Level
from ..work.progress import LOG_EVERY_S, duration

SUCH = 4  # row numbers in a table
FEW = 4  # data sets that are shown list by list


def render(checked: Checked, verbose: bool = False) -> RenderableType:
    """The audit, the preflight, and what else was found. Data set by data set if these are few, or if it is `verbose`.

    Of many data sets, every warning has its line, and notes that differ in their numbers only share one.
    """
    reported = {finding for one in checked.audit for finding in one.findings()}
    rest = [finding for finding in checked.findings if finding not in reported]
    preflight = _preflight_table(checked.preflight)
    if verbose or len({one.rows.dataset for one in checked.audit}) <= FEW:
        return Group(_audit_table(checked.audit), Text(), preflight, Text(), as_table(rest))
    warnings = [finding for finding in checked.findings if finding.level == "warning"]
    notes = [*_by_kind(checked.audit), *_alike(finding for finding in rest if finding.level != "warning")]
    more = Text("Every list with its labels, lengths and example rows: --verbose, or --format json", style="dim")
    return Group(_counts(checked.audit), Text(), preflight, Text(), as_table([*warnings, *notes]), more)


def _counts(audit: Sequence[Audited]) -> Table:
    """A line for each data set: how many rows its lists have."""
    table = Table("data", "test", "scored", "demos", "train", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    by_dataset: dict[str, dict[str, list[str]]] = {}
    for one in audit:
        parts = by_dataset.setdefault(one.rows.dataset, {})
        parts.setdefault(one.rows.part, []).append(f"{len(one.rows.rows):,}")
        if one.rows.part == "test":
            parts["scored"] = [f"{len(one.rows.scored):,}"]
    for name, parts in by_dataset.items():
        table.add_row(Text(name), *(" ".join(parts.get(part, ())) for part in ("test", "scored", "demos", "train")))
    return table


def _by_kind(audit: Sequence[Audited]) -> Iterator[Finding]:
    """The notes of the audit, those of one kind as one: in which lists, and in how many of their rows."""
    places: dict[Kind, list[str]] = {}
    for one in audit:
        for defect in one.defects:
            if defect.level != "warning":
                number = f" {len(defect.rows):,}" if defect.rows else ""
                other = f" (of {defect.against})" if defect.against else ""
                places.setdefault(defect.named, []).append(f"{one.rows.name}{number}{other}")
    for kind, lists in places.items():
        yield Finding("note", f"{', '.join(lists)}; {kind.mend}", f"rows: {kind.name}")


def _alike(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Findings of one level that differ in their numbers only, as one: the first, and where the others are."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(re.sub(r"\d[\d,.]*", "#", finding.what), []).append(finding)
    for first, *others in found.values():
        more = " · ".join(dict.fromkeys(other.where for other in others if other.where != first.where))
        also = f"; alike, with other numbers: {more}" if more else ""
        yield Finding(first.level, f"{first.what}{also}", first.where)


@contextmanager
def counting(console: Console, what: str) -> Iterator[Counted]:
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
                table.add_row("", n, among, _what(defect.level, defect.advised), _such(defect.rows))
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
