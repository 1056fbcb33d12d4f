"""Rows of other data that are trained on beside one's own: which sets they come from, and which rows.

A training replays as many rows as its share asks for, taken from the sets in turn. A row is used twice only if all have
been used. The rows are chosen without the seed, so that they are the same for all seeds; the seed draws their order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest

from ..data.catalogue import Catalogue, known
from ..data.rows import TrainSet
from ..data.tasks import task_name
from ..errors import ExperimentError
from ..experiment.axes import Replay
from ..experiment.recipe import Recipe
from ..text.compose import others_beside
from ..text.steps import Order
from ..text.task import PromptFormat, Task
from .questions import prompt_format

WHERE = "train.strategies: replay_from"


@dataclass(frozen=True)
class Others:
    """Rows of another data set that a training replays, each without demonstrations, and their format."""

    rows: TrainSet
    fmt: PromptFormat


def others_of(catalogue: Catalogue, rows: TrainSet, recipe: Recipe, prompt: str) -> tuple[Others, ...]:
    """What a training on `rows` replays, of as many sets as are needed; nothing where its recipe replays none.

    Raises ExperimentError where there is nothing to replay.
    """
    if not isinstance(recipe.data, Replay):
        return ()
    needed = others_beside(Order.of(len(rows.examples), recipe).turns, recipe.data.share)
    sets = [found for name in _names(catalogue, rows, recipe.data) if (found := catalogue.train(name, None))]
    if not sets:
        what = f"no other data set with training rows can be had beside {rows.name}"
        raise ExperimentError(what, where=WHERE, allowed="names of data sets that have a train source")
    drawn = [random.Random(f"replay of {one.name}").sample(one.examples, len(one.examples)) for one in sets]
    in_turn = chain.from_iterable(zip_longest(*([(n, row) for row in each] for n, each in enumerate(drawn))))
    used = list(islice(filter(None, in_turn), needed))
    chosen = [replace(one, examples=tuple(row for m, row in used if m == n)) for n, one in enumerate(sets)]
    return tuple(Others(one, format_elsewhere(one.task, prompt)) for one in chosen if one.examples)


def format_elsewhere(task: Task, prompt: str) -> PromptFormat:
    """The format of other data beside a training in the format `prompt`: its own first one where it has no such."""
    known = prompt if prompt in task.prompts or prompt == "chat" else next(iter(task.prompts))
    return prompt_format(task, known, "train.prompt")


def _names(catalogue: Catalogue, rows: TrainSet, data: Replay) -> list[str]:
    """The names of the sets to replay, without the training set itself."""
    with_train = [name for name, spec in catalogue.specs.items() if spec.train]
    if data.replay_from == "others":
        task = {name: task_name(name, catalogue.specs[name], catalogue.specs) for name in with_train}
        return [name for name in with_train if task[name] != rows.task.name]
    named = [known(name, with_train, WHERE) for name in dict.fromkeys(data.replay_from)]
    return [name for name in named if name != rows.name]
