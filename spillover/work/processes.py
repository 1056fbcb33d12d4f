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
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, NoReturn

from .. import errors
from ..errors import SpilloverError, StoreBusy
from ..plan.jobs import Job
from .run import Run

GRACE_S = 60.0  # for a process that is done: loggers of trainings may have something to send yet
CODE = "import sys; sys.path[:] = {path!r}; from spillover.cli import main; main()"  # the package of the parent


def command(address: str, variant: str) -> list[str]:
    """The command that brings one variant to its end and reports to this process."""
    return [sys.executable, "-c", CODE.format(path=sys.path), "work", address, "--variant", variant, "--relay"]


class Process(Thread):
    """A process at work on one variant. Its messages go into `inbox`, then None when it has ended."""

    def __init__(self, run: Run, job: Job, device: str, at_once: int, inbox: SimpleQueue[Any]) -> None:
        super().__init__(daemon=True)
        self.name, self.device, self.inbox = job.variant.name, device, inbox
        self.doing, self.has_reported = f"{device} starting", False
        self.popen = subprocess.Popen(
            command(run.store.address, job.variant.name),
            env=environment(device, at_once),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        self.start()

    def run(self) -> None:
        """Listen until the process has closed its output, which it does when it is done, and then end it."""
        with self.popen as popen:
            assert popen.stdout is not None
            for line in popen.stdout:
                with suppress(ValueError):  # a process that is killed may leave half a line
                    self.inbox.put((self, json.loads(line)))
            with suppress(subprocess.TimeoutExpired):
                popen.wait(GRACE_S)
            popen.kill()
        self.inbox.put((self, None))

    def death(self) -> str:
        """How the process ended."""
        code = self.popen.returncode
        if code >= 0:
            return f"{self.device}: its process ended with exit code {code}"
        name = signal.Signals(-code).name
        why = " (as Linux does where memory runs out: fewer devices at once need less)" if name == "SIGKILL" else ""
        return f"{self.device}: its process was killed by {name}{why}"


class Pool:
    """Processes on several devices, at most one on each at a time."""

    def __init__(self, run: Run, devices: Sequence[str], jobs: Sequence[Job]) -> None:
        self.run, self.free, self.jobs = run, list(devices), jobs
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.running: list[Process] = []

    def work_off(self) -> list[Job]:
        """Bring every job to its end; returns those that could not begin.

        What a process refuses is raised here, such as a full disk. No process is left in any case.
        """
        left = self.run.left
        waiting = left.longest_first(self.jobs)
        at_once = min(len(self.free), len(waiting))
        try:
            while True:
                for job in [job for job in waiting if left.can_begin(job)][: len(self.free)]:
                    waiting.remove(job)
                    self.running.append(Process(self.run, job, self.free.pop(0), at_once, self.inbox))
                if not self.running:
                    return waiting
                self._hear(*self.inbox.get())
        finally:
            for process in self.running:
                process.popen.kill()
            for process in self.running:
                process.join()

    def _hear(self, process: Process, message: list[Any] | None) -> None:
        """Act on a message of a process, or on its end."""
        run = self.run
        match message:
            case None:
                self.running.remove(process)
                self.free.append(process.device)
                run.store.refresh()
                if not process.has_reported:
                    run.failed(process.name, process.death())
            case ["done"]:
                process.has_reported = True
            case ["refused", kind, what, where, allowed]:
                process.has_reported = True
                error = getattr(errors, kind)(what, where=where, allowed=allowed)
                if not isinstance(error, StoreBusy):
                    raise error
                run.failed(process.name, what, str(error))
            case ["failed", line]:
                run.add_failure(line)
            case ["doing", what]:
                process.doing = f"{process.device} {what}"
                run.reporter.doing("\n".join(one.doing for one in self.running))
            case ["say" | "worked" | "cell" as call, *values]:  # not "start": this process has reported all of the work
                getattr(run.reporter, call)(*values)


# --- devices: a process that is started is told to see only its own ---------------------------------------------------


def choose(devices: str) -> None:
    """Take the devices that `--device` names: one for this process, several for processes that it starts.

    Works as long as torch is not imported yet. Whether they exist is found out once a model is needed
    (`engine.hf.devices`): a run with nothing to do imports no torch.
    """
    names = devices.split(",")
    are_gpus = all(kind == "cuda" and number.isdigit() for kind, _, number in (name.partition(":") for name in names))
    if not (are_gpus or devices == "cuda" or set(names) == {"cpu"}):
        allowed = "cpu, cuda, cuda:0, cuda:1, ..., or several of one kind: cuda:0,cuda:1"
        raise SpilloverError(f"unknown device {devices!r}", where="--device", allowed=allowed)
    os.environ["SPILLOVER_DEVICE"] = devices
    if "cpu" in names or (are_gpus and len(names) == 1):
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible(names[0])


def environment(device: str, processes: int) -> dict[str, str]:
    """The environment of a process that uses this device only, beside others that share the processor's cores."""
    own = {"SPILLOVER_DEVICE": device, "CUDA_VISIBLE_DEVICES": _visible(device)}
    if not os.environ.get("OMP_NUM_THREADS"):
        from ..engine.memory import threads

        own["OMP_NUM_THREADS"] = str(max(1, threads() // processes))
    return os.environ | own


def _visible(device: str) -> str:
    """CUDA_VISIBLE_DEVICES of a process that sees this device only. `cuda:N` counts those visible here, as in torch."""
    number = device.partition(":")[2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not number or visible is None:
        return number
    return dict(enumerate(visible.split(","))).get(int(number), "")


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

    def __getattr__(self, call: str) -> Callable[..., None]:
        return partial(self._send, call)

    def _send(self, *message: Any) -> None:
        try:
            self.out.write(json.dumps(message) + "\n")
            self.out.flush()
        except OSError:
            os._exit(1)

    def end(self, *message: Any) -> None:
        """Send the last message, `done` or `refused`. The parent then waits for the end of this process."""
        self._send(*message)
        self.out.close()


def _end_with_parent() -> NoReturn:
    while os.read(0, 1):
        pass
    os._exit(1)  # in the middle of whatever the other threads do: what is stored is whole at any moment
