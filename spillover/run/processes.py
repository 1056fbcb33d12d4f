"""Several devices: a worker process on each, which is given one variant after another.

Variants need nothing of each other. So a grid of them is spread, whole variants at a time, over the devices there are:
no gradient crosses a process, the effective batch stays what the YAML says, and a variant's numbers are those that it
would have had alone. With one device there is no worker.

A worker sees its own device only. Through one pipe it is sent the call to make, pickled, then the numbers to make it
with; back come what its `Reporter` was told and what each call returned. The pipe is also how either side learns that
the other is gone. A worker whose parent has died exits at once, whatever it is at: nobody trains on unseen. A parent
whose worker has died counts that call as failed and starts another worker. A worker that has nothing more to do is not
waited for while others work, and is ended if it does not end by itself.

Workers are started by `subprocess`: a process that `multiprocessing` spawns imports the parent's main script first, so
`spillover.run` in a script without `if __name__ == "__main__"` would run once more in each of them. They have sessions
of their own, so that Ctrl-C reaches the parent alone, which then ends them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from signal import Signals
from threading import Thread
from types import MappingProxyType
from typing import Any

from ..errors import ModelError, SpilloverError
from .progress import Reporter

Call = Callable[[int, Reporter], Any]

GRACE_S = 60.0  # for a worker to end in: loggers of trainings may have something to send yet

START = "import sys; sys.path[:] = {path!r}; from spillover.run.processes import main; main({pipe})"


def choose(devices: str) -> None:
    """Take the devices that `--device` names: one for this process, several for its workers.

    Works as long as torch is not imported yet. Whether they are there is found once a model is needed
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


def _visible(device: str) -> str:
    """CUDA_VISIBLE_DEVICES of a process that sees this device only. `cuda:N` counts those visible here, as in torch."""
    number = device.partition(":")[2]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not number or visible is None:
        return number
    return dict(enumerate(visible.split(","))).get(int(number), "")


def spread(
    call: Call, numbers: Iterable[int], devices: Sequence[str], reporter: Reporter
) -> Generator[tuple[int, Any], None, None]:
    """Make call(number, reporter) for each number, on each device one at a time; yield (number, result) as they finish.

    Calls begin in the order of `numbers`. Where a process died over one, or met a bug, its result is a ModelError that
    says so, with the worker's traceback as a note. A SpilloverError or OSError that a call raises is raised here.
    Closing this ends every process (`contextlib.closing`). Raises SpilloverError on Windows, whose processes inherit no
    pipe by its number.
    """
    if sys.platform == "win32":
        raise SpilloverError("several at once work on Linux and macOS", where="--device", allowed="one, as cuda:0")
    waiting = deque(numbers)
    devices = devices[: len(waiting)]
    work, threads = bytes(ForkingPickler.dumps(call)), _threads(len(devices))
    lanes = [_Lane(device, work, threads) for device in devices]
    try:
        for lane in lanes:
            lane.begin(waiting.popleft())
        while busy := {lane.pipe: lane for lane in lanes if lane.process}:
            for pipe in wait(list(busy), timeout=1.0):
                lane = busy[pipe]  # type: ignore[index]
                match lane.hear():
                    case "done", result:
                        yield lane.number, result
                        if waiting:
                            lane.begin(waiting.popleft())
                        else:
                            lane.leave()
                    case "refused", error:
                        raise error
                    case "left", _:
                        pass
                    case "doing", what:
                        lane.doing = f"{lane.device} {what}"
                        reporter.doing("\n".join(one.doing for one in lanes if one.is_working))
                    case name, *told:
                        getattr(reporter, name)(*told)
            for lane in lanes:
                if time.monotonic() > lane.deadline:
                    lane.kill()
    finally:
        for lane in lanes:
            lane.kill()


class _Lane:
    """A device with the process that works there. Where that dies, the next call gets another."""

    def __init__(self, device: str, work: bytes, threads: str) -> None:
        self.device, self.work = device, work
        self.environment = {
            "SPILLOVER_DEVICE": device,
            "CUDA_VISIBLE_DEVICES": _visible(device),
            "OMP_NUM_THREADS": threads,
        }
        self.number, self.doing = -1, f"{device} starting"
        self.process: subprocess.Popen[bytes] | None = None
        self.deadline = inf  # finite once the process is asked to leave

    @property
    def is_working(self) -> bool:
        return self.process is not None and self.deadline == inf

    def begin(self, number: int) -> None:
        self.number = number
        is_new = self.process is None
        if is_new:
            self._start()
        with suppress(OSError):  # one that is gone already: `hear` says so
            if is_new:
                self.pipe.send_bytes(self.work)
            self.pipe.send(number)

    def _start(self) -> None:
        self.pipe, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START.format(path=sys.path, pipe=theirs.fileno())],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def hear(self) -> tuple[Any, ...]:
        """What the process says next; for one that died, the result of its call; for one that left, that it did."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            was_working = self.is_working
            code = self._end()
            return ("done", _death(self.device, code)) if was_working else ("left", code)

    def leave(self) -> None:
        """Ask the process to end: it has nothing more to do. That it did, `hear` says."""
        if self.process:
            with suppress(OSError):
                self.pipe.send(None)
            self.deadline = time.monotonic() + GRACE_S

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self._end()

    def _end(self) -> int:
        assert self.process is not None
        code = self.process.wait()
        self.pipe.close()
        self.process, self.deadline = None, inf
        return code


def _death(device: str, code: int) -> ModelError:
    signal = Signals(-code).name if code < 0 else ""
    how = f"was killed by {signal}" if signal else f"ended with exit code {code}"
    why = "as Linux does where memory runs out: fewer devices at once need less" if signal == "SIGKILL" else None
    return ModelError(f"its process {how}", where=device, allowed=why)


def _threads(workers: int) -> str:
    """A worker's share of the processor's cores, unless OMP_NUM_THREADS says otherwise."""
    if asked := os.environ.get("OMP_NUM_THREADS"):
        return asked
    import torch

    return str(max(1, torch.get_num_threads() // workers))


def _frozen(items: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(items)


# Tasks hold mappings that nobody may change. Python does not pickle them by itself.
ForkingPickler.register(MappingProxyType, lambda mapping: (_frozen, (dict(mapping),)))


# --- in the worker ----------------------------------------------------------------------------------------------------


def main(pipe: int) -> None:
    """A worker's life: one call after another, until there are no more or the parent is gone."""
    parent = Connection(pipe)
    work = parent.recv_bytes()
    call: Call | None = None
    numbers: SimpleQueue[int | None] = SimpleQueue()
    Thread(target=_listen, args=(parent, numbers), daemon=True).start()
    relay = _Relay(parent)
    while (number := numbers.get()) is not None:
        try:
            call = call or pickle.loads(work)
            relay.send("done", call(number, relay))
        except (SpilloverError, OSError) as error:
            relay.send("refused", error)
        except Exception as error:
            relay.send("done", _bug(error))


def _bug(error: Exception) -> ModelError:
    """An exception as it can be sent, whatever it holds; its traceback is a note, which a traceback there prints."""
    what = traceback.format_exception_only(error)[-1].strip()
    told = ModelError(what, where=os.environ["SPILLOVER_DEVICE"])
    told.add_note(traceback.format_exc())
    return told


def _listen(parent: Connection, numbers: SimpleQueue[int | None]) -> None:
    try:
        while True:
            numbers.put(parent.recv())
    except (EOFError, OSError):
        os._exit(1)  # in the middle of whatever the other thread is at: what is stored is whole at any moment


class _Relay:
    """A `Reporter` that tells the parent's."""

    def __init__(self, parent: Connection) -> None:
        self.parent = parent

    def send(self, *message: Any) -> None:
        try:
            self.parent.send(message)
        except ConnectionError:
            os._exit(1)

    def start(self, cells: int, cells_done: int, work: float) -> None:
        self.send("start", cells, cells_done, work)

    def say(self, line: str) -> None:
        self.send("say", line)

    def doing(self, what: str) -> None:
        self.send("doing", what)

    def worked(self, work: float) -> None:
        self.send("worked", work)

    def cell(self) -> None:
        self.send("cell")
