"""What the tests of `spillover.run.processes` have done in workers. A worker imports this, so it is light: no torch."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fakes import Executed
from plans import plan_of

from spillover.errors import DataError
from spillover.run.backend import Backend
from spillover.run.execute import execute
from spillover.run.processes import spread
from spillover.run.progress import Quiet, Reporter
from spillover.store.store import Store

TWO = ("cpu", "cpu")


def eventually(is_so: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `is_so` comes to say, once it says anything."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := is_so():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def is_alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended but that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def square(number: int, reporter: Reporter) -> tuple[int, int]:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        sys.exit(7)
    reporter.say(f"squaring {number}")
    return number**2, os.getpid()


def where(number: int, reporter: Reporter) -> tuple[str, ...]:
    print("a library that prints")
    reporter.doing(f"number {number}")
    reporter.worked(0.5)
    return tuple(os.environ[name] for name in ("SPILLOVER_DEVICE", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"))


def refuse(number: int, reporter: Reporter) -> None:
    raise DataError("is empty", where=f"row {number}", allowed="something")


def divide(number: int, reporter: Reporter) -> float:
    return 1 / number


def slow_to_leave(folder: Path, number: int, reporter: Reporter) -> int:
    """0 has an hour to do before it ends; 1 is done once the result of 0 was heard."""
    if number == 0:
        atexit.register(time.sleep, 3600)
    else:
        eventually(lambda: (folder / "heard").exists())
    return os.getpid()


def wait_or_sleep(folder: Path, number: int, reporter: Reporter) -> None:
    (folder / str(os.getpid())).touch()
    if number:
        time.sleep(60)
    eventually(lambda: len(pids(folder)) == 2)


def pids(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def ask_and_wait(folder: str) -> None:
    list(spread(partial(wait_or_sleep, Path(folder)), [1, 2], TWO, Quiet()))


@dataclass
class Logged:
    """A backend that computes nothing, in whatever process: each execution is a line of a file.

    `victim` is killed (a process by the function that knows its number) in the training of `dies_training`, or before
    the `dies_answering`th answer of a variant.
    """

    log: Path
    dies_training: str = ""
    dies_answering: int = 0
    victim: Callable[[], int] = os.getpid
    devices: tuple[str, ...] = TWO

    def backend(self) -> Backend:
        return Backend(self.train, self.load, self.precision, self.has)

    def precision(self, asked: str) -> str:
        return "float32"

    def has(self) -> tuple[str, ...]:
        return self.devices

    def train(self, folder: Path, built: Any, job: Any, *others: Any) -> dict[str, Any]:
        self.note(f"train {job.variant.name}")
        if job.variant.name == self.dies_training:
            self.kill()
        return Executed().train(folder, built, job, *others)

    def load(self, *arguments: Any, **options: Any) -> Any:
        engine, why_plain = Executed().load(*arguments, **options)
        answer, answers = engine._answer, 0

        def _answer(request: Any) -> Any:
            nonlocal answers
            answers += 1
            if answers == self.dies_answering:
                self.kill()
            self.note("answer")
            return answer(request)

        engine._answer = _answer
        return engine, why_plain

    def note(self, line: str) -> None:
        with self.log.open("a") as handle:
            handle.write(line + "\n")

    def kill(self) -> None:
        os.kill(self.victim(), signal.SIGKILL)
        time.sleep(60)

    @property
    def executed(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines())


class Broken(Logged):
    """Its trainings are a bug."""

    def train(self, *arguments: Any) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")


class Unreadable(Logged):
    """A bug before a worker is at its first variant."""

    def __setstate__(self, state: Any) -> None:
        raise ZeroDivisionError("a bug")


def run_logged(folder: str) -> None:
    logged = Logged(Path(folder) / "log", dies_answering=14, victim=os.getppid)
    execute(plan_of(), Store(Path(folder) / "out"), backend=logged.backend())
