"""What a gate decided, for the terminal, for a pull request (Markdown), and for programs (JUnit XML, JSON).

The decision comes first, as one sentence for each variant. Then comes a row for each question: the base's score, the
change, the share of the base's score that is kept, and the outcome. Exit codes are those of `errors.GATE_CODES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import isfinite
from typing import Any, Literal
from xml.etree import ElementTree as Xml

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..analysis.gate import Gate, Outcome, Question
from ..analysis.numbers import counted, listed, points, signed, signed_interval
from ..errors import GATE_CODES, visible
from ..experiment.gate import TIERS
from .exports import markdown

NAMED = 3  # questions that a sentence names
MANY = 20  # times as many rows: then no number is given
STYLES: dict[Outcome, str] = {"held": "", "broken": "bold dark_orange", "insufficient evidence": "dim"}


def exit_code(outcome: Outcome, failed: bool) -> int:
    """What was broken counts first; then that something failed, so that its questions have no answer."""
    return 1 if failed and outcome != "broken" else GATE_CODES[outcome]


def tell(gates: Sequence[Gate], console: Console) -> None:
    """Print a table and a sentence for each variant."""
    for gate in gates:
        console.print()
        console.print(Text(gate.variant, style="bold"))
        console.print(_table(gate))
        console.print(Text(f"{gate.outcome.upper()}: ", style="bold").append(sentence(gate), style="not bold"))
        for note in _notes(gate):
            console.print(Text(note, style="dim"))


def printed(gates: Sequence[Gate], format: Literal["md", "junit", "json"]) -> str:
    """The same as a document that ends in a line break."""
    return {"md": _markdown, "junit": _junit, "json": _json}[format](gates)


def sentence(gate: Gate) -> str:
    """What was decided, and by which questions."""
    share = f"{100 * gate.keep:g} %"
    critical = [one for one in gate.questions if one.tier == "critical"]
    if gate.outcome == "held":
        where = counted(len(critical), "critical question")
        return f"{gate.variant} keeps at least {share} of the base's score, or loses no more than allowed, in {where}."
    if gate.outcome == "broken":
        worst_first = sorted(gate.those("broken", "critical", "supporting"), key=lambda one: one.share or 0.0)
        lost = [f"{_where(one)} ({_kept(one)})" for one in worst_first]
        return f"{gate.variant} keeps less than {share} of the base's score on {_some(lost)}."
    unknown = [f"{_where(one)} ({_wanted(one)})" for one in gate.those("insufficient evidence", "critical")]
    return f"whether {gate.variant} keeps {share} of the base's score is not known on {_some(unknown)}."


def _some(parts: list[str]) -> str:
    more = [f"{len(parts) - NAMED} more"] if len(parts) > NAMED else []
    return listed([*parts[:NAMED], *more])


def _where(one: Question) -> str:
    return f"{one.test}, {one.use}"


def _kept(one: Question) -> str:
    """`61.2 % [52.0, 70.1]`; at chance, the change in points."""
    if one.change is None:
        return "not run"
    if one.share is None or one.kept is None:
        return f"{signed(one.change.value)} points {signed_interval(one.change.interval)}, base at chance"
    high = points(one.kept.high) if isfinite(one.kept.high) else "∞"
    return f"{points(one.share)} % [{points(one.kept.low)}, {high}]"


def _wanted(one: Question) -> str:
    """What it would take to decide."""
    if one.change is None:
        return "not run, or every row leaks"
    more = one.more_rows
    if more is None or more > MANY * one.change.n:
        return f"n {one.change.n}, too close to tell"
    return f"n {one.change.n}, about {_round(more):,} more rows would decide"


def _round(rows: int) -> int:
    """To two digits: it is a plan."""
    return round(rows, 2 - len(str(rows)))


def _notes(gate: Gate) -> Iterator[str]:
    yield (
        "A question holds if the lower end of the paired 95 % interval is above what is asked. It is broken if the "
        "upper end is below, and p < 0.05 after Holm over all critical and supporting questions. Every critical "
        "question must hold, no supporting one may be broken, and advisory ones decide nothing."
    )
    if gate.hardly_differs:
        yield f"{gate.variant} {gate.hardly_differs}."
    if some := list(dict.fromkeys(one.test for one in gate.questions if one.at_chance)):
        allowed = points(1 - gate.keep)
        yield (
            f"The base is not shown to be better than chance on {listed(some)}. There a loss of {allowed} points is "
            "allowed, and such a set shows little. Use a set that the base can do, or make it advisory."
        )


COLUMNS = ("test set", "shots", "prompt", "tier", "n", "base", "change", "kept", "outcome")


def _row(one: Question) -> list[str]:
    known = one.change
    change = "–" if known is None else f"{signed(known.value)} {signed_interval(known.interval)}"
    kept = "–" if one.share is None else _kept(one)
    n, base = ("–", "–") if known is None else (str(known.n), points(one.base))
    return [one.test, str(one.use.shots), one.use.prompt, one.tier, n, base, change, kept, one.outcome]


def _ordered(gate: Gate) -> list[Question]:
    return sorted(gate.questions, key=lambda one: TIERS.index(one.tier))  # stable: in the grid's order


def _table(gate: Gate) -> Table:
    """A row for each question, those of one tier together."""
    heads = [Column(name, justify="right") for name in ("base", "change", "kept")]
    table = Table(Column("", overflow="fold"), *heads, "", box=box.SIMPLE_HEAD, pad_edge=False)
    for tier, questions in groupby(_ordered(gate), key=lambda one: one.tier):
        table.add_row(Text(tier, style="italic"))
        for one in questions:
            *_, n, base, change, kept, outcome = _row(one)
            name = Text(one.test, style="bold").append(f"\n{one.use}, n {n}", style="dim not bold")
            numbers = (Text("\n[".join(cell.rsplit(" [", 1))) for cell in (change, kept))
            table.add_row(name, base, *numbers, Text(outcome, style=STYLES[one.outcome]))
        table.add_section()
    return table


def _markdown(gates: Sequence[Gate]) -> str:
    parts = []
    for gate in gates:
        parts.append(f"### spillover gate: {gate.outcome}\n\n{visible(sentence(gate))}\n")
        parts.append(markdown(COLUMNS, [_row(one) for one in _ordered(gate)]))
        parts.append("\n\n".join(_notes(gate)) + "\n")
    return "\n".join(parts)


def _json(gates: Sequence[Gate]) -> str:
    return json.dumps([_record(gate) for gate in gates], indent=1) + "\n"


def _record(gate: Gate) -> dict[str, Any]:
    return {
        "variant": gate.variant,
        "outcome": gate.outcome,
        "exit_code": GATE_CODES[gate.outcome],
        "keep": gate.keep,
        "sentence": sentence(gate),
        "questions": [_facts(one) for one in _ordered(gate)],
    }


def _facts(one: Question) -> dict[str, Any]:
    """Scores from 0 to 1. What was not run has no numbers."""
    facts: dict[str, Any] = {"test_dataset": one.test, "shots": one.use.shots, "prompt": one.use.prompt}
    facts |= {"tier": one.tier, "outcome": one.outcome}
    if one.change is None or one.margin is None:
        return facts
    change, margin, kept = one.change, one.margin, one.kept
    facts |= {"n": change.n, "clusters": change.clusters, "base": one.base, "at_chance": one.at_chance}
    facts |= {"change": change.value, "ci_low": change.interval.low, "ci_high": change.interval.high}
    facts |= {"kept": one.share, "kept_low": kept and kept.low}
    facts |= {"kept_high": kept.high if kept and isfinite(kept.high) else None}
    facts |= {"margin": margin.value, "margin_low": margin.interval.low, "margin_high": margin.interval.high}
    return facts | {"p_value": margin.p, "p_adjusted": margin.p_adjusted, "more_rows": one.more_rows}


def _junit(gates: Sequence[Gate]) -> str:
    """A suite for each variant and a case for each question. What does not fail the gate is skipped, with why."""
    root = Xml.Element("testsuites", name="spillover gate")
    for gate in gates:
        suite = Xml.SubElement(root, "testsuite", name=visible(gate.variant), tests=str(len(gate.questions)))
        for one in _ordered(gate):
            name = visible(_where(one))
            case = Xml.SubElement(suite, "testcase", classname=visible(gate.variant), name=name)
            if one.outcome != "held":
                fails = one.tier == "critical" or (one.tier == "supporting" and one.outcome == "broken")
                why = _kept(one) if one.outcome == "broken" else _wanted(one)
                message = f"{one.outcome}: {why} ({one.tier})"
                said = Xml.SubElement(case, "failure" if fails else "skipped", message=message)
                said.set("type", one.outcome)
        for kind, attribute in (("failure", "failures"), ("skipped", "skipped")):
            suite.set(attribute, str(len(suite.findall(f"testcase/{kind}"))))
    Xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(root, encoding="unicode")}\n'
