"""Which rows serve as demonstrations, and in which order.

The demonstrations of a test set are one ordered list. k shots are its first k, so shot counts nest and share their
prefix. The list is the set's own if it has one. Otherwise it is rows from its end, which are then not scored.
`balanced` shuffles the list, seeded by the draw, and takes the labels in turn. `first` takes it as it is in draw 0, and
shuffled in any other draw. Draws differ only as far as the pool allows: two draws of k from a pool of p share k²/p
demonstrations on average, and two draws of the whole pool differ only in order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..experiment.schema import Pick
from .task import Example, Task

RESERVED = 16  # rows at the end of a set without its own list that serve as the list: enough for usual shot counts


def pool_and_rows(
    rows: Sequence[Example],
    own: Sequence[Example],
    limit: int | None,
    reserve: int = RESERVED,
    score_demos: bool = False,
) -> tuple[tuple[Example, ...], tuple[Example, ...], int]:
    """(demonstration pool, rows to score, how many of the rows are demonstrations too and therefore left out).

    Rows to score are the first `limit`. Without its `own` list, the set's last `reserve` rows are the pool, or its last
    half. This does not depend on `limit`, so that a larger limit keeps the prompts of the present rows. `score_demos`:
    no row is left out, and the counted rows are scored with their own answer in their prompt.
    """
    split = len(rows) - min(reserve, len(rows) // 2)
    pool = tuple(own or rows[split:])
    shown = {example.content for example in pool}
    within = tuple((rows if own or score_demos else rows[:split])[:limit])
    kept = tuple(example for example in within if example.content not in shown)
    return pool, within if score_demos else kept, len(within) - len(kept)


def mostly_reordered(pool: int, shot_counts: Sequence[int], draws: int) -> list[int]:
    """The shot counts at which draws show mostly the same demonstrations, because they take most of the pool."""
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
