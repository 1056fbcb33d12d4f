"""Several devices: a worker process on each, which is given one variant after another.

Variants need nothing of each other. So a grid of them is spread, whole variants at a time, over the devices there are:
no gradient crosses a process, the effective batch stays what the YAML says, and a variant's numbers are those that it
would have had alone. With one device there is no worker.

A worker sees its own device only. Through one pipe it is sent the call to make, pickled, then the numbers to make it
with; back come what its `Reporter` was told and what each call returned. The pipe is also how either side learns that
the other is gone. A worker whose parent has died exits at once, whatever it is at: nobody trains on unseen. A parent
whose worker has died counts that call as failed and starts another worker.

Workers are started by `subprocess`: a process that `multiprocessing` spawns imports the parent's main script first, so
`spillover.run` in a script without `if __name__ == "__main__"` would run once more in each of them. They have sessions
of their own, so that Ctrl-C reaches the parent alone, which then ends them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from queue import SimpleQueue
from signal import SIGKILL, Signals
from threading import Thread
from types import MappingProxyType
from typing import Any

from .errors import ModelError, SpilloverError
from .progress import Reporter

Call = Callable[[int, Reporter], Any]

START = "import sys; sys.path[:] = {path!r}; from spillover.workers import main; main({pipe})"


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

    Calls begin in the order of `numbers`. Where a process died over one, its result is a ModelError that says so. A
    SpilloverError or OSError that a call raises is raised here. Closing this ends every process (`contextlib.closing`).
    """
    waiting = deque(numbers)
    devices = devices[: len(waiting)]
    work, threads = bytes(ForkingPickler.dumps(call)), _threads(len(devices))
    lanes = [_Lane(device, work, threads) for device in devices]
    try:
        for lane in lanes:
            lane.begin(waiting.popleft())
        while busy := {lane.pipe: lane for lane in lanes if lane.process}:
            for pipe in wait(list(busy)):
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
                    case "doing", what:
                        lane.doing = f"{lane.device} {what}"
                        reporter.doing("\n".join(one.doing for one in lanes if one.process))
                    case name, *told:
                        getattr(reporter, name)(*told)
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
        """What the process says next; for one that died, the result of its call."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return "done", _death(self.device, self._end())

    def leave(self) -> None:
        """Let the process go when it has nothing more to do, which loggers of trainings may need a moment for."""
        if self.process:
            with suppress(OSError):
                self.pipe.send(None)
            self._end()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self._end()

    def _end(self) -> int:
        assert self.process is not None
        code = self.process.wait()
        self.pipe.close()
        self.process = None
        return code


def _death(device: str, code: int) -> ModelError:
    how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    why = "as Linux does where memory runs out: fewer devices at once need less" if code == -SIGKILL else None
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
    call: Call = parent.recv()
    numbers: SimpleQueue[int | None] = SimpleQueue()
    Thread(target=_listen, args=(parent, numbers), daemon=True).start()
    relay = _Relay(parent)
    while (number := numbers.get()) is not None:
        try:
            relay.send("done", call(number, relay))
        except (SpilloverError, OSError) as error:
            relay.send("refused", error)


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
