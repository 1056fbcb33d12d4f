"""Training sets as samples: how many, how long, and what it took to make them fit.

The samples are made by the function that a training uses. What is wrong with them is a finding; rows that cannot be
trained on are the error that the training would raise.
"""

from __future__ import annotations

import heapq
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil

from ..errors import Finding
from ..experiment.axes import OwnText, plain
from ..plan.composed import compose
from ..plan.jobs import TrainJob
from ..plan.plan import Plan
from ..text.compose import in_order
from ..text.encode import Encoder, Ids
from ..text.prompt import render
from ..text.samples import build_samples
from .kinds import mended

LONGEST = 20  # so many texts are encoded: those with the most bytes, which have about the most tokens
AROUND = 16  # more tokens than a tokenizer puts around a text


@dataclass(frozen=True)
class TrainingCheck:
    """The largest training on a data set with one number of demonstrations. `of` rows; `longest` and `limit` in tokens.

    `bos` counts beginning-of-sequence tokens at the beginning of a sample.
    """

    dataset: str
    shots: int
    of: int
    samples: int
    shortened: int
    lost: str
    dropped: int
    longest: int
    limit: int
    bos: int
    steps_an_epoch: int
    steps: int

    def findings(self, context: int) -> Iterator[Finding]:
        where = f"{self.dataset}, training" + (f" with {count(self.shots, 'shot')}" if self.shots else "")
        limit = f"samples exceed the train.max_length of {self.limit:,} tokens"
        if self.shortened:
            what = f"{self.shortened:,} of {self.of:,} {limit} and lose {self.lost}"
            yield Finding("warning", mended(what, "sample_shortened"), where)
        if self.dropped:
            what = f"{self.dropped:,} of {self.of:,} {limit} and are dropped"
            yield Finding("warning", mended(what, "sample_dropped"), where)
        if self.longest > context:
            what = f"the longest sample has {self.longest:,} tokens, and the model takes {context:,}"
            yield Finding("warning", mended(what, "sample_beyond"), where)
        steps = f"{count(self.steps_an_epoch, 'step')} an epoch, {self.steps:,} in all"
        what = f"{count(self.samples, 'sample')}, {steps}; the longest has {self.longest:,} tokens"
        yield Finding("note", what, where)


def check_training(plan: Plan, job: TrainJob) -> TrainingCheck:
    """The samples of a training. Raises DataError where the training would."""
    recipe, rows = job.recipe, job.rows.examples
    where, protocol = f"{job.rows.name}, training", plan.experiment.protocol
    tried = [rows[place] for place in _to_try(plan, job)]
    built = build_samples(job.fmt, job.demos, tried, plan.encoder, recipe.max_length, recipe.overlong, where, protocol)
    _compose(plan, replace(job, rows=replace(job.rows, examples=tuple(tried))))
    samples = len(built.samples) + len(rows) - len(tried)
    an_epoch = ceil(samples / recipe.batch_size)
    return TrainingCheck(
        dataset=job.rows.name,
        shots=len(job.demos),
        of=len(rows),
        samples=samples,
        shortened=built.rows_shortened,
        lost=built.lost,
        dropped=built.rows_dropped,
        longest=max(len(sample.ids) for sample in built.samples),
        limit=recipe.max_length,
        bos=count_bos(built.samples[0].ids, plan.encoder),
        steps_an_epoch=an_epoch,
        steps=ceil(an_epoch * recipe.num_train_epochs),
    )


def _compose(plan: Plan, job: TrainJob) -> None:
    """Make the steps of a training, without texts that the base writes. Raises DataError where the training would."""
    written = isinstance(job.recipe.data, OwnText)
    job = replace(job, recipe=job.recipe.model_copy(update={"data": plain("data")})) if written else job
    for _ in in_order(compose(job, plan.encoder, plan.experiment.protocol).composition, job.recipe.batch_size):
        pass


def of_a_kind(job: TrainJob) -> Hashable:
    """Trainings that make their samples in one way from one data set have the same."""
    return job.rows.name, len(job.demos), job.recipe.demos.model_dump_json(), job.recipe.data.model_dump_json()


def _to_try(plan: Plan, job: TrainJob) -> list[int]:
    """The places of the rows of which samples are made: the first, the longest, and all that may be too long.

    A token stands for a byte at least, so that a row of fewer bytes than there is room for tokens fits. Encoding
    200,000 rows to learn this would take longer than all other checks.
    """
    room = min(job.recipe.max_length, plan.encoder.max_context)
    most = []
    for example in job.rows.examples:
        text = render(job.fmt, job.demos, example, plan.encoder.chat_template) + example.target
        most.append(_bytes(text) + AROUND)
    longest = heapq.nlargest(LONGEST, range(len(most)), key=most.__getitem__)
    return sorted({0, *longest, *(place for place, tokens in enumerate(most) if tokens > room)})


def _bytes(text: str) -> int:
    """The bytes of a text, also after a tokenizer has taken its characters apart."""
    if text.isascii():
        return len(text)
    return max(len(form.encode()) for form in (text, unicodedata.normalize("NFKD", text)))


def warmup(plan: Plan) -> Iterator[Finding]:
    """Trainings whose learning rate never arrives, because they have fewer steps than the warm-up."""
    for job in plan.trainings:
        recipe = job.recipe
        steps = ceil(ceil(len(job.rows.examples) / recipe.batch_size) * recipe.num_train_epochs)
        if not recipe.warmup_steps:
            continue
        if recipe.lr_scheduler_type == "constant":
            what = f"warmup_steps: {recipe.warmup_steps:,} does nothing with lr_scheduler_type: constant"
            yield Finding("warning", mended(what, "warmup_unused"), job.variant.name)
        elif recipe.warmup_steps >= steps:
            most = recipe.learning_rate * (steps - 1) / recipe.warmup_steps
            what = f"warmup_steps is {recipe.warmup_steps:,} and the training has {count(steps, 'step')}"
            rate = f"the learning rate of {recipe.learning_rate:g} never arrives, and is {most:.2g} at most"
            yield Finding("warning", mended(f"{what}: {rate}", "warmup_too_long"), job.variant.name)


def largest(jobs: Iterable[TrainJob], key: Callable[[TrainJob], Hashable]) -> list[TrainJob]:
    """Of the trainings with the same key, the one with the most rows."""
    found: dict[Hashable, TrainJob] = {}
    for job in jobs:
        found[key(job)] = max(found.get(key(job), job), job, key=lambda each: len(each.rows.examples))
    return list(found.values())


def count(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def count_bos(ids: Ids, encoder: Encoder) -> int:
    """How many beginning-of-sequence tokens a text begins with."""
    return next((n for n, token in enumerate(ids) if token != encoder.bos_id), len(ids))


def without_bos(ids: Ids, encoder: Encoder) -> Ids:
    return ids[count_bos(ids, encoder) :]
