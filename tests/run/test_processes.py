"""Several devices: calls spread over worker processes, and runs whose variants are trained and asked there.

`cpu,cpu` is two workers on one processor, which is all that a test of it needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import children
import pytest
from fakes import Executed
from insideworkers import (
    TWO,
    Broken,
    Logged,
    Unreadable,
    divide,
    eventually,
    is_alive,
    pids,
    refuse,
    slow_to_leave,
    square,
    wait_or_sleep,
    where,
)
from paths import ROOT
from plans import contents, plan_of
from prose import tells
from tinyruns import write_experiment

import spillover
from spillover.engine import hf
from spillover.errors import DataError, ModelError, SpilloverError
from spillover.run.execute import execute
from spillover.run.processes import choose, spread
from spillover.run.progress import Quiet
from spillover.store.store import Store

PACKAGE = Path(spillover.__file__).resolve().parent


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread each, this package and these tests for what is started here, and what `choose` sets goes again."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE.parent), str(ROOT / "tests" / "support")]))
    for name in ("SPILLOVER_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


class Heard(Quiet):
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def say(self, line: str) -> None:
        self.told.append(("say", line))

    def doing(self, what: str) -> None:
        self.told.append(("doing", what))

    def worked(self, work: float) -> None:
        self.told.append(("worked", work))


# --- spread ---------------------------------------------------------------------------------------------------------


def test_every_call_is_made_once_and_a_process_that_dies_costs_its_own_call() -> None:
    heard = Heard()
    results = dict(spread(square, range(8), TWO, heard))
    died = {number: results.pop(number) for number in (3, 4)}
    assert {number: result[0] for number, result in results.items()} == {n: n * n for n in (0, 1, 2, 5, 6, 7)}
    assert os.getpid() not in {pid for _, pid in results.values()}
    assert all(isinstance(result, ModelError) for result in died.values())
    assert tells(str(died[3]), "cpu", "SIGKILL", "memory") and tells(str(died[4]), "cpu", "exit code 7")
    assert sorted(heard.told) == [("say", f"squaring {n}") for n in (0, 1, 2, 5, 6, 7)]


def test_a_worker_sees_its_own_device_and_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With GPUs 4, 6 and 7 visible, as a scheduler may leave it, cuda:2 is the last of them: as in torch."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    heard = Heard()
    results = dict(spread(where, [0, 1], ["cuda:0", "cuda:2"], heard))
    assert results == {0: ("cuda:0", "4", "1"), 1: ("cuda:2", "7", "1")}
    assert heard.told.count(("worked", 0.5)) == 2
    lines = {line for kind, what in heard.told if kind == "doing" for line in str(what).split("\n")}
    assert (
        {"cuda:0 number 0", "cuda:2 number 1"}
        <= lines
        <= {"cuda:0 starting", "cuda:0 number 0", "cuda:2 starting", "cuda:2 number 1"}
    )


def test_what_a_call_refuses_is_raised_here() -> None:
    with pytest.raises(DataError, match=r"^row 0: is empty \(something\)$") as raised:
        list(spread(refuse, [0], TWO, Quiet()))
    assert (raised.value.what, raised.value.where) == ("is empty", "row 0")


def test_a_bug_is_the_result_of_its_call_and_has_its_traceback() -> None:
    results = dict(spread(divide, range(3), TWO, Quiet()))
    bug = results.pop(0)
    assert results == {1: 1.0, 2: 0.5}
    assert isinstance(bug, ModelError) and tells(str(bug), "cpu", "ZeroDivisionError", "division by zero")
    assert "in divide" in "".join(traceback.format_exception(bug))


def test_a_worker_that_does_not_end_is_not_waited_for_and_then_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spillover.run.processes.GRACE_S", 5.0)
    with closing(spread(partial(slow_to_leave, tmp_path), [0, 1], TWO, Quiet())) as results:
        number, slow = next(results)
        assert number == 0
        (tmp_path / "heard").touch()
        assert next(results)[0] == 1
        assert is_alive(slow)
        assert list(results) == []
        assert not is_alive(slow)


def test_windows_has_one_device_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(SpilloverError) as told:
            next(spread(square, range(2), TWO, Quiet()))
    assert tells(str(told.value), "--device", "Linux", "macOS")
    without = "import signal; del signal.SIGKILL; from spillover.run.processes import choose; choose('cpu')"
    subprocess.run([sys.executable, "-c", without], check=True)


def test_no_worker_outlives_the_one_who_asked(tmp_path: Path) -> None:
    with closing(spread(partial(wait_or_sleep, tmp_path), range(3), TWO, Quiet())) as results:
        assert next(results) == (0, None)
        assert all(map(is_alive, pids(tmp_path)))
    assert not any(map(is_alive, pids(tmp_path)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nor_a_parent_that_is_killed(tmp_path: Path, number: int) -> None:
    """Started as a user's script would be, without `if __name__ == "__main__"`."""
    script = tmp_path.with_suffix(".py")
    script.write_text("import sys\nfrom insideworkers import ask_and_wait\nask_and_wait(sys.argv[1])\n")
    parent = children.start([sys.executable, str(script), str(tmp_path)], stderr=subprocess.DEVNULL)
    eventually(lambda: len(pids(tmp_path)) == 2)
    parent.send_signal(number)
    assert parent.wait() == -number
    eventually(lambda: not any(map(is_alive, pids(tmp_path))), seconds=10)


# --- which devices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "visible", "seen"),
    [
        ("cpu", None, ""),
        ("cpu,cpu", None, ""),
        ("cuda", None, None),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6,7", "6"),
        ("cuda:3", "4,6,7", ""),  # none, so that the run is refused
        ("cuda:0,cuda:1", None, None),  # for the workers
    ],
)
def test_choose(monkeypatch: pytest.MonkeyPatch, asked: str, visible: str | None, seen: str | None) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    choose(asked)
    assert (os.environ["SPILLOVER_DEVICE"], os.environ.get("CUDA_VISIBLE_DEVICES")) == (asked, seen)


@pytest.mark.parametrize("asked", ["", "gpu", "cuda:", "cuda:x", "cpu,cuda:0", "cuda,cuda", "cuda:0,", "cpu:0"])
def test_choose_refuses(asked: str) -> None:
    with pytest.raises(SpilloverError, match=r"--device: .*cpu, cuda, cuda:0"):
        choose(asked)


@pytest.mark.parametrize(
    ("asked", "gpus", "found"),
    [
        ("", 0, ["cpu"]),
        ("", 1, ["cuda:0"]),
        ("", 2, ["cuda:0", "cuda:1"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 0, ["cpu"]),
        ("cuda:5", 1, ["cuda:5"]),  # the one this process sees
        ("cuda:1,cuda:1", 2, ["cuda:1", "cuda:1"]),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, asked: str, gpus: int, found: Sequence[str]) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.setenv("SPILLOVER_DEVICE", asked)
    assert hf.devices() == found


def test_a_gpu_that_is_not_there_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("SPILLOVER_DEVICE", "cuda:0,cuda:2")
    with pytest.raises(ModelError, match=r"--device cuda:2\b.*cuda:0, cuda:1\b"):
        hf.devices()


# --- runs that compute nothing --------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path: Path, smollm2: Path) -> dict[str, str]:
    """Every prediction of a run on one device."""
    executed = Executed()
    execute(plan_of(), Store(tmp_path / "whole"), backend=executed.backend())
    assert executed.answers == 3 * 3 * 2 * 5
    return contents(tmp_path / "whole")


def test_a_run_on_several_devices_does_what_a_run_on_one_does(tmp_path: Path, whole: dict[str, str]) -> None:
    logged = Logged(tmp_path / "log")
    assert execute(plan_of(), Store(tmp_path / "out"), backend=logged.backend()) == ()
    assert contents(tmp_path / "out") == whole
    assert logged.executed == {"train reviews-ft": 1, "train reviews-fticl2": 1, "answer": 90}


def test_a_killed_worker_is_a_failed_variant_and_only_that_is_done_again(tmp_path: Path, whole: dict[str, str]) -> None:
    logged = Logged(tmp_path / "log", dies_training="reviews-ft")
    (failure,) = execute(plan_of(), Store(tmp_path / "out"), backend=logged.backend())
    assert tells(failure, "reviews-ft", "cpu", "SIGKILL", "memory")
    assert len(contents(tmp_path / "out")) == 2 * 6
    again = Logged(tmp_path / "again")
    assert execute(plan_of(), Store(tmp_path / "out"), backend=again.backend()) == ()
    assert again.executed == {"train reviews-ft": 1, "answer": 30}
    assert contents(tmp_path / "out") == whole


def test_a_failure_in_a_worker_leaves_its_error_as_on_one_device(tmp_path: Path, smollm2: Path) -> None:
    said = execute(plan_of(), Store(tmp_path / "out"), backend=Broken(tmp_path / "log").backend())
    errors = [tmp_path / "out" / "errors" / f"{name}.txt" for name in ("reviews-ft", "reviews-fticl2")]
    assert sorted(said) == [f"{path.stem} failed: ZeroDivisionError: a bug (all of it in {path})" for path in errors]
    assert all("in train" in path.read_text() for path in errors)  # the worker's traceback
    assert len(contents(tmp_path / "out")) == 6  # the base's


def test_a_bug_of_a_worker_leaves_its_traceback_where_the_failure_says(tmp_path: Path, smollm2: Path) -> None:
    said = execute(plan_of(), Store(tmp_path / "out"), backend=Unreadable(tmp_path / "log").backend())
    errors = [tmp_path / "out" / "errors" / f"{name}.txt" for name in ("base", "reviews-ft", "reviews-fticl2")]
    assert sorted(said) == [
        f"{path.stem} failed: cpu: ZeroDivisionError: a bug (all of it in {path})" for path in errors
    ]
    assert all("in __setstate__" in path.read_text() for path in errors)


def test_a_killed_run_goes_on(tmp_path: Path, whole: dict[str, str]) -> None:
    """The parent dies when a worker has answered a unit (test set x prompt format) of 10 and is in the next one."""
    code = f"from insideworkers import run_logged; run_logged({str(tmp_path)!r})"
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    first = Logged(tmp_path / "log").executed
    again = Logged(tmp_path / "again")
    assert execute(plan_of(), Store(tmp_path / "out"), backend=again.backend()) == ()
    assert contents(tmp_path / "out") == whole
    assert 90 <= first["answer"] + again.executed["answer"] < 90 + 2 * 10  # what two workers were at is asked again


# --- real ones, of a few thousand weights ---------------------------------------------------------------------------


def workers_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            of_parent = path.joinpath("stat").read_text().rpartition(")")[2].split()[1] == str(parent)
            if of_parent and b"spillover.run.processes" in path.joinpath("cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:  # gone while we looked
            continue
    return found


def start(place: Path, output: str, device: str) -> subprocess.Popen[str]:
    options = ["-o", output, "--device", device, "--set", "train.seeds=0"]
    command = [sys.executable, "-m", "spillover.cli", "run", "twice.yaml", *options]
    return children.start(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_real_run_that_was_stopped_on_two_devices_ends_with_the_bytes_of_one(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    stopped = start(tmp_path, "two", "cpu,cpu")
    eventually(lambda: list(tmp_path.glob("two/variants/*.making")) or stopped.poll() is not None)
    workers = workers_of(stopped.pid)
    stopped.send_signal(signal.SIGINT)
    said, _ = stopped.communicate()
    assert stopped.returncode == 130, said
    assert tells(said, "Stopped", "kept") and "Traceback" not in said
    assert len(workers) == 2 and not any(map(is_alive, workers))

    for output, device in (("one", "cpu"), ("two", "cpu,cpu")):
        run = start(tmp_path, output, device)
        said, _ = run.communicate()
        assert run.returncode == 0, said
    for pattern, count in (("cells/*/predictions.jsonl", 4 * 4), ("variants/*/*.safetensors", 3)):
        one, two = (
            {path.parent.name: path.read_bytes() for path in (tmp_path / output).glob(pattern)}
            for output in ("one", "two")
        )
        assert len(one) == count and one == two
