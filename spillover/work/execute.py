"""Doing what is missing of a plan: all of it (`execute`), or one variant (`work`).

A unit of work is one variant: its weights are found or trained, loaded once, and every missing cell is filled.
`execute` does one after another in this process, or on several devices starts a process of `work` for each
(`processes`). Each variant has a lock, so that any number of processes may work on one folder.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass

from ..errors import SpilloverError, StoreBusy, StoreError, did_you_mean
from ..plan.jobs import Job
from ..plan.plan import Plan
from ..store.store import Store
from . import planned
from .backend import Backend, Torch
from .failures import Failures
from .left import Left
from .processes import Pool, Relay
from .progress import Quiet, Reporter
from .session import Session


def execute(
    plan: Plan, store: Store, reporter: Reporter | None = None, backend: Backend | None = None
) -> tuple[str, ...]:
    """Bring the store to what the plan wants; returns a line for each variant or unit that failed.

    A failure leaves its traceback in `DIR/errors/` and the others go on. Raises SpilloverError if nothing can go on:
    a model that cannot be loaded at all, prompts longer than it, a folder in use, a full disk.
    """
    store.create()
    with store.lock():
        return _execute(plan, store, reporter or Quiet(), backend or Torch())


def _execute(plan: Plan, store: Store, reporter: Reporter, backend: Backend) -> tuple[str, ...]:
    planned.write(plan, store)
    for training in plan.trainings:
        with suppress(StoreBusy), store.lock_variant(training.variant.key, training.variant.name):
            store.finish_if_trained(training.variant.key)
    left, failures = Left(plan, store), Failures(store, reporter)
    todo = left.jobs()
    total = len(plan.grid.cells)
    reporter.start(total, total - left.cells, sum(map(left.work, todo)))
    for training in plan.trainings:
        with failures.others_go_on(training.variant.name):
            left.drop_weights([training])
    if not todo:
        return tuple(failures.lines)
    store.forget_errors()
    devices = backend.devices()
    session = Session(plan, store, reporter, backend, failures, len(devices))
    if len(devices) > 1:
        left_over = Pool(store, devices, reporter, failures).work_off(left)
    else:
        left_over = _one_by_one(session, left, todo)
    for job in left_over:
        what = f"{left.parents_missing(job)} could not be made, and it is made from that"
        failures.record(job.variant.name, what, what)
    return tuple(failures.lines)


def _one_by_one(session: Session, left: Left, todo: list[Job]) -> list[Job]:
    """Bring each job to its end; returns those that could not begin."""
    run, left_over = session.run, []
    for job in todo:  # parents stand before their children
        name = job.variant.name
        if not left.can_begin(job):
            left_over.append(job)
            continue
        try:
            with run.store.lock_variant(job.variant.key, name):
                session.bring(job)
        except StoreBusy as error:
            run.failures.record(name, error.what, str(error))
    return left_over


@dataclass(frozen=True)
class Worked:
    """What `work` did. `variant` is None if there was nothing to take; `left` are variants that are not done."""

    variant: str | None
    failures: tuple[str, ...]
    left: tuple[str, ...]


def work(
    store: Store, name: str | None = None, reporter: Reporter | None = None, backend: Backend | None = None
) -> Worked:
    """Bring one variant of a planned folder to its end: the one called `name`, or the next that nobody works on.

    The next variant is needed, its parents are made, and no other process holds it. Raises StoreError for a folder
    without a plan, for one whose data have changed, and for an unknown name; StoreBusy if another process holds `name`.
    """
    reporter, backend = reporter or Quiet(), backend or Torch()
    plan = planned.read(store)
    with ExitStack() as stack:
        job = _named(plan, store, name, stack) if name is not None else _next(plan, store, stack)
        failures, left = Failures(store, reporter), Left(plan, store)
        if job is not None and job.variant.key in left.needed:
            cells = sum(cell.variant == job.variant.key for cell in plan.grid.cells)
            reporter.start(cells, cells - len(left.missing[job.variant.key]), left.work(job))
            Session(plan, store, reporter, backend, failures).bring(job)
    names = tuple(job.variant.name for job in Left(plan, store).jobs())
    return Worked(job.variant.name if job else None, tuple(failures.lines), names)


def work_for_parent(store: Store, name: str, backend: Backend | None = None) -> int:
    """`work`, in a process that a `Pool` started; returns the exit code."""
    relay = Relay()
    try:
        worked = work(store, name, relay, backend)
    except SpilloverError as error:
        relay.refused(error)
        return error.exit_code
    relay.done()
    return 1 if worked.failures else 0


def _named(plan: Plan, store: Store, name: str, stack: ExitStack) -> Job:
    """The job of this name, locked until the stack is closed."""
    job = next((job for job in plan.jobs if job.variant.name == name), None)
    if job is None:
        names = [job.variant.name for job in plan.jobs]
        raise StoreError(f"no variant {name!r}", where=str(store.folder), allowed=did_you_mean(name, names))
    left = Left(plan, store)
    if not left.can_begin(job):
        what = f"{name!r} is made from {left.parents_missing(job)}, which is not there"
        raise StoreError(what, where=str(store.folder), allowed="work on that first")
    stack.enter_context(store.lock_variant(job.variant.key, name))
    return job


def _next(plan: Plan, store: Store, stack: ExitStack) -> Job | None:
    """The next job, locked until the stack is closed; None if there is none."""
    left = Left(plan, store)
    for job in left.jobs(longest_first=True):
        with suppress(StoreBusy), ExitStack() as trial:
            trial.enter_context(store.lock_variant(job.variant.key, job.variant.name))
            # Another process may have done it, or made its parents, since `left` was made.
            if left.can_begin(job) and job.variant.key in Left(plan, store).needed:
                stack.push(trial.pop_all())
                return job
    return None
