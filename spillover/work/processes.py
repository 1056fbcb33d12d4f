"""Several devices: a process of `spillover work DIR --variant NAME` on each of them, one after another.

A variant's numbers are those that it would have had alone: no gradient crosses a process. A process that dies costs its
own variant, and the others go on.

The parent keeps the standard input of its processes open and writes nothing to it. A process ends at once when it
closes, so none is left when the parent dies, however it dies. Each process writes a line of JSON for each call of its
reporter (`Relay`), and the parent's reporter makes one display of them all. Processes have a session of their own, so
that Ctrl-C reaches only the parent, which then ends them: what is stored is whole at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from .. import errors
from ..errors import SpilloverError, StoreBusy
from ..plan.jobs import Job
from ..store.store import Store
from .devices import environment
from .failures import Failures
from .left import Left
from .progress import Reporter

GRACE_S = 60.0  # for a process that is done: loggers of trainings may have something to send yet
CODE = "import sys; sys.path[:] = {path!r}; from spillover.cli import main; main()"  # the package of the parent


def command(folder: str, variant: str) -> list[str]:
    """The command that brings one variant to its end and reports to this process."""
    return [sys.executable, "-c", CODE.format(path=sys.path), "work", folder, "--variant", variant, "--relay"]


class Process:
    """A process at work on one variant. Its messages go into `inbox`, then None when it has ended."""

    def __init__(self, job: Job, device: str, store: Store, threads: int, inbox: SimpleQueue[Any]) -> None:
        self.job, self.device, self.doing = job, device, f"{device} starting"
        self.has_reported, self.deadline = False, inf
        self.popen = subprocess.Popen(
            command(str(store.folder.absolute()), job.variant.name),
            env=environment(device, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: SimpleQueue[Any]) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                with suppress(ValueError):  # a process that is killed may leave half a line
                    inbox.put((self, json.loads(line)))
        inbox.put((self, None))

    def kill(self) -> int:
        """End the process, if it has not ended; returns its exit code."""
        self.popen.kill()
        return self.end()

    def end(self) -> int:
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        return self.popen.wait()


class Pool:
    """Processes on several devices, at most one on each at a time."""

    def __init__(self, store: Store, devices: Sequence[str], reporter: Reporter, failures: Failures) -> None:
        self.store, self.reporter, self.failures = store, reporter, failures
        self.devices, self.free = devices, list(devices)
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.running: list[Process] = []

    def work_off(self, left: Left) -> list[Job]:
        """Bring every job to its end; returns those that could not begin.

        What a process refuses is raised here, such as a full disk. No process is left in any case.
        """
        waiting = left.jobs(longest_first=True)
        at_once = min(len(self.devices), len(waiting))
        try:
            while True:
                for job in [job for job in waiting if left.can_begin(job)][: len(self.free)]:
                    waiting.remove(job)
                    self.running.append(Process(job, self.free.pop(0), self.store, at_once, self.inbox))
                if not self.running:
                    return waiting
                self._hear()
                for late in self.running:
                    if time.monotonic() > late.deadline:
                        late.popen.kill()
        finally:
            for process in self.running:
                process.kill()

    def _hear(self) -> None:
        """Wait for a message of any process, and act on it."""
        try:
            process, message = self.inbox.get(timeout=1.0)
        except Empty:
            return
        if message is None:
            self._ended(process)
            return
        kind, *values = message
        match kind:
            case "done":
                process.has_reported, process.deadline = True, time.monotonic() + GRACE_S
            case "refused":
                process.has_reported = True
                self._refused(process.job.variant.name, *values)
            case "failed":
                process.has_reported = True
                self.failures.add(*values)
            case "doing":
                process.doing = f"{process.device} {values[0]}"
                self.reporter.doing("\n".join(one.doing for one in self.running))
            case "start":  # this process has reported all of the work at once
                pass
            case _:
                getattr(self.reporter, kind)(*values)

    def _ended(self, process: Process) -> None:
        code = process.end()
        self.running.remove(process)
        self.free.append(process.device)
        if not process.has_reported:
            why = f"{process.device}: {_death(code)}"
            self.failures.record(process.job.variant.name, why, why)

    def _refused(self, variant: str, kind: str, what: str, where: str | None, allowed: str | None) -> None:
        error = getattr(errors, kind)(what, where=where, allowed=allowed)
        if not isinstance(error, StoreBusy):
            raise error
        self.failures.record(variant, what, str(error))


def _death(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    why = " (as Linux does where memory runs out: fewer devices at once need less)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{why}"


# --- in the process that was started ----------------------------------------------------------------------------------


class Relay:
    """A `Reporter` that writes each call as a line of JSON for the parent process.

    It takes the standard output for itself: what libraries print goes to standard error. It ends this process when the
    standard input closes, which is when the parent is gone.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent may ignore it, as background jobs do
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        Thread(target=_end_with_parent, daemon=True).start()

    def _send(self, *message: Any) -> None:
        try:
            self.out.write(json.dumps(message) + "\n")
            self.out.flush()
        except OSError:
            os._exit(1)

    def start(self, cells: int, cells_done: int, work: float) -> None:
        self._send("start", cells, cells_done, work)

    def say(self, line: str) -> None:
        self._send("say", line)

    def doing(self, what: str) -> None:
        self._send("doing", what)

    def worked(self, work: float) -> None:
        self._send("worked", work)

    def cell(self) -> None:
        self._send("cell")

    def failed(self, line: str) -> None:
        self._send("failed", line)

    def done(self) -> None:
        """Report that the variant is at its end, with or without failures."""
        self._send("done")

    def refused(self, error: SpilloverError) -> None:
        """Report an error that the parent is to raise."""
        self._send("refused", type(error).__name__, error.what, error.where, error.allowed)


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):
        pass
    os._exit(1)  # in the middle of whatever the other threads do: what is stored is whole at any moment
