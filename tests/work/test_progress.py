"""What a run shows while it works: cells that were done, of those that there are, and the time left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import tinyruns
from fakes import Executed
from rich.console import Console

from spillover.api import prepare
from spillover.work import pace
from spillover.work.execute import execute
from spillover.work.pace import Pace
from spillover.work.progress import LiveReporter, Reporter


class Counts(Reporter):
    def __init__(self) -> None:
        self.cells = self.done = 0
        self.work: dict[str, float] = {}
        self.worked_off: dict[str, float] = {}

    def start(self, cells: int, cells_done: int, work: Mapping[str, float], rates: Mapping[str, float]) -> None:
        self.cells, self.done, self.work = cells, cells_done, dict(work)

    def cell(self) -> None:
        self.done += 1

    def worked(self, kind: str, work: float) -> None:
        self.worked_off[kind] = self.worked_off.get(kind, 0.0) + work


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
    assert (again.cells, again.done, again.work) == (4, 4, {})


def test_a_line_of_a_log_is_one_line_however_narrow_it_is() -> None:
    log = Console(file=StringIO(), width=40)
    LiveReporter(log).say("hotels-fticl-random+lora-s0: training, step 1 of 2 · 14 of 48 cells · time left: 17 min")
    assert log.file.getvalue().count("\n") == 1  # type: ignore[attr-defined]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time, in seconds from the start of the run."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_each_kind_of_work_has_its_own_speed(clock: Callable[[float], None]) -> None:
    """A model is loaded in 60 s, 100 of 1000 label tokens take 2 s, 50 of 100 generated ones take 10 s."""
    going = Pace({"loading": 2, "labels": 1000, "text": 100})
    assert going.left is None and going.share == 0
    for then, kind, amount, left in (
        (60, "loading", 1, None),
        (62, "labels", 100, 60 + 18 + 2),  # generating goes at the speed of labels, as long as nothing else is known
        (72, "text", 50, 60 + 18 + 10),
        (90, "labels", 900, 60 + 10),
        (100, "text", 50, 60),
        (160, "loading", 1, 0),
    ):
        clock(then)
        going.did(kind, amount)
        assert going.left == (left if left is None else pytest.approx(left)), then
    assert going.measured == pytest.approx({"loading": 60, "labels": 0.02, "text": 0.2}) and going.share == 1


def test_what_earlier_runs_took_is_known_at_the_start(clock: Callable[[float], None]) -> None:
    """And gives way to what this run measures."""
    work, rates = {"loading": 3, "training": 1000, "text": 100}, {"loading": 5.0, "training": 0.1, "text": 1.0}
    going = Pace(work, rates)
    assert going.left == pytest.approx(15 + 100 + 100)
    clock(100)  # half of the training at twice the time
    going.did("training", 500)
    assert going.left == pytest.approx(15 + 500 * (100 + 100 * 0.1) / (500 + 100) + 100)
    with LiveReporter(Console(quiet=True)) as reporter:
        reporter.start(10, 0, work, rates)
        assert "4 min" in reporter.bar.tasks[0].fields["count"]


def test_speeds_are_kept_for_this_machine_and_scale_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPILLOVER_CACHE", str(tmp_path / "cache"))
    yaml = tinyruns.write_experiment(tmp_path)
    plan, _ = prepare(yaml, output_path=tmp_path / "out")
    assert pace.known(plan) == {}
    pace.note(plan, {"training": 0.5, "text": 4.0}, devices=2)
    pace.note(plan, {"text": 0.25}, devices=2)  # 8 seconds on a busy machine, then half a second: 2 in the middle
    assert pace.known(plan) == {"training": 1.0, "text": 2.0}
    assert pace.known(plan, devices=4) == {"training": 0.25, "text": 0.5}
    size = pace._parameters(plan)
    assert size is not None
    other = replace(plan, experiment=plan.experiment.model_copy(update={"model": "org/other"}))
    monkeypatch.setattr(pace, "_parameters", lambda plan: 3 * size)
    assert pace.known(other) == {"training": 3.0, "text": 6.0}
    plain = replace(plan, experiment=plan.experiment.model_copy(update={"engine": "plain"}))
    assert pace.known(plain) == {}
    (tmp_path / "cache" / "speeds.json").write_text("{")
    assert pace.known(plan) == {}


def test_a_run_reports_all_work_of_each_kind(tmp_path: Path) -> None:
    yaml = tinyruns.write_experiment(tmp_path)
    changed = ["train.strategies=[ft]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]
    plan, store = prepare(yaml, changed, output_path=tmp_path / "out")
    counts = Counts()
    execute(plan, store, counts, Executed().backend())
    assert {"labels", "loading", "training"} <= set(counts.work)
    assert counts.worked_off == pytest.approx(counts.work)
