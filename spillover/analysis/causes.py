"""Why a score fell on a test set, as far as stored answers tell.

Each answer of a recipe is sorted into a kind (`kind_of`), and so are those of the base to the same questions. The cause
of a loss is the kind that holds most of the lost points, if it is more frequent than in the base. If all answers keep
to the format, the loss may stand only where demonstrations are shown: then the recipe has lost what they gave. What is
left is a real loss: answers that keep to the format and are worse.

Labels and options that a model is forced to choose from have a format by construction. There, one answer to nearly all
rows is the only such cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from ..errors import visible
from ..plan.grid import Cell, TestInfo, Variant
from ..text.words import begins_with_label, plain, words
from .contrasts import difference, paired
from .metrics import Prediction, right
from .numbers import listed, signed
from .results import Results, grouped
from .rows import common_documents

Kind = Literal[
    "training labels",
    "other labels",
    "empty",
    "one answer",
    "long",
    "short",
    "demonstrations",
    "worse",
    "wrong choice",
    "unknown",
]

MOST = 0.5  # a cause holds at least this share of the lost points
ALIKE = 0.8  # from this share of equal answers on, a model gives one answer whatever is asked
LITTLE = 0.25  # without demonstrations, at most this share of what is lost with them
QUOTED = 40  # characters of an answer that a sentence quotes


@dataclass(frozen=True)
class Cause:
    """The cause of a loss. `count` of `of` answers are of this kind, and `of_base` of the base's.

    `example` is the most frequent of these answers. `by_shots` has the changes without and with demonstrations.
    """

    kind: Kind
    count: int = 0
    of: int = 0
    of_base: int = 0
    example: str = ""
    by_shots: tuple[tuple[int, float], ...] = ()

    @property
    def sentence(self) -> str:
        """What is said after a colon; empty if the answers are not stored."""
        many = f"all {self.of} of its answers" if self.count == self.of else f"{self.count} of its {self.of} answers"
        base = f" (the base: {self.of_base})" if self.of_base else ""
        if self.kind == "one answer":
            return f"{many} are “{self.example}”{base}"
        said = {
            "training labels": f"are labels of its training task, most often “{self.example}”",
            "other labels": f"are labels of another task, most often “{self.example}”",
            "empty": "are empty",
            "long": "run on: to the limit, past the right answer, or to more than twice its length",
            "short": "stop short: within the right answer, or before half its length",
        }
        if self.kind in said:
            return f"{many} {said[self.kind]}{base}"
        if self.kind == "demonstrations":
            found = listed([f"{signed(change)} at {shots} {_shots(shots)}" for shots, change in self.by_shots])
            return f"only where demonstrations are shown ({found})"
        worse = {
            "worse": "its answers keep to the format and are worse",
            "wrong choice": "it chooses wrongly more often",
        }
        return worse.get(self.kind, "")


def _shots(count: int) -> str:
    return "shot" if count == 1 else "shots"


@lru_cache(maxsize=4096)
def cause(results: Results, arm: tuple[Variant, ...], test: str) -> Cause:
    """Why the score of a recipe on a test set is below the base's."""
    ours, theirs = paired(results, [c for c in results.cells_of(arm) if c.test == test], results.cells_of_base)
    base = {cell.condition: cell for cell in theirs}
    if not ours or any(not results.answers(cell.key) for cell in (*ours, *theirs)):
        return Cause("unknown")
    sorter = Sorter.of(results, results.tests[test], arm[0].train_dataset)
    mine: list[tuple[Kind, str]] = []
    of_base: Counter[Kind] = Counter()
    lost: dict[Kind, float] = {}
    for cell in ours:
        there = base[cell.condition]
        said = {row["doc_id"]: row for row in results.answers(cell.key)}
        before = {row["doc_id"]: row for row in results.answers(there.key)}
        for doc, fall in _falls(results, cell, there):
            kind = sorter.kind_of(said[doc], before[doc])
            mine.append((kind, _quoted(said[doc])))
            of_base[sorter.kind_of(before[doc], before[doc])] += 1
            lost[kind] = lost.get(kind, 0.0) + max(fall, 0.0)
    kinds = Counter(kind for kind, _ in mine)
    worst: Kind = max(lost, key=lambda kind: lost[kind], default="worse")
    if worst != "worse" and lost[worst] >= MOST * sum(lost.values()) and kinds[worst] > of_base[worst]:
        example = Counter(text for kind, text in mine if kind == worst).most_common(1)[0][0]
        return Cause(worst, kinds[worst], len(mine), of_base[worst], example)
    return _one_answer(mine, [_quoted(row) for cell in theirs for row in results.answers(cell.key)]) or (
        _demonstrations(results, ours, theirs) or Cause("worse" if sorter.is_free_text else "wrong choice")
    )


def _falls(results: Results, ours: Cell, theirs: Cell) -> Iterator[tuple[int, float]]:
    """By how much the score of each document fell."""
    rows = [results.first_metric[cell.key] for cell in (ours, theirs)]
    common = common_documents(rows)
    after, before = (one.only(common).statistics[:, 0] for one in rows)
    yield from zip(common.tolist(), (before - after).tolist(), strict=True)


@dataclass(frozen=True)
class Sorter:
    """Sorts the answers to one test set. `trained` and `others` are labels that are no answer to it."""

    is_free_text: bool
    trained: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, results: Results, test: TestInfo, train_dataset: str | None) -> Sorter:
        grid = results.grid
        trained = grid.labels_of_train_task.get(train_dataset or "", ())
        every = [*(other.labels or () for other in grid.tests), *grid.labels_of_train_task.values()]
        others = dict.fromkeys(label for labels in every for label in labels if label not in trained)
        return cls(test.kind == "generation", trained, tuple(others))

    def kind_of(self, answer: Prediction, of_base: Prediction) -> Kind:
        """The kind of one answer; `of_base` answers the same question."""
        if not self.is_free_text:
            return "worse"
        text, wanted = str(answer["response"]), right(answer)
        if not text.strip():
            return "empty"
        named: dict[Kind, tuple[str, ...]] = {"training labels": self.trained, "other labels": self.others}
        for kind, labels in named.items():
            if begins_with_label(text, labels) and not any(begins_with_label(one, labels) for one in wanted):
                return kind
        said, every = words(text), [words(one) for one in wanted]
        if answer.get("ended") == "limit" != of_base.get("ended") or all(_is_longer(said, one) for one in every):
            return "long"
        return "short" if all(_is_longer(one, said) for one in every) else "worse"


def _is_longer(long: Sequence[str], short: Sequence[str]) -> bool:
    """Whether one text is the other and more, or is more than twice as long."""
    return len(long) > 2 * len(short) or (0 < len(short) < len(long) and long[: len(short)] == short)


def _one_answer(mine: Sequence[tuple[Kind, str]], of_base: Sequence[str]) -> Cause | None:
    """One answer to nearly all rows, which the base gives much less often."""
    [(text, count)] = Counter(text for _, text in mine).most_common(1)
    base = Counter(of_base)[text]
    if count < ALIKE * len(mine) or base > count * ALIKE:
        return None
    return Cause("one answer", count, len(mine), base, text)


def _demonstrations(results: Results, ours: Sequence[Cell], theirs: Sequence[Cell]) -> Cause | None:
    """A loss that stands where demonstrations are shown, and hardly or not without them."""
    changes = {}
    for shots, cells in grouped(ours, lambda cell: cell.shots).items():
        if found := difference(results, cells, [cell for cell in theirs if cell.shots == shots]):
            changes[shots] = found
    shown = [one.value for shots, one in changes.items() if shots]
    if 0 not in changes or not shown or changes[0].is_clear:
        return None
    with_them = float(np.mean(shown))
    if with_them >= 0 or changes[0].value < LITTLE * with_them:
        return None
    return Cause("demonstrations", by_shots=tuple((shots, changes[shots].value) for shots in sorted(changes)))


def _quoted(answer: Prediction) -> str:
    """An answer as a sentence quotes it."""
    text = visible(plain(str(answer["response"])))
    return text if len(text) <= QUOTED else f"{text[: QUOTED - 4]} and so on"
