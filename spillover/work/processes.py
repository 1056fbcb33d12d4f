"""The devices of this machine, as a place where jobs run: a process for each job, one on a device at a time.

The parent keeps the standard input of its processes open and writes nothing to it. A process ends at once when it
closes, so none is left when the parent dies, however it dies. Each process writes a line of JSON for each call of its
reporter (`Relay`). Processes have a session of their own, so that Ctrl-C reaches only the parent, which then ends them:
what is stored is whole at any moment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any, NoReturn

from ..errors import SpilloverError, visible
from ..plan.jobs import Job
from .pool import Message, Task

GRACE_S = 60.0  # for a process that is done: loggers of trainings may have something to send yet
MARK = "SPILLOVER_MARK"  # names the variable with the mark of the run's folder, for a process on another machine
CODE = "import sys; sys.path[:] = {path!r}; from spillover.cli import main; main()"  # the package of the parent


def command(address: str, variant: str, *options: str) -> list[str]:
    """The command that brings one variant to its end and reports to this process. `options` stand for `--relay`."""
    unit = [sys.executable, "-c", CODE.format(path=sys.path), "work", address, "--variant", variant]
    return [*unit, *(options or ["--relay"])]


class Process(Thread):
    """A process at work on one variant. `tell` is called with each of its messages, the last one says how it ended.

    `speaks`: what it writes to standard error is a message ["log", LINE], too.
    """

    def __init__(
        self, words: Sequence[str], env: Mapping[str, str], tell: Callable[[Message], None], speaks: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.tell = tell
        self.popen = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if speaks else None,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self.start()

    def run(self) -> None:
        """Listen until the process has closed its output, which it does when it is done, and then end it."""
        with self.popen as popen:
            assert popen.stdout is not None
            if popen.stderr is not None:
                speech = Thread(target=self._hear_speech, args=(popen.stderr,), daemon=True)
                speech.start()
            for line in popen.stdout:
                with suppress(ValueError):  # a process that is killed may leave half a line
                    self.tell(json.loads(line))
            with suppress(subprocess.TimeoutExpired):
                popen.wait(GRACE_S)
            popen.kill()
            if popen.stderr is not None:
                speech.join(GRACE_S)
        self.tell(["ended", self._end()])

    def _hear_speech(self, stream: IO[str]) -> None:
        for line in stream:
            if text := visible(line.strip()):
                self.tell(["log", text])

    def _end(self) -> str:
        """How the process ended."""
        code = self.popen.returncode
        if code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        why = " (as Linux does where memory runs out: fewer jobs at once need less)" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{why}"

    def stop(self) -> None:
        """End the process, if it has not ended."""
        self.popen.kill()
        self.join()


class Devices:
    """Several devices of this machine. `jobs`: how many are to be done, if they are fewer than the devices."""

    def __init__(self, address: str, devices: Sequence[str], jobs: int) -> None:
        self.address, self.free = address, list(devices)
        self.at_once = min(len(devices), jobs)
        self.inbox: SimpleQueue[tuple[Task, Message]] = SimpleQueue()
        self.processes: dict[Task, Process] = {}

    def has_room(self) -> bool:
        return bool(self.free)

    def start(self, job: Job) -> Task:
        task = Task(job, self.free.pop(0))
        words = command(self.address, task.name)
        tell = partial(self._put, task)
        self.processes[task] = Process(words, environment(task.where, self.at_once), tell)
        return task

    def _put(self, task: Task, message: Message) -> None:
        self.inbox.put((task, message))

    def hear(self) -> tuple[Task, Message]:
        task, message = self.inbox.get()
        if message[0] == "ended":
            self.free.append(task.where)
            del self.processes[task]
        return task, message

    def close(self) -> None:
        for process in self.processes.values():
            process.popen.kill()
        for process in self.processes.values():
            process.join()


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
