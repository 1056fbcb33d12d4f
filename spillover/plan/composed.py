"""From a training's job to what its steps hold: the composition that its recipe asks for.

This is the one way from rows to samples, for trainings, for checks and for what is exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..data.alike import RowSet, clusters
from ..experiment.axes import OwnText, RandomDemos, Replay, RowsInContext
from ..experiment.protocol import Protocol
from ..text.compose import Beside, Composition, DrawnDemos, InContext, Mixed, Watched
from ..text.encode import Encoder
from ..text.samples import Maker, Sample, Samples
from .jobs import TrainJob
from .replay import Others


@dataclass(frozen=True)
class Composed:
    """What the steps of a training hold. `made` counts what was done to its rows before the first step."""

    composition: Composition
    made: Samples


def compose(
    job: TrainJob, encoder: Encoder, protocol: Protocol, texts: Sequence[Sample] = (), made: Samples | None = None
) -> Composed:
    """What the steps of a training hold. `texts` are those that the base wrote, if the recipe wants some.

    `made` are the samples of its rows, if they are made already. Raises DataError for a row that cannot be trained on.
    """
    recipe, rows, seed = job.recipe, job.rows.examples, job.recipe.seed
    where = f"{job.variant.name} ({job.rows.source})"
    maker = Maker(job.fmt, encoder, recipe.max_length, recipe.overlong, where, protocol)
    made = made or maker.samples(rows, job.demos)
    composition: Composition = made
    fitting = [rows[place] for place in made.places]
    if isinstance(recipe.demos, RandomDemos):
        groups = clusters(RowSet(job.rows.name, "train", job.rows.task, fitting))
        composition = DrawnDemos(maker, fitting, groups, recipe.demos.count, seed, made.longest)
    elif isinstance(recipe.demos, RowsInContext):
        composition = InContext(maker, fitting, recipe.demos.rows_in_context, made.longest)
    if isinstance(recipe.data, Replay):
        composition = Mixed(composition, _replayed(job, maker), recipe.data.share, recipe.batch_size, seed)
    elif isinstance(recipe.data, OwnText):
        composition = Beside(composition, texts, recipe.data.texts_a_step, seed)
    if job.watched:
        own, *others = (_evaluated(one, maker, job) for one in job.watched)
        composition = Watched(composition, own, [sample for samples in others for sample in samples])
    return Composed(composition, made)


def _evaluated(one: Others, maker: Maker, job: TrainJob) -> Sequence[Sample]:
    """Samples of watched rows: those of the training set behind its demonstrations. Too long ones are left out."""
    demos = job.demos if one.rows.name == job.rows.name else ()
    return replace(maker, fmt=one.fmt, overlong="drop").samples(one.rows.examples, demos).samples


def _replayed(job: TrainJob, maker: Maker) -> list[Sample]:
    """A sample of each row of other data; those that are too long are left out. Raises DataError for none of a set."""
    makers = [
        replace(maker, fmt=one.fmt, overlong="drop", where=f"{maker.where}, {one.rows.name}") for one in job.others
    ]
    return [s for own, one in zip(makers, job.others, strict=True) for s in own.samples(one.rows.examples).samples]
