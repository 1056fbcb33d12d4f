"""Asks the base, before a run, which answers it finds too unlikely to be learned: the one check that loads a model.

A strategy may give no loss to answer tokens whose perplexity under the base exceeds a limit (`most_perplexity`). Labels
are often such tokens, and then little or nothing is learned. So the base reads a sample of the training rows, as they
are trained, by the functions of a training. Nothing is loaded where no strategy has such a limit.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from .. import models
from ..checks.kinds import mended
from ..checks.rows import Counted
from ..checks.training import count, largest, of_a_kind, place_of
from ..errors import Finding
from ..experiment.axes import OwnText, RewrittenAnswers, SelectedTokens, plain
from ..plan.composed import compose
from ..plan.cost import weight_shapes
from ..plan.jobs import TrainJob
from ..plan.plan import Plan
from ..text.compose import in_order
from ..text.samples import Sample
from .backend import Backend, Torch

if TYPE_CHECKING:
    from ..train.unlikely import WithoutLoss

ROWS = 64  # are read of a training set


@dataclass(frozen=True)
class _Asked:
    """Steps of a part of the rows of a training, and the limits of the trainings that make their samples so."""

    job: TrainJob
    losses: tuple[SelectedTokens, ...]
    rows: int
    steps: Sequence[list[Sample]]


def unlikely(plan: Plan, progress: Counted) -> list[Finding]:
    """A line for each limit and each way to make samples of a training set.

    It is a warning where most first answer tokens, which are labels where there are some, have no loss.
    """
    jobs = [job for job in plan.trainings if isinstance(job.recipe.loss, SelectedTokens)]
    rewritten = [job for job in jobs if isinstance(job.recipe.answers, RewrittenAnswers)]
    what = "how many answer tokens have no loss is known once the base has written the answers anew"
    found = [Finding("note", what, job.variant.name) for job in rewritten]
    jobs = [job for job in jobs if job not in rewritten]
    if not jobs:
        return found
    folder, backend = models.tokenizer_folder(plan.experiment.model, plan.base), Torch()
    if why := _why_not(plan, folder, backend):
        return [
            *found,
            *(Finding("note", f"how many answer tokens have no loss is {why}", place_of(job)) for job in jobs),
        ]
    asked = [_asked(plan, job, jobs) for job in largest(jobs, of_a_kind)]
    of, done = sum(len(one.steps) for one in asked), iter(range(1, 10**9))

    def told(steps: Sequence[list[Sample]]) -> Iterator[list[Sample]]:
        for step in steps:
            yield step
            progress(next(done), of)

    folder = models.tokenizer_folder(plan.experiment.model, plan.base)
    answers = backend.without_loss(folder, [(told(one.steps), one.losses) for one in asked], plan.experiment)
    for one, shares in zip(asked, answers, strict=True):
        found += [_finding(one, loss, share) for loss, share in zip(one.losses, shares, strict=True)]
    return found


def _why_not(plan: Plan, folder: Path, backend: Backend) -> str | None:
    """Why the base cannot be asked here and now."""
    if weight_shapes(plan.experiment, plan.base) is None:
        return "unknown until the model's weights are here"
    return (
        None if backend.has_room(folder) else "known in the run only: the model has no room in the memory that is free"
    )


def _asked(plan: Plan, job: TrainJob, jobs: Sequence[TrainJob]) -> _Asked:
    rows = job.rows.examples
    drawn = sorted(random.Random("rows that the base is asked about").sample(range(len(rows)), min(ROWS, len(rows))))
    some = replace(job.rows, examples=tuple(rows[place] for place in drawn))
    recipe = job.recipe.model_copy(update={"overlong": "drop"})
    if isinstance(recipe.data, OwnText):  # it is not written yet, and has a loss of its own
        recipe = recipe.model_copy(update={"data": plain("data")})
    part = replace(job, rows=some, recipe=recipe, watched=())
    composition = compose(part, plan.encoder, plan.experiment.protocol).composition
    alike: dict[Hashable, SelectedTokens] = {}
    for other in jobs:
        if of_a_kind(other) == of_a_kind(job) and isinstance(other.recipe.loss, SelectedTokens):
            alike[other.recipe.loss.most_perplexity] = other.recipe.loss
    return _Asked(job, tuple(alike.values()), composition.rows, [*in_order(composition, recipe.batch_size)])


def _finding(one: _Asked, loss: SelectedTokens, share: WithoutLoss) -> Finding:
    of = len(one.job.rows.examples)
    read = f"all {count(of, 'row')}" if one.rows == of else f"{one.rows} of {of:,} rows"
    what = (
        f"most_perplexity: {loss.most_perplexity:g} leaves {share.every:.0%} of the answer tokens and "
        f"{share.first:.0%} of the first ones without loss; the base has read {read}"
    )
    if share.first <= 0.5:
        return Finding("note", what, place_of(one.job))
    limits = f"of the first ones, a limit of {_up(share.for_half)} keeps half, one of {_up(share.for_all)} all"
    return Finding("warning", mended(f"{what}; {limits}", "first_without_loss"), place_of(one.job))


def _up(limit: float) -> str:
    """Three digits, rounded up."""
    unit = 10.0 ** (floor(log10(limit)) - 2)
    return f"{ceil(limit / unit) * unit:,.10g}"
