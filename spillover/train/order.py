"""The steps of a training: which samples each of them holds. They are known before the training begins.

Rows are shuffled anew for each epoch, as transformers' Trainer shuffles them: epoch `e` has the permutation of the seed
plus `e`. The last step of an epoch holds the rows that are left. A step is made when it is asked for, from its number
alone, so that a training that was killed goes on with the step that comes next, whatever is drawn for a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import torch

from ..experiment.recipe import Recipe
from ..text.compose import Composition, InContext, Watched, contexts_of
from ..text.samples import Sample


@dataclass(frozen=True)
class Steps(Sequence[list[Sample]]):
    """The optimiser steps of a training. `hold` makes the samples of a step from its number and its rows.

    `longest` is the number of tokens of the longest sample. `watched` has the samples whose loss is measured meanwhile,
    `contexts` the rows in context, if the steps have some.
    """

    rows: int
    batch_size: int
    epochs: float
    seed: int
    hold: Callable[[int, Sequence[int]], list[Sample]]
    longest: int
    watched: Watched | None = None
    contexts: InContext | None = None

    @property
    def an_epoch(self) -> int:
        """Steps in which every row has its turn once."""
        return ceil(self.rows / self.batch_size)

    def __len__(self) -> int:
        return ceil(self.epochs * self.an_epoch)

    def __getitem__(self, step: Any) -> Any:
        if not 0 <= step < len(self):
            raise IndexError(step)
        epoch, place = divmod(step, self.an_epoch)
        first = place * self.batch_size
        return self.hold(step, _shuffled(self.rows, self.seed + epoch)[first : first + self.batch_size])

    def contexts_cut(self, done: int) -> int:
        """How many samples more than needed the steps `done` had, because contexts were too long."""
        if self.contexts is None:
            return 0
        for step in set(range(done)) - set(self.contexts.more):  # of a process that was killed
            self[step]
        return sum(self.contexts.more[step] for step in range(done))


def steps_of(composition: Composition, recipe: Recipe) -> Steps:
    """The steps of a training on samples that are made so."""
    epochs, hold, longest = recipe.num_train_epochs, composition.of_step, composition.longest
    watched = composition if isinstance(composition, Watched) else None
    return Steps(
        composition.rows, recipe.batch_size, epochs, recipe.seed, hold, longest, watched, contexts_of(composition)
    )


@lru_cache(maxsize=2)
def _shuffled(rows: int, seed: int) -> list[int]:
    order: list[int] = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()
    return order
