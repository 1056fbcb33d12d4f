"""Doing what is missing of a plan: all of it (`execute`), or one variant (`work`).

A unit of work is one variant: its weights are found or trained, loaded once, and every missing cell is filled.
`execute` does one after another in this process, or on several devices starts a process of `work` for each
(`processes`). Each variant has a lock, so that any number of processes may work on one folder.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from ..checks.rows import audit_run
from ..errors import ExperimentError, SpilloverError, StoreBusy, StoreError, did_you_mean
from ..plan.jobs import Job
from ..plan.plan import Plan, make_plan
from ..plan.questions import kept
from ..store.folder import log
from ..store.store import Store
from . import pace
from .backend import Backend, Torch
from .left import Left
from .pool import Place, Pool
from .processes import MARK, Devices, Relay
from .progress import Reporter
from .run import Run
from .units import Respondent
from .weights import find_or_make


def execute(
    plan: Plan,
    store: Store,
    reporter: Reporter | None = None,
    backend: Backend | None = None,
    cluster: str | None = None,
) -> tuple[str, ...]:
    """Bring the store to what the plan wants; returns a line for each variant or unit that failed.

    `cluster` is the address of a Ray cluster whose nodes compute ("local": one that is started here).

    A failure leaves its traceback in `DIR/errors/` and the others go on. Raises SpilloverError if nothing can go on:
    a model that cannot be loaded at all, prompts longer than it, a folder in use, a full disk.
    """
    store.create()
    reporter = reporter or Reporter()
    with store.lock():
        if broken := store.broken_of_plan():
            more = f" and {len(broken) - 1} others" if len(broken) > 1 else ""
            reporter.say(f"{broken[0]}{more}; written again")
        write_plan(plan, store)
        for made in (one for one in plan.made_here if store.awaits_its_place(one.variant.key)):
            with suppress(StoreBusy), store.lock_variant(made.variant.key, made.variant.name):
                store.finish_if_trained(made.variant.key)
        run = Run(plan, store, reporter, backend or Torch())
        left, todo = run.left, run.left.jobs()
        devices = run.backend.devices() if todo and cluster is None else []
        together = plan.experiment.train.processes > 1
        if todo and (len(devices) != 1 or together):
            _refuse_registered(plan)
        devices = devices[:1] if together else devices  # one variant at a time, and several of them train it
        known = pace.known(plan, len(devices)) if devices else {}  # a cluster has speeds of its own
        to_come, there = left.to_come, sum(map(len, left.there.values()))
        cells = there + sum(map(len, to_come.values()))
        run.reporter.start(cells, there, left.kinds(plan.jobs, to_come), known)
        for made in plan.made_here:
            with run.others_go_on(made.variant.name):
                left.drop_weights(made)
        if todo:
            store.forget_errors()
            try:
                with _place(run, todo, devices, cluster) as place:
                    _work_off(run, todo, place)
            finally:
                if devices:
                    pace.note(plan, run.reporter.measured, len(devices))
        return tuple(run.failures)


@contextmanager
def _place(run: Run, todo: Sequence[Job], devices: Sequence[str], cluster: str | None) -> Iterator[Place | None]:
    """Where jobs run: nodes of a cluster, several devices, or None for this process. Everything is ready for them."""
    place: Place | None = None
    if cluster is not None:
        from .cluster import Nodes

        run.find_model()  # its size tells what a job needs
        place = Nodes(run, cluster, todo)
    elif len(devices) > 1:
        place = Devices(run.store.address, devices, len(todo))
    try:
        if place is None or cluster is None:
            run.prepare(todo, len(devices))
        else:
            run.check(place.at_once)
        yield place
    finally:
        if place is not None:
            place.close()


def _work_off(run: Run, todo: list[Job], place: Place | None) -> None:
    """Bring every job to its end, and those that are chosen meanwhile."""
    left = run.left
    while todo:
        unasked = left.unasked
        left_over = Pool(run, place, todo).work_off() if place is not None else _one_by_one(run, todo)
        for job in left_over:
            names = ", ".join(one.variant.name for one in left.parents_missing(job))
            what = f"{names} could not be made, and it is made from that"
            run.failed(job.variant.name, what)
        left.look(left.by_key)
        run.say_news()
        todo = left.jobs_for(unasked - left.unasked)  # chosen meanwhile


def _refuse_registered(plan: Plan) -> None:
    """Raises ExperimentError for functions that other processes do not know."""
    for job in plan.trainings:
        if job.function and job.function.is_registered:
            what = "it is registered in this process, and other processes train"
            where = f"function: {job.function.written}"
            allowed = "file.py:function, or one device and train.processes: 1"
            raise ExperimentError(what, where=where, allowed=allowed)


def _one_by_one(run: Run, todo: list[Job]) -> list[Job]:
    """Bring each job to its end; returns those that could not begin."""
    left_over = []
    for job in todo:  # parents stand before their children
        if not run.left.can_begin(job):
            left_over.append(job)
            continue
        try:
            with run.store.lock_variant(job.variant.key, job.variant.name):
                run.left.look([job.variant.key])  # a process of `work` may have done it meanwhile
                if run.left.is_needed(job):
                    _bring(run, job)
                    run.say_news()
        except StoreBusy as error:
            run.failed(job.variant.name, error.what, str(error))
    return left_over


def _bring(run: Run, job: Job) -> None:
    """Make what is missing of a variant: its weights, then its cells. The caller holds the variant's lock.

    A failure is recorded, so that others go on. Raises StoreError for what the disk refuses.
    """
    key = job.variant.key
    with run.others_go_on(job.variant.name):
        run.store.finish_if_trained(key)
        folder, weights = find_or_make(run, job)
        run.left.look([key])  # after a training the weights may be what they were before
        if run.left.missing[key] or key in run.left.damaged:
            asked = set[str]()
            with closing(Respondent(run, job, folder, weights)) as respondent:
                while (missing := run.left.missing[key]) - asked or not asked:
                    respondent.answer(missing - asked)
                    asked |= missing
                    if not run.left.rivals(job):
                        break
                    run.store.refresh()
                    run.left.look(run.left.by_key)  # it may be the one that is chosen, now that its rows are answered
        run.left.finish(job)


# --- one variant of a planned folder --------------------------------------------------------------------


@dataclass(frozen=True)
class Worked:
    """What `work` did. `variant` is None if there was nothing to take; `left` are variants that are not done."""

    variant: str | None
    failures: tuple[str, ...]
    left: tuple[str, ...]


def work(
    store: Store,
    name: str | None = None,
    reporter: Reporter | None = None,
    backend: Backend | None = None,
    keep: bool = False,
) -> Worked:
    """Bring one variant of a planned folder to its end: the one called `name`, or the next that nobody works on.

    `keep`: the weights of `name` stay, whatever the experiment says, and are made again if they are gone. So are those
    that they are made from, which then go as the experiment says.

    The next variant is needed, its parents are made, and no other process holds it. Raises StoreError for a folder
    without a plan, for one whose data have changed, and for an unknown name; StoreBusy if another process holds `name`.
    """
    run, job = _bring_one(store, name, reporter or Reporter(), backend or Torch(), keep)
    run.left.look(run.left.by_key)
    names = tuple(one.variant.name for one in run.left.jobs())
    return Worked(job.variant.name if job else None, tuple(run.failures), names)


def _bring_one(
    store: Store, name: str | None, reporter: Reporter, backend: Backend, keep: bool
) -> tuple[Run, Job | None]:
    """The run in which one variant was brought to its end, and its job; None if there was nothing to take."""
    plan = planned = read_plan(store)
    if keep:
        plan = replace(plan, experiment=plan.experiment.model_copy(update={"keep": "weights"}))
    run = Run(plan, store, reporter, backend)
    left = run.left
    with ExitStack() as stack:
        job = _named(run, name, stack, keep) if name is not None else _next(run, stack)
        if job is not None and (left.is_needed(job) or (keep and left.lacks_weights(job))):
            there, missing = len(left.there[job.variant.key]), len(left.missing[job.variant.key])
            parents = left.parents_missing(job)
            run.reporter.start(there + missing, there, left.kinds([*parents, job]), pace.known(run.plan))
            run.prepare([*parents, job])
            for each in (*parents, job):
                if not run.failures:
                    _bring(run, each)
            if parents:
                Left(planned, store).drop_weights(*parents)
            store.note_failure(job.variant.key, bool(run.failures))
    return run, job


def work_for_parent(store: Store, name: str, backend: Backend | None = None) -> int:
    """`work`, in a process that a `Pool` started; returns the exit code."""
    relay: Any = Relay()
    log.setLevel(logging.ERROR)  # what is broken in the folder has been said by the parent
    try:
        if (mark := os.environ.get(MARK)) is not None:
            store.check_mark(mark)
        run, _ = _bring_one(store, name, relay, backend or Torch(), keep=False)
    except SpilloverError as error:
        relay.end("refused", type(error).__name__, error.what, error.where, error.allowed)
        return error.exit_code
    relay.end("done")
    return 1 if run.failures else 0


def _named(run: Run, name: str, stack: ExitStack, with_parents: bool) -> Job:
    """The job of this name, locked until the stack is closed; `with_parents`: so are those parents that are missing."""
    where = str(run.store.folder)
    job = next((job for job in run.plan.jobs if job.variant.name == name), None)
    if job is None:
        names = [job.variant.name for job in run.plan.jobs]
        raise StoreError(f"no variant {name!r}", where=where, allowed=did_you_mean(name, names))
    if not run.left.can_begin(job) and not with_parents:
        parents = ", ".join(one.variant.name for one in run.left.parents_missing(job))
        what = f"{name!r} is made from {parents}, which is not there"
        raise StoreError(what, where=where, allowed="work on that first, or --keep")
    for one in (*run.left.parents_missing(job), job):
        stack.enter_context(run.store.lock_variant(one.variant.key, one.variant.name))
        run.left.look([one.variant.key])
    return job


def _next(run: Run, stack: ExitStack) -> Job | None:
    """The next job, locked until the stack is closed; None if there is none. Those that failed before come last."""
    for job in sorted(run.left.longest_first(run.left.jobs()), key=lambda job: run.store.has_failed(job.variant.key)):
        with suppress(StoreBusy), ExitStack() as trial:
            trial.enter_context(run.store.lock_variant(job.variant.key, job.variant.name))
            run.left.look(run.left.made_from(job))  # another process may have done it, or what needs it
            if run.left.can_begin(job) and run.left.is_needed(job):
                stack.push(trial.pop_all())
                return job
    return None


# --- the plan in the folder -----------------------------------------------------------------------------


def write_plan(plan: Plan, store: Store) -> None:
    """Make `store` a folder that can be worked on."""
    prompts = {condition: kept(sheet) for condition, sheet in plan.sheets.items()}
    claims, experiment = plan.experiment.claims, plan.experiment
    store.write_plan(plan.grid, audit_run(plan), prompts, claims, experiment, plan.base, plan.data_dir)


def read_plan(store: Store) -> Plan:
    """The plan of a folder, made again from its experiment.

    Raises StoreError if that gives other variants or cells than were planned, as when a data file has changed.
    """
    grid = store.grid()
    plan = make_plan(*store.experiment())
    planned, now = (
        {cell.key for cell in made.every_cell} | {v.key for v in made.variants} for made in (grid, plan.grid)
    )
    if planned != now:
        what = "its data, its model or the program have changed since it was planned"
        raise StoreError(what, where=str(store.folder), allowed="plan it again: spillover plan FILE --write DIR")
    return plan
