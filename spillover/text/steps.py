"""The steps of a training: which samples each of them holds. They are known before the training begins.

Rows are shuffled anew for each epoch, as transformers' Trainer shuffles them: epoch `e` has the permutation of the seed
plus `e`. The last step of an epoch holds the rows that are left. A step is made when it is asked for, from its number
alone, so that a training that was killed goes on with the step that comes next, whatever is drawn for a step.

The permutation is that of `torch.randperm`, made without torch, so that what each step holds can be checked beforehand.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np

from ..experiment.recipe import Recipe
from .compose import Composition, TooLong, Watched, made_for_steps, rows_before
from .samples import Sample


@dataclass(frozen=True)
class Order:
    """Which of so many `rows` have their turn in which step."""

    rows: int
    batch_size: int
    epochs: float
    seed: int

    @classmethod
    def of(cls, rows: int, recipe: Recipe) -> Order:
        return cls(rows, recipe.batch_size, recipe.num_train_epochs, recipe.seed)

    @property
    def an_epoch(self) -> int:
        """Steps in which every row has its turn once."""
        return ceil(self.rows / self.batch_size)

    @property
    def steps(self) -> int:
        return ceil(self.epochs * self.an_epoch)

    @property
    def turns(self) -> int:
        """How many turns rows have, in all steps together."""
        return rows_before(self.steps, self.rows, self.batch_size)

    def of_step(self, step: int) -> Sequence[int]:
        """The rows whose turn it is in a step."""
        if not 0 <= step < self.steps:
            raise IndexError(step)
        epoch, place = divmod(step, self.an_epoch)
        first = place * self.batch_size
        return shuffled(self.rows, self.seed + epoch)[first : first + self.batch_size]


@dataclass(frozen=True)
class Steps(Sequence[list[Sample]]):
    """The optimiser steps of a training. `composition` makes the samples of a step from its number and its rows."""

    order: Order
    composition: Composition

    @property
    def longest(self) -> int:
        """No sample has more tokens."""
        return self.composition.longest

    @property
    def watched(self) -> Watched | None:
        """The samples whose loss is measured meanwhile."""
        return self.composition if isinstance(self.composition, Watched) else None

    def __len__(self) -> int:
        return self.order.steps

    def __getitem__(self, step: Any) -> Any:
        return self.composition.of_step(step, self.order.of_step(step))

    def too_long(self, done: int) -> TooLong:
        """What samples lost in the first steps, so many as are `done`, because they were too long."""
        made = made_for_steps(self.composition)
        if made is None:
            return TooLong()
        for step in set(range(done)) - set(made.too_long):  # of a process that was killed
            self[step]
        return sum((made.too_long[step] for step in range(done)), TooLong())


def steps_of(composition: Composition, recipe: Recipe) -> Steps:
    """The steps of a training on samples that are made so."""
    return Steps(Order.of(composition.rows, recipe), composition)


@lru_cache(maxsize=2)
def shuffled(rows: int, seed: int) -> list[int]:
    """The numbers below `rows` in the order of `torch.randperm` under that seed (Fisher and Yates, from the front)."""
    order = list(range(rows))
    drawn = np.random.RandomState(seed % 2**32).randint(0, 2**32, rows, dtype=np.uint32)
    for place, far in enumerate((drawn % np.arange(rows, 0, -1)).tolist()):
        order[place], order[place + far] = order[place + far], order[place]
    return order


def dealt(samples: Sequence[Sample], processes: int, shares: bool) -> list[list[Sample]]:
    """The samples of a step for each of several processes, so that the largest share has as few tokens as possible.

    `shares`: samples of one process compute a common prefix once, so neighbours stay together. A process may get none.
    """
    line = sorted(range(len(samples)), key=lambda place: (samples[place].apart, samples[place].ids))
    alone = [len(samples[place].ids) for place in line]
    behind = list(alone)  # tokens of each, behind the one before it
    for number, (before, place) in enumerate(pairwise(line), start=1):
        one, other = samples[before], samples[place]
        if shares and one.apart is other.apart:
            behind[number] -= _common(one.ids, other.ids)

    def cut(most: int) -> list[list[int]]:
        """The line in pieces of at most so many tokens, each as long as it can be."""
        pieces: list[list[int]] = []
        size = most
        for number, place in enumerate(line):
            size += behind[number]
            if not pieces or size > most:
                pieces.append([])
                size = alone[number]
            pieces[-1].append(place)
        return pieces

    least = max(alone, default=0)
    most = least + bisect_left(range(sum(alone)), True, key=lambda more: len(cut(least + more)) <= processes)
    pieces = cut(most)
    pieces += [[] for _ in range(processes - len(pieces))]
    return [[samples[place] for place in sorted(piece)] for piece in pieces]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
