"""What is left to do of a plan: which jobs, in which order, which of them can begin, and which weights can go.

Of the alternatives of a choice, all are asked validation rows, and the one that is chosen is asked the test sets too. A
choice is made as soon as all of its validation cells are there. Until then the weights of all its candidates stay.

A job is needed if cells of its variant are missing, if a file of the variant itself is broken, or if a variant that is
made from it is still to be made and its own weights are gone. A job can begin once its own weights are there, or those
of all its parents. Weights can go, as the experiment's `keep` says, once the variant's cells are all there and
everything that is made from it has been made.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping

from ..analysis.choices import choices, chosen
from ..plan.choice import awaiting, candidates, expected, unasked
from ..plan.cost import KINDS, LOADING, TEXT, TRAINING, Done, kind_of, stays, train_work, unit_work
from ..plan.jobs import Job, MadeHere, TrainJob, children
from ..plan.plan import Plan
from ..store.store import Json, Store


class Left:
    """What is left, as far as `look` has seen: all was read when this was made, and what changed is read again.

    `news` are the choices that were made since then, a sentence each.
    """

    def __init__(self, plan: Plan, store: Store) -> None:
        self.plan, self.store = plan, store
        self.by_key = {job.variant.key: job for job in plan.jobs}
        self.missing: dict[str, set[str]] = {}
        self._out: frozenset[str] | None = None  # the variants that are not asked, as of the last look
        self.there: dict[str, dict[str, Json]] = {}
        self.chosen: dict[str, str] = {}
        self.news: list[str] = []
        self.choices = candidates(plan.grid.variants)
        self.made: set[str] = set()
        self.damaged: set[str] = set()
        self.look(self.by_key)
        self.news.clear()

    def look(self, variants: Collection[str]) -> None:
        """Read again what is there of these variants, by key."""
        grid = self.plan.grid
        valid = self.store.valid(grid, variants)
        self.there |= {key: {c: valid[c] for c in grid.cells_of(key) if c in valid} for key in variants}
        self._choose()
        before, self._out = self._out, self.unasked
        again = variants if self._out == before else self.by_key
        self.missing |= {key: self._missing_of(key, self._out) for key in again}
        trained = {key for key in variants if isinstance(self.by_key[key], MadeHere)}
        self.made = self.made - trained | (set(variants) - trained) | set(filter(self.store.has_weights, trained))
        damaged = {key for key in variants if self.store.is_damaged(key, key in trained)}
        self.damaged = self.damaged.difference(variants) | damaged

    def _choose(self) -> None:
        """Make every choice that can be made by now."""
        if self.choices.keys() > self.chosen.keys() and len(self.there) == len(self.by_key):
            valid = {key: receipt for of_variant in self.there.values() for key, receipt in of_variant.items()}
            open_ones = self.choices.keys() - self.chosen.keys()
            found = choices(self.store, self.plan.grid, valid, open_ones)
            self.chosen |= chosen(found)
            self.news += [one.sentence for one in found if one.chosen is not None]

    def _missing_of(self, key: str, unasked: Container[str]) -> set[str]:
        return self.plan.grid.cells_of(key, unasked).keys() - self.there[key].keys()

    @property
    def unasked(self) -> frozenset[str]:
        """The variants that are not asked the test sets: not chosen, or not yet."""
        return unasked(self.plan.grid.variants, self.chosen)

    @property
    def to_come(self) -> dict[str, set[str]]:
        """What is missing, with what will be once every choice is made: a candidate stands in for the chosen one."""
        out = expected(self.plan.grid.variants, self.chosen)
        return {key: self._missing_of(key, out) for key in self.by_key}

    @property
    def done(self) -> Done:
        """What is there, for an estimate of what is left: of each choice one candidate is asked the test sets."""
        trained = [key for key, job in self.by_key.items() if isinstance(job, MadeHere)]
        return Done(
            cells={key: receipt for of_variant in self.there.values() for key, receipt in of_variant.items()},
            trainings={key: receipt for key in trained if (receipt := self.store.variant_receipt(key)) is not None},
            weights=frozenset(self.made.intersection(trained)),
            written=self.store.written_keys(),
            unasked=expected(self.plan.grid.variants, self.chosen),
        )

    def rivals(self, job: Job) -> list[Job]:
        """The other candidates of a job's choices."""
        names = set(job.variant.choices)
        return [one for one in self.by_key.values() if one is not job and names.intersection(one.variant.choices)]

    def is_needed(self, job: Job) -> bool:
        key = job.variant.key
        return bool(self.missing[key]) or key in self.damaged or (key not in self.made and self._has_child_to_make(key))

    def lacks_weights(self, job: Job) -> bool:
        """Whether the weights of a variant that is made here are gone although the experiment keeps them."""
        return isinstance(job, MadeHere) and job.variant.key not in self.made and stays(job, self.plan.experiment)

    def _has_child_to_make(self, key: str) -> bool:
        made_from_it = children(self.plan.jobs, key)
        return any(child.variant.key not in self.made and self.is_needed(child) for child in made_from_it)

    def made_from(self, job: Job) -> set[str]:
        """The keys of a job and of all that is made from its weights, if they are made here."""
        below = children(self.plan.jobs, job.variant.key) if isinstance(job, MadeHere) else []
        return {job.variant.key}.union(*map(self.made_from, below))

    def jobs(self) -> list[Job]:
        """The jobs that are needed, in the order of the plan."""
        return list(filter(self.is_needed, self.plan.jobs))

    def jobs_for(self, variants: Collection[str]) -> list[Job]:
        """The jobs that are needed for these variants: their own, and those that they are made from."""
        parents = {key for variant in variants for key in self.by_key[variant].parents}
        return [job for job in self.jobs() if job.variant.key in parents.union(variants)]

    def longest_first(self, jobs: Iterable[Job]) -> list[Job]:
        """The base first, then the longest, so that no process is left with a long one at the end."""
        return sorted(jobs, key=lambda job: (job.variant.kind != "base", -self.work(job)))

    def can_begin(self, job: Job) -> bool:
        """Whether its own weights are there, or those of all parents. Others may have made some since the last look."""
        unknown = [key for key in (job.variant.key, *job.parents) if key not in self.made] if job.parents else ()
        self.made.update(filter(self.store.has_weights, unknown))
        return job.variant.key in self.made or self.made.issuperset(job.parents)

    def parents_missing(self, job: Job) -> list[Job]:
        """What has to be made before a job can begin: the parents whose weights are not there, unless its own are."""
        own = job.variant.key in self.made
        return [] if own else [self.by_key[key] for key in job.parents if key not in self.made]

    def work(self, job: Job) -> float:
        """Tokens that are left for a job, as the plan estimates them."""
        return sum(amount for kind, amount in self.kinds([job]).items() if kind != LOADING)

    def kinds(self, jobs: Iterable[Job], missing_of: Mapping[str, Collection[str]] | None = None) -> dict[str, float]:
        """What is left for some jobs by kind of work: tokens, and models that are to be loaded.

        `missing_of` are the cells that are to be computed, if they are others than those that are missing now.
        """
        found, jobs = dict.fromkeys(KINDS, 0.0), list(jobs)
        writes = any(isinstance(job, TrainJob) and job.writings for job in jobs)
        written = set(self.store.written_keys()) if writes else set()
        for job in jobs:
            key = job.variant.key
            missing = (self.missing if missing_of is None else missing_of)[key]
            for _, parts in self.plan.units(job.variant):
                if todo := [part for part in parts if part[0].key in missing]:
                    found[kind_of(todo[0][1])] += unit_work(todo)
            if isinstance(job, TrainJob) and key not in self.made and self.is_needed(job):
                found[TRAINING] += train_work(job, self.plan.experiment)
                found[TEXT] += sum(one.tokens for one in job.writings if one.key not in written)
                written |= {one.key for one in job.writings}
            found[LOADING] += bool(missing)
        return {kind: amount for kind, amount in found.items() if amount}

    def finish(self, job: Job) -> None:
        """Look at a job that was worked on, and drop the weights that nobody needs any more: its own, its parents'."""
        parents = [self.by_key[key] for key in job.parents]
        made_from = any(isinstance(parent, MadeHere) for parent in parents)
        has_relatives = isinstance(job, MadeHere) and (made_from or bool(children(self.plan.jobs, job.variant.key)))
        rivals = self.rivals(job)
        several = has_relatives or bool(rivals)
        if several:
            self.store.refresh()
        self.look(self.by_key if several else [job.variant.key])  # other processes may have made relatives and rivals
        of_rivals = {key: self.by_key[key] for rival in rivals for key in rival.parents}
        self.drop_weights(job, *parents, *rivals, *of_rivals.values())

    def _awaits_choice(self, job: Job) -> bool:
        """Whether it may be chosen yet, or a random change of it may be asked once something else of it is chosen."""
        made_from_it = [child.variant for child in children(self.plan.jobs, job.variant.key)]
        has_null = isinstance(job, MadeHere) and any(variant.is_null for variant in made_from_it)
        return bool(awaiting([job.variant, *(made_from_it if has_null else ())], self.chosen))

    def drop_weights(self, *jobs: Job) -> None:
        """Delete the weights that `keep` does not keep, of those of these jobs that nobody needs any more."""
        for job in jobs:
            key = job.variant.key
            is_done = not self.missing[key] and not self._has_child_to_make(key) and not self._awaits_choice(job)
            if isinstance(job, MadeHere) and is_done and not stays(job, self.plan.experiment):
                self.store.drop_weights(key)
                self.made.discard(key)
