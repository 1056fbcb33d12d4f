"""What each recipe keeps of the base, for readers: a table for the page, and rows for retention.csv.

Shares are of the base's score on the same documents. What one more demonstration adds is no share of a score: there the
table has the change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..analysis.numbers import counted, details, documents, percent, signed, signed_interval
from ..analysis.results import ROLE_TITLES, Results, recipe_name
from ..analysis.retention import Kept, Retention, kept

CAPTION = "What is left of the base’s score: variant divided by base on the same documents, with 95 % intervals"
ADDS, TO_BASE, LESS = "A demonstration adds, outside", "It adds to the base", "Difference"
COLUMNS = (
    *("recipe", "where", "base", "value", "share", "share_low", "share_high", "at_chance"),
    *("change", "ci_low", "ci_high", "p_value", "p_adjusted", "n", "clusters", "test_sets", "seeds"),
)


def rows(results: Results) -> Iterator[dict[str, Any]]:
    """A row of the page's table for each recipe of which anything was tested. What was not tested is empty."""
    for found in kept(results).values():
        left = {
            **{title.capitalize(): _share(found.roles.get(title)) for title in _titles()},
            "All outside": _share(found.outside),
            **_slope(found),
            "In-domain, other formats": _share(found.formats),
        }
        if any(left.values()):
            yield {"Variant": recipe_name(found.arm)} | left


def _titles() -> list[str]:
    return [ROLE_TITLES["out_of_domain"], ROLE_TITLES["cross_task"]]


def _share(one: Retention | None) -> Any:
    if one is None or one.share is None or one.interval is None:
        return ""
    ends = f"[{percent(one.interval.low, '')}, {percent(one.interval.high, '')}]"
    guess = "; the base cannot be told from guessing" if one.at_chance else ""
    return {"text": f"{percent(one.share)} {ends}", "note": f"{_basis(one)}{guess}"}


def _basis(one: Retention) -> str:
    parts = [counted(len(one.tests), "set"), documents(one.effect)]
    return ", ".join(parts + ([counted(one.effect.seeds, "seed")] if one.effect.seeds else []))


def _slope(found: Kept) -> dict[str, Any]:
    """What one more demonstration adds to the score, in points, and how much less or more that is than for the base."""
    one, empty = found.demonstrations, dict.fromkeys((ADDS, TO_BASE, LESS), "")
    if one is None:
        return empty
    change = f"{signed(one.effect.value)} {signed_interval(one.effect.interval)}"
    return {
        ADDS: signed(one.ours.value),
        TO_BASE: signed(one.base.value),
        LESS: {"text": change, "note": details(one.effect)},
    }


def tidy(results: Results) -> pd.DataFrame:
    """A row for each recipe and place: test sets outside, roles, all outside, other prompt formats."""
    found = [
        _values(recipe_name(one.arm), part)
        for one in kept(results).values()
        for part in (*one.sets.values(), *one.roles.values(), one.outside, one.formats)
        if part is not None
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _values(name: str, one: Retention) -> tuple[Any, ...]:
    e, ends = one.effect, one.interval
    shares = (None, None, None) if ends is None else (one.share, ends.low, ends.high)
    return (
        *(name, one.where, one.base, one.ours, *shares, one.at_chance),
        *(e.value, e.interval.low, e.interval.high, e.p, e.p_adjusted, e.n, e.clusters, len(e.tests), e.seeds),
    )
