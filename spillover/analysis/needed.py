"""What it would take to decide, in rows and seeds: of a change, or of the share of the base's score that is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

from ..stats.needed import rows_needed, seeds_needed
from .contrasts import ALPHA, Effect, Term, effect
from .numbers import counted, listed
from .results import Results
from .retention import Retention


@dataclass(frozen=True)
class Needed:
    """How many more rows in each test set, or seeds of each recipe, find what was seen with 80 % power.

    None: they do not suffice alone.
    """

    rows: int | None
    seeds: int | None
    tests: tuple[str, ...]

    def __str__(self) -> str:
        """`about 140 more rows of quiz, or 2 more seeds`; empty if neither suffices."""
        where = f"of {self.tests[0]}" if len(self.tests) == 1 else f"in each of the {len(self.tests)} test sets"
        rows = [f"about {_rounded(self.rows):,} more rows {where}"] if self.rows else []
        seeds = [counted(self.seeds, "more seed")] if self.seeds else []
        return ", or ".join(rows + seeds)


def of_change(found: Effect) -> Needed:
    """To find a change as large as the one that was seen."""
    return _needed(found, found.value, 1 - ALPHA / found.compared)


def of_share(results: Results, retention: Retention, keep: float) -> Needed:
    """To decide whether at least the share `keep` is left, if what is left is what was seen."""
    clean = results.clean
    keys = set(retention.effect.cells)
    cells = [c for c in clean.grid.cells if c.key in keys and c.test in retention.tests]
    ours, theirs = (
        tuple(c for c in cells if (clean.variants[c.variant].kind == "base") is is_base) for is_base in (False, True)
    )
    found = effect(clean, [Term(1.0, ours), Term(-keep, theirs)])
    return Needed(None, None, retention.tests) if found is None else _needed(found, found.value, 1 - ALPHA)


def _needed(found: Effect, change: float, confidence: float) -> Needed:
    if found.is_within_rounding:  # more rows do not change what rounding does
        return Needed(None, None, found.tests)
    rows = rows_needed(found.chance, found.n, change, confidence)
    seeds = seeds_needed(found.chance, found.seeds, change, confidence)
    return Needed(None if rows is None else ceil(rows / len(found.tests)), seeds, found.tests)


def _rounded(number: int) -> int:
    """Up, to two digits: no plan is more exact."""
    unit = 10 ** max(0, int(log10(number)) - 1)
    return ceil(number / unit) * unit


def either(needs: Sequence[Needed]) -> str:
    """Several in one sentence, without repeating any."""
    return listed(list(dict.fromkeys(text for need in needs if (text := str(need)))))
