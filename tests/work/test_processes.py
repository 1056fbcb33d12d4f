"""Several processes at work on one folder: what each of them does, what a killed one costs, and that none is left.

`cpu,cpu` is two processes on one processor, which is all that a test of it needs. The model is a random one of a few
thousand weights, and the backend computes nothing, but in the last test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import atwork
import children
import pytest
from atwork import eventually, executed, is_alive, pids, plan_for
from fakes import Executed
from paths import ROOT
from plans import contents
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.errors import StoreBusy
from spillover.plan.plan import Plan
from spillover.store.store import Store
from spillover.work import processes
from spillover.work.execute import execute
from spillover.work.progress import Reporter

FT, FTICL = "parity-ft", "parity-fticl2"
FEW = """
train: {datasets: [parity], strategies: [ft, {fticl: {shots: [2]}}]}
test: {shots: [0, 2], prompts: [p1], limit: 5}
"""
SCRIPT = "import sys; sys.path[:] = {path!r}; import atwork; atwork.run(*sys.argv[1:])"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment of three variants; processes that are started log what they do to `log`."""
    path = write_experiment(tmp_path)
    head = path.read_text().split("train:\n")[0]
    path.write_text(head + FEW)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(processes, "command", atwork.command)
    will(monkeypatch, tmp_path / "log")
    return path


def will(monkeypatch: pytest.MonkeyPatch, log: Path, **what: str) -> Path:
    """From here on processes log to this file, and `what` happens to them."""
    for name, value in plan_for(log, **what).items():
        monkeypatch.setenv(name, value)
    return log


def prepared(file: Path, output: str = "out") -> tuple[Plan, Store]:
    return prepare(file, output_path=file.parent / output)


@pytest.fixture
def whole(file: Path) -> dict[str, str]:
    """Every prediction of a run in one process."""
    backend = Executed()
    assert execute(*prepared(file, "whole"), backend=backend.backend()) == ()
    assert backend.answers == 3 * 2 * 2 * 5
    return contents(file.parent / "whole")


class Heard(Reporter):
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: set[str] = set()
        self.cells, self.tokens, self.expected = 0, 0.0, 0.0

    def start(self, cells: int, cells_done: int, work: Mapping[str, float], rates: Mapping[str, float]) -> None:
        self.expected = sum(work.values())

    def say(self, line: str) -> None:
        self.lines.append(line)

    def doing(self, what: str) -> None:
        self.shown |= set(what.split("\n"))

    def worked(self, kind: str, work: float) -> None:
        self.tokens += work

    def cell(self) -> None:
        self.cells += 1

    def failed(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.slow
def test_several_processes_do_what_one_does(file: Path, whole: dict[str, str], tmp_path: Path) -> None:
    heard = Heard()
    assert execute(*prepared(file), heard, atwork.Logged()) == ()
    assert contents(tmp_path / "out") == whole
    done = executed(tmp_path / "log")
    assert (done[f"train {FT}"], done[f"train {FTICL}"], done["answer"]) == (1, 1, 60)
    assert len(set(pids(tmp_path / "log")) - {os.getpid()}) == 3
    assert heard.cells == 12
    assert sorted(line.split(":")[0] for line in heard.lines) == [FT, FTICL]  # what a fake engine cannot prove
    assert heard.tokens == pytest.approx(heard.expected)
    assert {"cpu starting", "cpu base: loading", f"cpu {FT}: loading"} <= heard.shown


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("killed", "SIGKILL"),
        pytest.param("exits", "exit code 7", marks=pytest.mark.slow),
        pytest.param("broken", "ZeroDivisionError", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_fails_costs_its_variant_only(
    file: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str, said: str
) -> None:
    will(monkeypatch, tmp_path / "log", **{fate: FT})
    (failure,) = execute(*prepared(file), backend=atwork.Logged())
    assert failure.startswith(f"{FT} failed") and said in failure
    error = tmp_path / "out" / "errors" / f"{FT}.txt"
    assert str(error) in failure and said in error.read_text()
    assert len(contents(tmp_path / "out")) == 2 * 4
    again = will(monkeypatch, tmp_path / "again")
    assert execute(*prepared(file), backend=atwork.Logged()) == ()
    assert contents(tmp_path / "out") == whole
    assert executed(again)[f"train {FT}"] == 1 and executed(again)["answer"] == 20
    assert not error.exists()


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGTERM, signal.SIGINT))],
)
def test_no_process_is_left_when_the_parent_dies(
    file: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """And the same command goes on from there. A parent that gets no SIGINT ignores it, as a background job does."""
    log = will(monkeypatch, tmp_path / "log", hangs=FT)
    command = [sys.executable, "-c", SCRIPT.format(path=sys.path), str(tmp_path / "out"), str(file)]
    if number == signal.SIGINT:
        parent = children.start(command, stderr=subprocess.DEVNULL)
    else:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        signal.signal(signal.SIGINT, before)
    eventually(lambda: executed(log)[f"train {FT}"] or parent.poll() is not None)
    started = pids(log)
    parent.send_signal(number)
    assert parent.wait() != 0
    assert started
    eventually(lambda: not any(map(is_alive, started)))
    will(monkeypatch, tmp_path / "again")
    assert execute(*prepared(file), backend=atwork.Logged()) == ()
    assert contents(tmp_path / "out") == whole


@pytest.mark.slow
def test_a_variant_that_another_process_holds_is_a_failure_of_that_variant(file: Path, tmp_path: Path) -> None:
    plan, store = prepared(file)
    store.create()
    held = next(variant for variant in plan.grid.variants if variant.name == FT)
    for backend in (atwork.Logged(), Executed().backend()):  # in processes of their own, and in this one
        with Store(store.folder).lock_variant(held.key, FT):
            (failure,) = execute(plan, store, backend=backend)
        assert FT in failure and "another process" in failure
    assert len(contents(store.folder)) == 2 * 4


def test_what_a_process_refuses_ends_the_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the test rows change between the plan and the processes that make it again."""
    plan, store = prepared(file)
    rows = tmp_path / "test.jsonl"
    rows.write_text("".join(reversed(rows.read_text().splitlines(keepends=True))))
    with pytest.raises(Exception, match="changed"):
        execute(plan, store, backend=atwork.Logged())
    assert not any(map(is_alive, pids(tmp_path / "log")))


def test_a_second_run_is_refused(file: Path) -> None:
    plan, store = prepared(file)
    store.create()
    with store.lock(), pytest.raises(StoreBusy):
        execute(plan, Store(store.folder), backend=atwork.Logged())


# --- real ones, of a few thousand weights ---------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_run_that_was_stopped_on_two_devices_ends_with_the_bytes_of_one(tmp_path: Path) -> None:
    write_experiment(tmp_path)

    def start(output: str, device: str) -> subprocess.Popen[str]:
        options = ["-o", output, "--device", device, "--set", "train.seeds=0"]
        command = [sys.executable, "-m", "spillover", "run", "twice.yaml", *options]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return children.start(command, cwd=tmp_path, env=environment, **pipes)

    stopped = start("two", "cpu,cpu")
    eventually(lambda: list(tmp_path.glob("two/variants/*.making")) or stopped.poll() is not None)
    stopped.send_signal(signal.SIGINT)
    said, _ = stopped.communicate()
    assert stopped.returncode == 130, said
    assert "Traceback" not in said

    for output, device in (("one", "cpu"), ("two", "cpu,cpu")):
        run = start(output, device)
        said, _ = run.communicate()
        assert run.returncode == 0, said
    for pattern, count in (("cells/*/predictions.jsonl", 4 * 4), ("variants/*/*.safetensors", 3)):
        one, two = (
            {path.parent.name: path.read_bytes() for path in (tmp_path / output).glob(pattern)}
            for output in ("one", "two")
        )
        assert len(one) == count and one == two
