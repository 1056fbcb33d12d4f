"""A score of a task of lm-evaluation-harness: its name, its scale and its direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MADE_UP = 20  # texts of a document that are scored as answers, to know the scale of a score
OF_PAIRS = {"weighted_perplexity", "bits_per_byte", "f1_score"}  # aggregations of two numbers a document
TRIED = 5  # documents that this is done for: a task may give some of them no score


@dataclass(frozen=True)
class Score:
    """One of a task's scores, as lm-evaluation-harness calls it: metric and filter.

    `way` is how the scores of documents become one: `share` is the mean of zeros and ones, `fraction` that of numbers
    from 0 to 1, `mean` that of any numbers, and `other` is known to lm-evaluation-harness alone.
    """

    name: str
    way: str
    higher_is_better: bool = True

    @property
    def key(self) -> str:
        """What `analysis.harness` makes a metric of."""
        return f"{self.name}|{self.way}" + ("" if self.higher_is_better else "|lower")

    @property
    def may_be_first(self) -> bool:
        """Whether verdict and matrix may show it: a mean of numbers from 0 to 1, better the higher it is."""
        return self.way in ("share", "fraction") and self.higher_is_better


def is_fraction(values: Sequence[Any]) -> bool:
    """Whether all scores are from 0 to 1, as far as they are known."""
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and 0 <= value <= 1 + 1e-9 for value in known)


def adds_up(way: str, values: Sequence[Any]) -> bool:
    """Whether scores of documents, as far as they are known, are what their aggregation takes: numbers, or pairs."""
    known = [value for value in values if value is not None]
    if way in OF_PAIRS:
        return all(isinstance(value, (list, tuple)) and len(value) == 2 for value in known)
    return all(isinstance(value, (int, float)) for value in known)


def texts_of(value: Any) -> list[str]:
    """All texts of a document."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [text for one in inside for text in texts_of(one)]
