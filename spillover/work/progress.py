"""The progress of a run: what it is doing, how many cells are there, and the time left.

On a terminal this is one live line, or a line for each device. In a log it is a line every `LOG_EVERY_S` seconds. The
time left is the work left (tokens to be trained, scored and generated, as the plan estimates them) at the speed so far,
which is measured from the beginning of the first work: what is before it, such as loading a model, is no speed.
"""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

LOG_EVERY_S = 15.0


class Reporter:
    """What a run reports to; this one shows nothing. `work` is in tokens; `what` has a line for each device."""

    def start(self, cells: int, cells_done: int, work: float) -> None: ...
    def say(self, line: str) -> None: ...
    def doing(self, what: str) -> None: ...
    def worked(self, work: float) -> None: ...
    def cell(self) -> None: ...
    def failed(self, line: str) -> None:
        self.say(line)


class LiveReporter(Reporter):
    """Shows progress on a rich console. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cells = self.done = 0
        self.work, self.worked_off, self.began, self.logged = 1.0, 0.0, time.monotonic(), 0.0
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

    def start(self, cells: int, cells_done: int, work: float) -> None:
        self.cells, self.done, self.work = cells, cells_done, max(work, 1.0)
        self.began = time.monotonic()
        if cells_done:
            rest = "; nothing to compute" if cells_done == cells else ""
            self.say(f"{cells_done} of {cells} cells are there already{rest}")
        self._show()

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False)

    def doing(self, what: str) -> None:
        self.what = what
        if not self.worked_off:
            self.began = time.monotonic()
        self._show()

    def worked(self, work: float) -> None:
        self.worked_off += work
        self._show()

    def cell(self) -> None:
        self.done += 1
        self._show()

    def _show(self) -> None:
        share, elapsed = self.worked_off / self.work, time.monotonic() - self.began
        left = "measuring" if share < 0.02 else duration(elapsed * max(0.0, 1 - share) / share)
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
