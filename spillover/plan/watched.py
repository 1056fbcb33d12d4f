"""The rows whose loss is measured while a training goes on (`train.evaluate_every`).

The first are the validation rows of its own training set. The others are those of other data sets: validation rows of
training sets, or demonstrations of their own. No test row is among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..data.catalogue import Catalogue
from ..data.rows import TrainSet
from ..data.tasks import task_name
from ..experiment.recipe import Recipe
from ..experiment.suite import role_of
from ..text.task import Example, PromptFormat
from .replay import Others, format_elsewhere


def watched_of(
    catalogue: Catalogue, rows: TrainSet, recipe: Recipe, fmt: PromptFormat, prompt: str
) -> tuple[Others, ...]:
    """What is watched during a training on `rows`; nothing where its recipe evaluates nothing."""
    if not recipe.evaluate_every:
        return ()
    own = replace(rows, examples=catalogue.validation(rows.name))
    return (Others(own, fmt), *_elsewhere(catalogue, rows, prompt))


def _elsewhere(catalogue: Catalogue, rows: TrainSet, prompt: str) -> Iterator[Others]:
    most, learned = catalogue.experiment.validation.elsewhere, {row.content for row in rows.examples}
    for name in catalogue.test_names() if most else ():
        spec = catalogue.specs[name]
        if role_of(name, spec, task_name(name, spec, catalogue.specs), rows.name, rows.task.name) == "in_domain":
            continue
        found: Sequence[Example] = catalogue.validation(name) if spec.train else catalogue.demos(name)
        if kept := tuple(row for row in found if row.content not in learned)[:most]:
            task = catalogue.task(name)
            yield Others(TrainSet(name, task, most, kept, name), format_elsewhere(task, prompt))
