"""Several jobs at once: each is a process of `spillover work ADDRESS --variant NAME`, at a place that runs it.

A variant's numbers are those that it would have had alone: no gradient crosses a process. A process that dies costs its
own variant, and the others go on.

A `Place` starts a process for a job, and hands on what it writes: a line of JSON for each call of its reporter. The
pool's reporter makes one display of them all. There are two places: the devices of this machine (`processes`), and the
nodes of a Ray cluster (`cluster`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .. import errors
from ..errors import StoreBusy, StoreError
from ..plan.jobs import Job
from .run import Run

SHOWN = 16  # jobs at work that the display has a line for
LOOK_EVERY_S = 2.0  # a job can begin once the weights of its parents are there, while their cells are still answered
REFRESH_EVERY_S = 30.0  # at a URL: whether other machines have made them; where that takes long, more seldom

Message = list[Any]
"""A call of a process's reporter, such as ["doing", "training"]; ["done"] or ["refused", ...], when its work is done;
["at", WHERE], from a place that finds out later where a job runs; ["log", LINE], from a place whose processes write to
no terminal; and ["ended", HOW], the last one in any case."""


@dataclass(eq=False)
class Task:
    """A job that was given to a place. `where` it runs is empty as long as it waits there."""

    job: Job
    where: str = ""
    doing: str = "starting"
    has_reported: bool = False

    @property
    def name(self) -> str:
        return self.job.variant.name


class Place(Protocol):
    """Where jobs run. `at_once` is how many of them can."""

    at_once: int

    def has_room(self) -> bool:
        """Whether a job may be given now."""

    def start(self, job: Job) -> Task:
        """Start a process for a job."""

    def hear(self) -> tuple[Task, Message]:
        """The next message of any process that was started. Waits for it."""

    def close(self) -> None:
        """End every process, and wait until none is left."""


class Pool:
    """Works jobs off at a place."""

    def __init__(self, run: Run, place: Place, jobs: Sequence[Job]) -> None:
        self.run, self.place = run, place
        self.waiting = run.left.longest_first(jobs)
        self.running: list[Task] = []
        self.looked = 0.0
        self.refresh_at = time.monotonic() + REFRESH_EVERY_S

    def work_off(self) -> list[Job]:
        """Bring every job to its end; returns those that could not begin.

        What a process refuses is raised here, such as a full disk. Whoever made the place closes it.
        """
        self._start()
        while self.running:
            has_ended = self._hear(*self.place.hear())
            if has_ended or time.monotonic() - self.looked > LOOK_EVERY_S:
                self._start()
        return self.waiting

    def _start(self) -> None:
        """Start what can begin."""
        if time.monotonic() >= self.refresh_at and any(job.parents for job in self.waiting):
            began = time.monotonic()
            self.run.store.refresh()
            now = time.monotonic()
            self.refresh_at = now + max(REFRESH_EVERY_S, 10 * (now - began))
        for job in list(self.waiting):
            if not self.place.has_room():
                break
            if self.run.left.can_begin(job):
                self.waiting.remove(job)
                self.running.append(self.place.start(job))
        self.looked = time.monotonic()

    def _hear(self, task: Task, message: Message) -> bool:
        """Act on a message; returns whether the process has ended."""
        run = self.run
        match message:
            case ["ended", how]:
                self.running.remove(task)
                run.store.refresh()
                if not task.has_reported:
                    run.failed(task.name, f"{task.where}: {how}" if task.where else how)
                return True
            case ["done"]:
                task.has_reported = True
            case ["refused", kind, what, where, allowed]:
                task.has_reported = True
                error = getattr(errors, kind, StoreError)(what, where=where, allowed=allowed)
                if not isinstance(error, StoreBusy):
                    raise error
                run.failed(task.name, what, str(error))
            case ["failed", line]:
                run.add_failure(line)
            case ["at", where]:
                task.where, task.doing = where, "starting"
                self._show()
            case ["log", line]:
                run.reporter.say(f"{task.where} {task.name}: {line}")
            case ["doing", what]:
                task.doing = what
                self._show()
            case ["say" | "worked" | "cell" as call, *values]:  # not "start": this process has reported all of the work
                getattr(run.reporter, call)(*values)
        return False

    def _show(self) -> None:
        """A line for each process at work, as many as a terminal has room for."""
        at_work = [f"{task.where} {task.doing}" for task in self.running if task.where]
        lines, more, waiting = at_work[:SHOWN], len(at_work) - SHOWN, len(self.running) - len(at_work)
        lines += [f"{more} others at work"] if more > 0 else []
        lines += [f"{waiting} waiting for a node"] if waiting else []
        self.run.reporter.doing("\n".join(lines))
