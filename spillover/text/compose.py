"""What the steps of a training hold: samples, made of the rows that the order of the training gives to each step.

A step is a pure function of the recipe, of its number and of its rows. So a training that was killed goes on with the
same samples, and none of them has to be kept. There is one class for each way to make samples of rows:

    Samples     every row is a sample, behind the same demonstrations in every step (`samples`)
    DrawnDemos  the rows of a step stand behind demonstrations that are drawn for this step
    InContext   the rows of a step stand one after the other in a few samples, with loss on every answer

`Mixed` adds samples of other data to the steps of one of these, `Beside` the same number of texts to each step.
`Watched` adds samples that are only looked at.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, floor
from typing import Protocol

from .samples import Maker, Sample
from .task import Example


@dataclass(frozen=True)
class TooLong:
    """What samples that are made for a step have lost: rows their demonstrations (`shortened`) or their place
    (`dropped`), and contexts some of their rows, so that there are `more` samples than needed."""

    shortened: int = 0
    dropped: int = 0
    more: int = 0

    def __add__(self, other: TooLong) -> TooLong:
        return TooLong(self.shortened + other.shortened, self.dropped + other.dropped, self.more + other.more)


class Composition(Protocol):
    """The samples of a training, a step at a time."""

    @property
    def rows(self) -> int:
        """How many rows an epoch has."""
        ...

    @property
    def longest(self) -> int:
        """No sample has more tokens."""
        ...

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        """The samples of a step, counted from 0, in which it is the turn of these rows. Depends on nothing else."""
        ...


@dataclass(frozen=True)
class DrawnDemos:
    """Up to `most` rows are drawn as demonstrations for each step, and stand before all its rows.

    Their number is uniform between 0 and `most`. `groups` has the leak group of each row: no row of a step, and none
    that shares a text with one, is drawn for it. All rows fit alone. `too_long` has what was lost in the steps that
    were asked for.
    """

    maker: Maker
    examples: Sequence[Example]
    groups: Sequence[int]
    most: int
    seed: int
    alone: int  # tokens of the longest row without demonstrations
    too_long: dict[int, TooLong] = field(default_factory=dict, compare=False)

    @property
    def rows(self) -> int:
        return len(self.examples)

    @property
    def longest(self) -> int:
        return min(self.maker.room, (self.most + 1) * self.alone)

    @cached_property
    def _sizes(self) -> Counter[int]:
        return Counter(self.groups)

    def drawn(self, step: int, rows: Sequence[int]) -> list[int]:
        """The demonstrations of a step. They are fewer than were drawn if too few rows remain."""
        draw = random.Random(f"demonstrations of step {step}, seed {self.seed}")
        count = draw.randint(0, self.most)
        taken = {self.groups[row] for row in rows}
        most_taken = sum(self._sizes[group] for group in taken)
        drawn = draw.sample(range(self.rows), min(self.rows, count + most_taken))
        return [row for row in drawn if self.groups[row] not in taken][:count]

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        demos = [self.examples[row] for row in self.drawn(step, rows)]
        made = self.maker.samples([self.examples[row] for row in rows], demos)
        self.too_long[step] = TooLong(made.rows_shortened, made.rows_dropped)
        return list(made.samples)

    def reach(self, step: int, rows: Sequence[int], sizes: Sequence[int]) -> int:
        """The size of the longest sample of a step, where rows have these sizes alone."""
        return sum(sizes[row] for row in self.drawn(step, rows)) + max(sizes[row] for row in rows)


@dataclass(frozen=True)
class InContext:
    """The rows of a step in samples of `count` rows. A sample that is too long ends before the row that does not fit,
    which begins another one. All rows fit alone. `too_long` has what was lost in the steps that were asked for."""

    maker: Maker
    examples: Sequence[Example]
    count: int
    alone: int  # tokens of the longest row
    too_long: dict[int, TooLong] = field(default_factory=dict, compare=False)

    @property
    def rows(self) -> int:
        return len(self.examples)

    @property
    def longest(self) -> int:
        return min(self.maker.room, self.count * self.alone)

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        samples, left = [], [self.examples[row] for row in rows]
        while left:
            count = min(self.count, len(left))
            while len((sample := self.maker.of_rows(left[:count])).ids) > self.maker.room and count > 1:
                count = max(1, min(count - 1, sum(end <= self.maker.room for _, end in sample.spans)))
            samples.append(sample)
            left = left[count:]
        self.too_long[step] = TooLong(more=len(samples) - ceil(len(rows) / self.count))
        return samples

    def reach(self, step: int, rows: Sequence[int], sizes: Sequence[int]) -> int:
        """The size of the longest sample of a step, were none too long, where rows have these sizes alone."""
        each = [sizes[row] for row in rows]
        return max(sum(each[first : first + self.count]) for first in range(0, len(each), self.count))


@dataclass(frozen=True)
class Mixed:
    """Rows of other data in the steps of another composition. They are `share` of all rows of the training.

    A step of 16 rows has no 0.84 rows beside them. So the rows before the end of each step are counted, and a step has
    as many others as bring their number, rounded, to what the share asks for. Each is used once before any is used
    again, in an order drawn by the seed.
    """

    own: Composition
    others: Sequence[Sample]
    share: float
    batch_size: int
    seed: int

    @property
    def rows(self) -> int:
        return self.own.rows

    @property
    def longest(self) -> int:
        return max([self.own.longest, *(len(sample.ids) for sample in self.others)])

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        before = rows_before(step, self.rows, self.batch_size)
        return [*self.own.of_step(step, rows), *self.beside(before, before + len(rows))]

    def beside(self, begin: int, end: int) -> list[Sample]:
        """The others that stand beside one's own rows from the turn `begin` to the turn `end` of the training."""
        used = range(others_beside(begin, self.share), others_beside(end, self.share))
        return [self.others[place] for place in turns(used, len(self.others), f"replay, seed {self.seed}")]


@dataclass(frozen=True)
class Beside:
    """Texts in the steps of another composition, `count` in each.

    Each text is used once before any is used again, in an order drawn by the seed.
    """

    own: Composition
    texts: Sequence[Sample]
    count: int
    seed: int

    @property
    def rows(self) -> int:
        return self.own.rows

    @property
    def longest(self) -> int:
        return max([self.own.longest, *(len(text.ids) for text in self.texts)])

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        used = range(step * self.count, (step + 1) * self.count)
        drawn = turns(used, len(self.texts), f"texts, seed {self.seed}")
        return [*self.own.of_step(step, rows), *(self.texts[place] for place in drawn)]


@dataclass(frozen=True)
class Watched:
    """A composition with samples whose loss is measured while the training goes on: no step holds them.

    `inside` are of the training set's own validation rows, `elsewhere` of other data.
    """

    own: Composition
    inside: Sequence[Sample]
    elsewhere: Sequence[Sample]

    @property
    def rows(self) -> int:
        return self.own.rows

    @property
    def longest(self) -> int:
        return max([self.own.longest, *(len(sample.ids) for sample in (*self.inside, *self.elsewhere))])

    def of_step(self, step: int, rows: Sequence[int]) -> list[Sample]:
        return self.own.of_step(step, rows)


def made_for_steps(composition: Composition) -> DrawnDemos | InContext | None:
    """The part of a composition whose samples are made for each step, whatever stands beside them."""
    while isinstance(composition, Mixed | Beside | Watched):
        composition = composition.own
    return composition if isinstance(composition, DrawnDemos | InContext) else None


def in_order(composition: Composition, batch_size: int) -> Iterator[list[Sample]]:
    """The steps of an epoch whose rows come in the order in which they are, without shuffling."""
    for step, first in enumerate(range(0, composition.rows, batch_size)):
        yield composition.of_step(step, range(first, min(first + batch_size, composition.rows)))


def rows_before(step: int, rows: int, batch_size: int) -> int:
    """How many rows the steps before this one have. The last step of an epoch has those that are left."""
    epochs, place = divmod(step, ceil(rows / batch_size))
    return epochs * rows + place * batch_size


def others_beside(rows: int, share: float) -> int:
    """How many other rows make up `share` of all, beside so many of one's own: rounded, halves up."""
    return floor(rows * share / (1 - share) + 0.5)


def turns(used: range, count: int, drawn_by: str) -> list[int]:
    """Which of `count` things are used at these turns: all once, in a drawn order, then all again in another."""
    orders: dict[int, list[int]] = {}
    for round_ in {turn // count for turn in used}:
        orders[round_] = list(range(count))
        random.Random(f"{drawn_by}, round {round_}").shuffle(orders[round_])
    return [orders[turn // count][turn % count] for turn in used]
