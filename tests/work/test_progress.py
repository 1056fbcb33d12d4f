"""What a run shows while it works: cells that were done, of those that there are, and the time left."""

from __future__ import annotations

from pathlib import Path

import pytest
import tinyruns
from fakes import Executed
from rich.console import Console

from spillover.api import prepare
from spillover.work import progress
from spillover.work.execute import execute
from spillover.work.progress import LiveReporter, Reporter


class Counts(Reporter):
    def __init__(self) -> None:
        self.cells = self.done = self.work = self.worked_off = 0.0

    def start(self, cells: int, cells_done: int, work: float) -> None:
        self.cells, self.done, self.work = cells, cells_done, work

    def cell(self) -> None:
        self.done += 1

    def worked(self, work: float) -> None:
        self.worked_off += work


def test_test_sets_with_the_same_rows_are_counted_and_answered_once(tmp_path: Path) -> None:
    yaml = tinyruns.write_experiment(tmp_path)
    text = yaml.read_text().replace(
        "  echo:", '  again: {test: test.jsonl, labels: [" four", " five"], shots: [0]}\n  echo:'
    )
    yaml.write_text(text)
    changed = ["train.strategies=[ft]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]
    plan, store = prepare(yaml, changed, output_path=tmp_path / "out")
    assert (len(plan.grid.cells), plan.grid.size) == (6, 4)
    counts, backend = Counts(), Executed()
    assert execute(plan, store, counts, backend.backend()) == ()
    assert (counts.cells, counts.done) == (4, 4)
    assert counts.worked_off == pytest.approx(counts.work)
    again = Counts()
    execute(plan, store, again, backend.backend())
    assert (again.cells, again.done, again.work) == (4, 4, 0)


def test_the_time_left_counts_no_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 s of loading, then a tenth of the work in 2 s: 18 s are left, not ten times 62."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with LiveReporter(Console(quiet=True)) as reporter:
        reporter.start(10, 0, 1000.0)
        for then, what in ((30.0, "base: loading"), (60.0, "base: reviews, p1")):
            now = then
            reporter.doing(what)
        now = 62.0
        reporter.worked(100.0)
        assert "18 s" in reporter.bar.tasks[0].fields["count"]
        reporter.doing("base: news, p1")
        now = 64.0
        reporter.worked(100.0)
        assert "16 s" in reporter.bar.tasks[0].fields["count"]
