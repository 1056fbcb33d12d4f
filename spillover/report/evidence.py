"""Judged claims for readers: records for the page and for programs, a table for the terminal.

Both contain the ruling, the expected range (with the margin that the claim's author chose), and for every place the
difference with its interval, its p-value after Holm's correction, n and seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from ..analysis.judge import RULINGS, Evidence, Judgement
from ..analysis.numbers import documents, noise, points, signed
from ..experiment.claims import Comparison
from ..stats.intervals import Interval

MARKS = {"supported": "✓", "contradicted": "✗", "insufficient evidence": "?", "missing": "–"}
STYLES = {"supported": "bold dodger_blue1", "contradicted": "bold dark_orange"}
SHOWN = 4  # places of a comparison that the terminal lists


def records(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """One dict for each claim, for JSON: a number that is not finite is None. Scores are from 0 to 1."""
    return [
        {
            "id": judgement.claim.id,
            "text": judgement.claim.text,
            "source": judgement.claim.source,
            "caveat": judgement.claim.caveat,
            "ruling": judgement.ruling,
            "summary": judgement.text,
            "seeds": judgement.seeds,
            "comparisons": [_record(one) for one in judgement.evidence],
            "missing": list(judgement.missing),
            "fill": judgement.fill,
        }
        for judgement in judgements
    ]


def _record(evidence: Evidence) -> dict[str, Any]:
    found = evidence.effect
    numbers = {} if found is None else {name: _plain(getattr(found, name)) for name in NUMBERS}
    return {
        "what": evidence.comparison.title,
        "where": evidence.where,
        "measure": evidence.comparison.measure,
        "holds": evidence.comparison.holds,
        "expected": expected(evidence.comparison),
        "ruling": evidence.ruling,
        "written": written(evidence),
        "cells_there": evidence.cells,
        "cells_wanted": evidence.wanted,
        **numbers,
    }


NUMBERS = (
    *("value", "interval", "p", "p_adjusted", "n", "clusters", "tests", "seeds", "draws"),
    *("mde", "noise_floor", "rounding_floor", "cells", "interval_over_sets"),
)


def _plain(value: Any) -> Any:
    if isinstance(value, Interval):
        return [_plain(value.low), _plain(value.high)]
    return None if isinstance(value, float) and not isfinite(value) else value


def expected(comparison: Comparison) -> str:
    """The range that a claim's author stated, with its unit."""
    unit = {"training_loss": " nats", "weight_deviation": ""}.get(comparison.measure, " points")
    return f"{comparison.expect}{unit}"


def written(evidence: Evidence) -> str:
    """The difference, its interval and the noise floor. A difference of scores is in points of 100."""
    found = evidence.effect
    if found is None:
        return "missing"
    numbers = (found.value, found.interval.low, found.interval.high)
    if evidence.comparison.scale == 100:
        value, low, high = map(points if evidence.comparison.theirs is None else signed, numbers)
    else:
        value, low, high = (f"{number:+.3g}".replace("-", "−") for number in numbers)
    seeds = f"; {floor}" if (floor := noise(found)) else ""
    return f"{value} [{low}, {high}{seeds}]" if isfinite(found.interval.half_width) else f"{value} (no interval)"


def table(judgements: Sequence[Judgement]) -> Group:
    """For the terminal: the claims with results, then those without, then how to read them."""
    columns = Column("", no_wrap=True), Column("claim", ratio=2), Column("evidence", ratio=3)
    grid = Table(*columns, box=box.SIMPLE, expand=True)
    nothing = [one for one in judgements if one.ruling == "missing"]
    below = ["Nothing has run of: " + ", ".join(one.claim.id for one in nothing)] if nothing else []
    below += [f"{one.claim.id}\n{one.fill}" for one in nothing if one.fill]
    for one in judgements:
        if one in nothing:
            continue
        said = Text("\n".join(filter(None, (one.claim.text, one.claim.source))), style="dim")
        said.append(f"\n{one.claim.caveat}" if one.claim.caveat else "", style="italic")
        grid.add_row(Text(one.claim.id, style="bold"), said, _evidence(one), end_section=True)
    return Group(*([grid] if grid.rows else []), *(Text(line, style="dim") for line in (*below, *NOTES)))


NOTES = (
    "Differences are in points of 100, with 95 % intervals. Supported: within the expected range. Contradicted: "
    "outside it. Both must hold after Holm’s correction over the claim’s comparisons. Else: insufficient evidence.",
    "The author of a claim chose its margins. Of 20 claims, at most about 1 is decided by chance alone.",
)


def _evidence(judgement: Judgement) -> Text:
    text = Text(judgement.ruling, style=STYLES.get(judgement.ruling, "bold"))
    text.append(f"\n{judgement.text}", style="not bold default")
    for comparison in judgement.claim.comparisons:
        ours = [one for one in judgement.evidence if one.comparison is comparison]
        holds = {"all": "", "any": ", somewhere", "majority": ", mostly"}[comparison.holds]
        text.append(f"\n{comparison.title}: {expected(comparison)}{holds}", style="not bold default")
        for line in _places(ours):
            text.append(f"\n  {line}", style="not bold dim default")
    if judgement.fill:
        text.append(f"\nmissing; add\n{judgement.fill}", style="not bold dim italic default")
    return text


def _places(evidence: Sequence[Evidence]) -> Iterator[str]:
    """Contradicted places first, then unclear and supported ones; the missing ones share a line."""
    order = ["contradicted", "insufficient evidence", "supported"]
    there = sorted((e for e in evidence if e.effect is not None), key=lambda e: order.index(e.ruling))
    for one in there[:SHOWN]:
        assert one.effect is not None
        part = "" if one.cells == one.wanted else f", {one.cells} of {one.wanted} cells"
        p = one.effect.p if one.effect.p_adjusted is None else one.effect.p_adjusted
        where = f"{one.where}: " if one.where else ""
        rests_on = documents(one.effect) if one.effect.n else f"seeds {one.effect.seeds}"
        yield f"{MARKS[one.ruling]} {where}{written(one)}, p {_p(p)}, {rests_on}{part}"
    rest = there[SHOWN:]
    if rest:
        counts = {ruling: sum(e.ruling == ruling for e in rest) for ruling in RULINGS}
        yield "and " + ", ".join(f"{count} {MARKS[ruling]}" for ruling, count in counts.items() if count)
    lacking = [e.where for e in evidence if e.effect is None]
    if lacking:
        more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
        yield f"{MARKS['missing']} missing {'; '.join(lacking[:SHOWN])}{more}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
