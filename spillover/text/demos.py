"""Which rows serve as demonstrations, and in which order.

A test set's demonstrations are one ordered list; k shots are its first k, so that shot counts nest (and
share their prefix). The list is the set's own where it has one, else rows from its end, which are then
not scored. `balanced` shuffles it, seeded by the draw, and deals the labels out in turn; `first` takes it as it
stands in draw 0 and shuffled in any other. Draws show other demonstrations as far as there are others: two draws of
k from a pool of p share k²/p on average, and of the whole pool they differ in order alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..experiment.schema import Pick
from .task import Example, Task

RESERVED = 16  # rows kept from the end of a set that has no list of its own: enough for every usual shot count


def pool_and_rows(
    rows: Sequence[Example],
    own: Sequence[Example],
    limit: int | None,
    reserve: int = RESERVED,
    score_demos: bool = False,
) -> tuple[tuple[Example, ...], tuple[Example, ...], int]:
    """(demonstration pool, rows to score, how many of the rows are demonstrations too and therefore left out).

    Rows to score are the first `limit`. Without a list of its `own`, the set's last `reserve` rows are the pool, or
    its last half: whatever `limit` is, so that a larger limit keeps the prompts of the rows it has. `score_demos`:
    nothing is left out, and what the third number counts is scored with its own answer in its prompt.
    """
    split = len(rows) - min(reserve, len(rows) // 2)
    pool = tuple(own or rows[split:])
    shown = {example.content for example in pool}
    within = tuple((rows if own or score_demos else rows[:split])[:limit])
    kept = tuple(example for example in within if example.content not in shown)
    return pool, within if score_demos else kept, len(within) - len(kept)


def mostly_reordered(pool: int, shot_counts: Sequence[int], draws: int) -> list[int]:
    """The shot counts at which several draws show mostly the same demonstrations: more than half of the pool."""
    return [shots for shots in shot_counts if draws > 1 and 2 * shots > pool]


def order(pool: Sequence[Example], task: Task, pick: Pick, draw: int) -> tuple[Example, ...]:
    """The pool in the order in which demonstrations are taken from it. `first` with draw 0 is the list itself."""
    shuffled = list(pool)
    if pick == "balanced" or draw:
        random.Random(f"demonstrations {draw}").shuffle(shuffled)
    if pick == "first" or not task.is_classification:
        return tuple(shuffled)
    by_label = {label: [example for example in shuffled if example.target == label] for label in task.labels or ()}
    dealt: list[Example] = []
    while any(by_label.values()):
        dealt += [examples.pop(0) for examples in by_label.values() if examples]
    return tuple(dealt)
