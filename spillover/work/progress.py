"""The progress of a run: what it is doing, how many cells are there, and the time left.

On a terminal this is one live line, or a line for each device. In a log it is a line every `LOG_EVERY_S` seconds. The
time left is the work left, as the plan estimates it, at the speed of each kind of work (`pace`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from .pace import Pace, Rates

LOG_EVERY_S = 15.0


class Reporter:
    """What a run reports to; this one shows nothing.

    `work` is what is left by kind (`plan.cost.KINDS`), and `rates` the seconds for a unit of each kind, as far as
    earlier runs know them. `what` has a line for each device.
    """

    @property
    def measured(self) -> Rates:
        """The rates of this run."""
        return {}

    def start(self, cells: int, cells_done: int, work: Mapping[str, float], rates: Rates) -> None: ...
    def say(self, line: str) -> None: ...
    def doing(self, what: str) -> None: ...
    def worked(self, kind: str, work: float) -> None: ...
    def cell(self) -> None: ...
    def failed(self, line: str) -> None:
        self.say(line)


class LiveReporter(Reporter):
    """Shows progress on a rich console. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cells = self.done = 0
        self.pace, self.logged = Pace({}), 0.0
        self.what = ""
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24, complete_style="#0072B2", finished_style="#0072B2"),
            TextColumn("{task.fields[count]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=1.0, count="")

    def __enter__(self) -> LiveReporter:
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    @property
    def measured(self) -> Rates:
        return self.pace.measured

    def start(self, cells: int, cells_done: int, work: Mapping[str, float], rates: Rates) -> None:
        self.cells, self.done, self.pace = cells, cells_done, Pace(dict(work), rates)
        if cells_done:
            rest = "; nothing to compute" if cells_done == cells else ""
            self.say(f"{cells_done} of {cells} cells are there already{rest}")
        self._show()

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def doing(self, what: str) -> None:
        self.what = what
        self._show()

    def worked(self, kind: str, work: float) -> None:
        self.pace.did(kind, work)
        self._show()

    def cell(self) -> None:
        self.done += 1
        self._show()

    def _show(self) -> None:
        seconds, share = self.pace.left, self.pace.share
        left = "measuring" if seconds is None else duration(seconds)
        count = f"{self.done} of {self.cells} cells · time left: {left}"
        self.bar.update(self.task, description=self.what or "starting", completed=min(1.0, share), count=count)
        now = time.monotonic()
        if not self.console.is_terminal and self.what and now - self.logged > LOG_EVERY_S:
            self.logged = now
            self.say(f"{self.what.replace(chr(10), '; ')} · {count}")


def duration(seconds: float) -> str:
    """Seconds as a person says them: 40 s, 12 min, 3.5 hours, 2.3 days."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours" if seconds < 86400 else f"{seconds / 86400:.1f} days"
