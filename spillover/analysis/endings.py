"""How answers in free text ended: at a stop string, at an end token, or at the limit of tokens.

A base model often runs on after its answer, and what it adds counts against it. A fine-tuned model ends by itself. Then
a part of the gain is that the model has learnt where to end, so a large difference is told beside the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..plan.grid import Cell, TestInfo
from ..text.stops import LINE_BREAK
from .results import Results, grouped

LIMIT_GAP = 0.2  # shares of answers: a difference between base and variant is told from here on
END_GAP = 0.3


class Endings(NamedTuple):
    """The share of answers that ended in each way."""

    stop: float
    end: float
    limit: float

    def __str__(self) -> str:
        said = f"{self.end:.0%} ended by themselves, {self.stop:.0%} at a stop string, {self.limit:.0%} at the limit"
        return said.replace("%", " %")


@lru_cache(maxsize=1)
def endings(results: Results) -> dict[tuple[str, str], Endings]:
    """By variant name and test set."""
    cells = grouped(results.grid.cells, lambda cell: (results.variants[cell.variant].name, cell.test))
    return {key: found for key, own in cells.items() if (found := _of(results, own))}


def _of(results: Results, cells: Iterable[Cell]) -> Endings | None:
    counts = [results.ended[cell.key].statistics.sum(axis=0) for cell in cells if cell.key in results.ended]
    if not counts or not (total := np.sum(counts, axis=0)).any():
        return None
    return Endings(*(total / total.sum()).tolist())


def told(results: Results) -> Iterator[str]:
    """A line for each test set on which base and a variant end their answers so differently that scores show it."""
    base = {cell.condition: cell for cell in results.cells_of_base if cell.key in results.ended}
    cells = [cell for cell in results.grid.cells if cell.condition in base and cell.key in results.ended]
    for test, of_test in grouped(cells, lambda cell: cell.test).items():
        found = []
        for variant, own in grouped(of_test, lambda cell: results.variants[cell.variant].name).items():
            theirs, ours = _of(results, [base[cell.condition] for cell in own]), _of(results, own)
            if theirs and ours and (gap := _gap(theirs, ours, results.tests[test])):
                found.append((abs(gap), gap, variant, theirs, ours))
        if found:
            _, gap, variant, theirs, ours = max(found)
            yield _line(results.tests[test], variant, theirs, ours, gap)


def _gap(theirs: Endings, ours: Endings, test: TestInfo) -> float:
    """By how much more answers of the base ran on than of the variant; 0 if that is too little to be told.

    What ends at the limit ran on. What a stop cut ran on as well, unless the stop is a line break: then both sides are
    cut at the same place.
    """
    limit, end = theirs.limit - ours.limit, ours.end - theirs.end
    if abs(limit) >= LIMIT_GAP:
        return limit
    return end if _ends_late(test) and abs(end) >= END_GAP else 0.0


def _ends_late(test: TestInfo) -> bool:
    """Whether an answer may go on after its first line before a stop cuts it."""
    return bool(test.stop) and LINE_BREAK not in test.stop


def _line(test: TestInfo, variant: str, theirs: Endings, ours: Endings, gap: float) -> str:
    so = "larger" if gap > 0 else "smaller"
    mend = r' Where answers are one line, stop: ["\n"] ends all of them alike.' if _ends_late(test) else ""
    what = f"How answers ended on {test.title or test.name}. Of the base: {theirs}. Of {variant}: {ours}."
    return f"{what} What is written after an answer counts against it, so a gain looks {so} than it is.{mend}"
