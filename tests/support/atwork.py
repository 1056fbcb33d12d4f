"""Processes that a run starts for its variants, with a backend that computes nothing and logs what it does.

`command` stands in for `spillover.work.processes.command`. What the processes shall do is in the environment, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fakes import Executed

PLAN = "SPILLOVER_TEST_AT_WORK"
CODE = "import sys; sys.path[:] = {path!r}; import atwork; sys.exit(atwork.work({folder!r}, {variant!r}))"


def command(folder: str, variant: str) -> list[str]:
    return [sys.executable, "-c", CODE.format(path=sys.path, folder=folder, variant=variant)]


def plan_for(log: Path, **what: str) -> Mapping[str, str]:
    """The environment of processes that log to a file. `what` names a variant for each thing that shall happen to it:

    `killed` is killed in its training, `exits` exits in it with code 7, `broken` meets a bug there, `hangs` never ends
    its training.
    """
    return {PLAN: json.dumps({"log": str(log), **what})}


def executed(log: Path) -> Counter[str]:
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def pids(log: Path) -> list[int]:
    """The processes that worked."""
    return [int(line.split()[1]) for line in executed(log) if line.startswith("pid ")]


class Logged:
    """The backend."""

    def __init__(self) -> None:
        self.what: dict[str, str] = json.loads(os.environ[PLAN])
        self.inner = Executed().backend()

    def train(self, folder: Path, built: Any, job: Any, *others: Any) -> dict[str, Any]:
        name = job.variant.name
        self.note(f"train {name}")
        if name == self.what.get("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == self.what.get("exits"):
            os._exit(7)
        if name == self.what.get("broken"):
            raise ZeroDivisionError("a bug")
        if name == self.what.get("hangs"):
            time.sleep(3600)
        return self.inner.train(folder, built, job, *others)

    def load(self, *arguments: Any, **options: Any) -> Any:
        engine, why_plain = self.inner.load(*arguments, **options)
        answer = engine._answer

        def _answer(request: Any) -> Any:
            self.note("answer")
            return answer(request)

        engine._answer = _answer
        return engine, why_plain

    def precision(self, requested: str) -> str:
        return "float32"

    def devices(self) -> list[str]:
        return ["cpu", "cpu"]

    def note(self, line: str) -> None:
        with Path(self.what["log"]).open("a") as handle:
            handle.write(line + "\n")


def work(folder: str, variant: str) -> int:
    """What a process does: work on one variant, and tell the parent."""
    from spillover.store.store import Store
    from spillover.work.execute import work_for_parent

    backend = Logged()
    backend.note(f"pid {os.getpid()} {os.environ['SPILLOVER_DEVICE']} {os.environ['OMP_NUM_THREADS']}")
    print("a library that prints")
    return work_for_parent(Store(Path(folder)), variant, backend)


def run(folder: str, file: str) -> None:
    """A whole run with these processes, as a user's script would start it."""
    from spillover.api import prepare
    from spillover.work import processes
    from spillover.work.execute import execute

    processes.command = command
    execute(*prepare(Path(file), output_path=Path(folder)), backend=Logged())


def eventually(is_so: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What `is_so` comes to return, once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := is_so():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came true")


def is_alive(pid: int) -> bool:
    """Whether a process still runs. One that has ended does not, even if nobody waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
