"""Training sets as samples: how many, how long, and what it took to make them fit.

The samples are made by the functions that a training uses, of the rows that may be the longest. Where samples are made
for their step, the steps are those of the training, with its draws. What is wrong with them is a finding; rows that
cannot be trained on are the error that the training would raise.
"""

from __future__ import annotations

import heapq
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..errors import Finding
from ..experiment.axes import FixedDemos, NoDemos, OwnRows, OwnText
from ..experiment.recipe import Recipe
from ..plan.composed import compose
from ..plan.jobs import TrainJob
from ..plan.plan import Plan
from ..text.compose import Composition, Mixed, TooLong, Watched, made_for_steps
from ..text.encode import Encoder, Ids
from ..text.prompt import render
from ..text.samples import build_samples
from ..text.steps import Order, steps_of
from .kinds import mended

LONGEST = 20  # so many texts are encoded: those with the most bytes, which have about the most tokens
AROUND = 16  # more tokens than a tokenizer puts around a text


@dataclass(frozen=True)
class TrainingCheck:
    """The largest training of its kind on a data set (`of_a_kind`). `longest` and `limit` are in tokens.

    `samples` of the `of` rows fit; `lost` says what those lose that `too_long` counts. In all steps together, rows have
    `turns` turns, and `in_steps` counts what samples lose that are made for their step. `is_unwritten`: the longest
    sample is a text that the base has yet to write, and may be shorter. `bos` counts beginning-of-sequence tokens at
    the beginning of a sample.
    """

    dataset: str
    where: str
    of: int
    samples: int
    too_long: TooLong
    lost: str
    longest: int
    limit: int
    bos: int
    steps_an_epoch: int
    steps: int
    turns: int
    in_steps: TooLong
    is_unwritten: bool

    def findings(self, context: int) -> Iterator[Finding]:
        limit = f"the train.max_length of {self.limit:,} tokens"
        for found, of in ((self.too_long, self.of), (self.in_steps, self.turns)):
            if found.shortened:
                what = f"{found.shortened:,} of {of:,} samples exceed {limit} and lose {self.lost}"
                yield Finding("warning", mended(what, "sample_shortened"), self.where)
            if found.dropped:
                what = f"{found.dropped:,} of {of:,} samples exceed {limit} and are dropped"
                yield Finding("warning", mended(what, "sample_dropped"), self.where)
            if found.more:
                what = f"contexts exceed {limit} and are cut: {count(found.more, 'sample')} more than needed"
                yield Finding("warning", mended(f"{what} in {count(self.steps, 'step')}", "context_cut"), self.where)
        if self.longest > context:
            what = f"the longest sample has {self.longest:,} tokens, and the model takes {context:,}"
            yield Finding("warning", mended(what, "sample_beyond"), self.where)
        steps = f"{count(self.steps_an_epoch, 'step')} an epoch, {self.steps:,} in all"
        most = "at most " * self.is_unwritten
        what = f"{count(self.samples, 'row')}, {steps}; the longest sample has {most}{self.longest:,} tokens"
        yield Finding("note", what, self.where)


def check_training(plan: Plan, job: TrainJob) -> TrainingCheck:
    """The samples of a training. Raises DataError where the training would."""
    recipe, rows, encoder = job.recipe, job.rows.examples, plan.encoder
    where, protocol = place_of(job), plan.experiment.protocol
    room, sizes = min(recipe.max_length, encoder.max_context), _sizes(plan, job)
    tried = _most(sizes, room) | {0}
    some = sorted(tried)
    built = build_samples(
        job.fmt,
        job.demos,
        [rows[place] for place in some],
        encoder,
        recipe.max_length,
        recipe.overlong,
        where,
        protocol,
    )
    unfit = tried - {some[place] for place in built.places}
    fitting = tuple(place for place in range(len(rows)) if place not in unfit)
    composition = compose(job, encoder, protocol, made=replace(built, places=fitting)).composition
    order = Order.of(len(fitting), recipe)
    in_steps, lengths = _in_steps(composition, recipe, [sizes[place] for place in fitting], room)
    longest = max([built.longest, *lengths, *_replayed(composition, order.turns)])
    unwritten = 1 + recipe.data.text_tokens if isinstance(recipe.data, OwnText) else 0
    return TrainingCheck(
        dataset=job.rows.name,
        where=where,
        of=len(rows),
        samples=len(fitting),
        too_long=TooLong(built.rows_shortened, built.rows_dropped),
        lost=built.lost,
        longest=max(longest, unwritten),
        limit=recipe.max_length,
        bos=count_bos(built.samples[0].ids, encoder),
        steps_an_epoch=order.an_epoch,
        steps=order.steps,
        turns=order.turns,
        in_steps=in_steps,
        is_unwritten=unwritten > longest,
    )


def place_of(job: TrainJob) -> str:
    """Where the samples of a training are: those of its rows alone are named by the data set, others by the variant."""
    if not isinstance(job.recipe.demos, NoDemos | FixedDemos) or not isinstance(job.recipe.data, OwnRows):
        return f"{job.variant.name}, training"
    return f"{job.rows.name}, training" + (f" with {count(len(job.demos), 'shot')}" if job.demos else "")


def _in_steps(composition: Composition, recipe: Recipe, sizes: Sequence[int], room: int) -> tuple[TooLong, list[int]]:
    """What samples lose that are made for their step, in all steps together; and the lengths of the longest."""
    made = made_for_steps(composition)
    if made is None:
        return TooLong(), []
    steps = steps_of(made, recipe)
    tried = _most([made.reach(step, steps.order.of_step(step), sizes) for step in range(len(steps))], room)
    lengths = [len(sample.ids) for step in tried for sample in steps[step]]
    return sum((made.too_long[step] for step in tried), TooLong()), lengths


def _replayed(composition: Composition, turns: int) -> list[int]:
    """The lengths of the samples of other data in all steps."""
    composition = composition.own if isinstance(composition, Watched) else composition
    return [len(one.ids) for one in composition.beside(0, turns)] if isinstance(composition, Mixed) else []


def of_a_kind(job: TrainJob) -> Hashable:
    """Trainings that make their samples in one way from one data set have the same."""
    return job.rows.name, len(job.demos), job.recipe.demos.model_dump_json(), job.recipe.data.model_dump_json()


def _sizes(plan: Plan, job: TrainJob) -> list[int]:
    """At least the tokens of each row behind the fixed demonstrations: a token stands for a byte at least."""
    around = _bytes(job.fmt.demo_separator) + AROUND
    texts = (render(job.fmt, job.demos, one, plan.encoder.chat_template) + one.target for one in job.rows.examples)
    return [_bytes(text) + around for text in texts]


def _most(sizes: Sequence[int], room: int) -> set[int]:
    """The places to try: of the largest sizes, and of all that may have too little room.

    Encoding 200,000 rows to learn how long they are would take longer than all other checks.
    """
    longest = heapq.nlargest(LONGEST, range(len(sizes)), key=sizes.__getitem__)
    return {*longest, *(place for place, size in enumerate(sizes) if size > room)}


def _bytes(text: str) -> int:
    """The bytes of a text, also after a tokenizer has taken its characters apart."""
    if text.isascii():
        return len(text)
    return max(len(form.encode()) for form in (text, unicodedata.normalize("NFKD", text)))


def warmup(plan: Plan) -> Iterator[Finding]:
    """Trainings whose learning rate never arrives, because they have fewer steps than the warm-up."""
    for job in plan.trainings:
        recipe = job.recipe
        steps = Order.of(len(job.rows.examples), recipe).steps
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
