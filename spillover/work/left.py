"""What is left to do of a plan: which jobs, in which order, which of them can begin, and which weights can go.

A job is needed if cells of its variant are missing, or if a variant that is made from it is still to be made and its
own weights are gone. A job can begin once the weights of all its parents are there. Weights can go, as the experiment's
`keep` says, once the variant's cells are all there and everything that is made from it has been made.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..plan.cost import stays, train_work, unit_work
from ..plan.jobs import Job, TrainJob, children
from ..plan.plan import Plan
from ..store.store import Store


class Left:
    """What was left when this was made. Only `can_begin` looks into the store again."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.by_key = {job.variant.key: job for job in plan.jobs}
        valid = store.valid(plan.grid)
        self.missing: dict[str, set[str]] = {key: set() for key in self.by_key}
        for cell in plan.grid.cells:
            if cell.key not in valid:
                self.missing[cell.variant].add(cell.key)
        self.made = {key for key, job in self.by_key.items() if _is_made(job, store)}
        self.needed: set[str] = set()
        for job in reversed(plan.jobs):  # children stand after their parents
            key = job.variant.key
            if self.missing[key] or (key not in self.made and self._has_child_to_make(job)):
                self.needed.add(key)

    @property
    def cells(self) -> int:
        """How many cells are missing."""
        return sum(map(len, self.missing.values()))

    def jobs(self, longest_first: bool = False) -> list[Job]:
        """The jobs that are needed, in the order of the plan.

        `longest_first`: the base first, then the longest, so that no process is left with a long one at the end.
        """
        needed = [job for job in self.plan.jobs if job.variant.key in self.needed]
        if longest_first:
            needed.sort(key=lambda job: (job.variant.kind != "base", -self.work(job)))
        return needed

    def can_begin(self, job: Job) -> bool:
        """Whether the weights of all parents are there now."""
        return all(_is_made(self.by_key[key], self.store) for key in job.parents)

    def parents_missing(self, job: Job) -> str:
        """The names of the parents whose weights are not there, for an error."""
        gone = [self.by_key[key] for key in job.parents if not _is_made(self.by_key[key], self.store)]
        return ", ".join(parent.variant.name for parent in gone)

    def work(self, job: Job) -> float:
        """Tokens that are left for a job, as the plan estimates them."""
        key = job.variant.key
        missing = self.missing[key]
        units = [[part for part in parts if part[0].key in missing] for _, parts in self.plan.units(job.variant)]
        trains = isinstance(job, TrainJob) and key in self.needed - self.made
        training = train_work(job, self.plan.experiment) if isinstance(job, TrainJob) and trains else 0.0
        return sum(unit_work(parts) for parts in units if parts) + training

    def drop_weights(self, jobs: Sequence[Job]) -> None:
        """Delete the weights that `keep` does not keep, of those of these jobs that nobody needs any more."""
        for job in jobs:
            is_done = not self.missing[job.variant.key] and not self._has_child_to_make(job)
            if isinstance(job, TrainJob) and is_done and not stays(job, self.plan.experiment):
                self.store.drop_weights(job.variant.key)

    def _has_child_to_make(self, job: Job) -> bool:
        made_from_it = children(self.plan.jobs, job.variant.key)
        return any(child.variant.key in self.needed - self.made for child in made_from_it)


def parents_of(plan: Plan, job: Job) -> list[Job]:
    return [other for other in plan.jobs if other.variant.key in job.parents]


def _is_made(job: Job, store: Store) -> bool:
    """Whether a variant's weights are there: it was not trained here, or they are as its training left them."""
    key = job.variant.key
    return not isinstance(job, TrainJob) or (store.has_weights(key) and not store.were_changed(key))
