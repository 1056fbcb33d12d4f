"""Jobs at a place: which begins when, what is shown of them, and what becomes of a job whose node is lost.

The place is a fake one that plays what its processes say.
"""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from commandline import Cli
from fakes import Executed
from tinyruns import write_experiment

from spillover import __version__
from spillover.api import prepare
from spillover.cli import app
from spillover.errors import ClusterError, ModelError, SpilloverError, StoreError
from spillover.experiment.schema import parse_experiment
from spillover.plan.jobs import Job
from spillover.work import cluster, on_node
from spillover.work.backend import Backend
from spillover.work.cluster import Nodes
from spillover.work.execute import write_plan
from spillover.work.pool import SHOWN, Message, Pool, Task
from spillover.work.progress import Reporter
from spillover.work.resources import GB, Needs, Node, cores_of_a_job, memory_of, needs_of
from spillover.work.run import Run

FT, WISE = "parity-ft", "parity-ft+wise"
STRATEGIES = "train.strategies=[ft, {ft + wise: {alpha: [0.5]}}]"


class Heard(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.shown: list[list[str]] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def doing(self, what: str) -> None:
        self.shown.append(what.split("\n"))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of three jobs: the base, a training, and what is made of both."""
    sets = [STRATEGIES, "train.seeds=0", "test.limit=3", "choose=none"]
    plan, store = prepare(write_experiment(tmp_path), sets, output_path=tmp_path / "out")
    store.create()
    write_plan(plan, store)
    backend: Backend = Executed().backend()
    return Run(plan, store, Heard(), backend)


class Stage:
    """A place with room for a number of jobs. Weights are made while a process says that it trains."""

    at_once = 2

    def __init__(self, run: Run, monkeypatch: pytest.MonkeyPatch, room: int = 99, fails: str = "") -> None:
        self.room, self.fails = room, fails
        self.inbox: queue.SimpleQueue[tuple[Task, Message]] = queue.SimpleQueue()
        self.log: list[str] = []
        self.at_work = 0
        self.made: set[str] = set()
        monkeypatch.setattr(run.store, "has_weights", self.made.__contains__)

    @property
    def started(self) -> list[str]:
        return [line.removeprefix("start ") for line in self.log if line.startswith("start ")]

    def has_room(self) -> bool:
        return self.at_work < self.room

    def start(self, job: Job) -> Task:
        task = Task(job)
        self.log.append(f"start {task.name}")
        self.at_work += 1
        said = [] if task.name == self.fails else [["doing", f"{task.name}: training"], ["cell"], ["done"]]
        for message in [["at", "node-1"], ["log", "a warning"], *said, ["ended", "exit code 1"]]:
            self.inbox.put((task, message))
        return task

    def hear(self) -> tuple[Task, Message]:
        task, message = self.inbox.get_nowait()
        if message[0] == "doing":
            self.made.add(task.job.variant.key)
        if message[0] == "ended":
            self.at_work -= 1
            self.log.append(f"end {task.name}")
        return task, message

    def close(self) -> None: ...


@pytest.mark.parametrize("room", [1, 99])
def test_the_base_comes_first_and_children_after_their_parents(
    run: Run, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    stage = Stage(run, monkeypatch, room)
    assert Pool(run, stage, run.left.jobs()).work_off() == []
    assert stage.started == ["base", FT, WISE]
    assert run.failures == []


def test_a_child_begins_while_its_parents_cells_are_answered(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent's weights are there long before the parent's process ends."""
    monkeypatch.setattr("spillover.work.pool.LOOK_EVERY_S", 0.0)
    stage = Stage(run, monkeypatch)
    Pool(run, stage, run.left.jobs()).work_off()
    assert stage.log.index(f"start {WISE}") < stage.log.index(f"end {FT}")


def test_at_a_url_weights_that_another_machine_makes_are_seen_meanwhile(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, what other processes made is seen once the store is refreshed."""
    monkeypatch.setattr("spillover.work.pool.LOOK_EVERY_S", 0.0)
    monkeypatch.setattr("spillover.work.pool.REFRESH_EVERY_S", 0.0)
    stage, seen = Stage(run, monkeypatch), set[str]()
    monkeypatch.setattr(run.store, "has_weights", seen.__contains__)
    monkeypatch.setattr(run.store, "refresh", lambda: seen.update(stage.made))
    Pool(run, stage, run.left.jobs()).work_off()
    assert stage.log.index(f"start {WISE}") < stage.log.index(f"end {FT}")


def test_what_ends_without_a_word_has_failed_and_its_children_cannot_begin(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (left_over,) = Pool(run, Stage(run, monkeypatch, fails=FT), run.left.jobs()).work_off()
    assert left_over.variant.name == WISE
    (failure,) = run.failures
    assert failure.startswith(f"{FT} failed") and "node-1: exit code 1" in failure


def test_the_display_has_the_place_of_each_job_and_how_many_wait(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Pool(run, Stage(run, monkeypatch), run.left.jobs()).work_off()
    shown = run.reporter.shown  # type: ignore[attr-defined]
    assert shown[0] == ["node-1 starting", "1 waiting for a node"]
    assert shown[1] == ["node-1 base: training", "1 waiting for a node"]


def test_what_a_process_writes_stands_behind_its_node_and_variant(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Pool(run, Stage(run, monkeypatch), run.left.jobs()).work_off()
    assert run.reporter.lines[0] == "node-1 base: a warning"  # type: ignore[attr-defined]


def test_the_display_is_no_longer_than_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(run, Stage(run, monkeypatch), [])
    (base, *_) = run.plan.jobs
    pool.running = [Task(base, f"node-{number}") for number in range(SHOWN + 5)]
    pool._show()
    (lines,) = run.reporter.shown  # type: ignore[attr-defined]
    assert len(lines) == SHOWN + 1 and "5 others" in lines[-1]


# --- on a cluster -----------------------------------------------------------------------------------------


class NodeDiedError(Exception): ...


class OutOfMemoryError(Exception): ...


class TaskError(Exception): ...


class FakeRay:
    """As much of Ray as `Nodes` asks for. A task is a list of what it yields, or of the error that it ends with."""

    class exceptions:  # as in Ray
        RayError = (NodeDiedError, OutOfMemoryError, TaskError)
        NodeDiedError = WorkerCrashedError = ObjectLostError = NodeDiedError
        OutOfMemoryError = OutOfMemoryError

    def __init__(self, *tasks: list[Any]) -> None:
        self.tasks, self.asked = list(tasks), []

    def options(self, **asked: Any) -> Any:
        self.asked.append(asked)
        return SimpleNamespace(remote=lambda *given: iter(self.tasks.pop(0)))

    def wait(self, streams: list[Iterator[Any]], timeout: float) -> tuple[list[Any], list[Any]]:
        return streams[:1], streams[1:]

    def get(self, found: Any) -> Any:
        if isinstance(found, Exception):
            raise found
        return found


def nodes(run: Run, *tasks: list[Any]) -> Nodes:
    place = object.__new__(Nodes)
    ray = FakeRay(*tasks)
    place.__dict__.update(run=run, ray=ray, work=ray, streams=[], given={}, mark="m", shapes=None, cpus=2)
    place.__dict__.update(inbox=cluster.deque(), said=cluster.deque(), nodes=[Node(2, 0, 8 * GB)])
    return place


def heard_of(place: Nodes, job: Job) -> list[Message]:
    place.start(job)
    messages: list[Message] = []
    while not messages or messages[-1][0] != "ended":
        messages.append(place.hear()[1])
    return messages


def test_a_job_whose_node_is_lost_is_given_again(run: Run) -> None:
    lost = [[["at", "node-1"], ["doing", "training"]], NodeDiedError("the node died\nand more")]
    place = nodes(run, lost, [[["at", "node-2"]], [["done"], ["ended", "exit code 0"]]])
    messages = heard_of(place, run.plan.jobs[0])
    assert [message for message in messages if message[0] == "at"] == [["at", "node-1"], ["at", "node-2"]]
    assert messages[-2:] == [["done"], ["ended", "exit code 0"]]
    (line,) = run.reporter.lines  # type: ignore[attr-defined]
    assert line.startswith("base:") and "lost" in line and "2 of 3" in line


def test_a_job_is_given_three_times_at_most(run: Run) -> None:
    place = nodes(run, *([NodeDiedError("the node died")] for _ in range(9)))
    ((kind, how),) = heard_of(place, run.plan.jobs[0])
    assert kind == "ended" and "3 times" in how and "the node died" in how
    assert len(place.ray.tasks) == 6 and not place.streams


def test_a_job_that_ray_ends_for_want_of_memory_is_given_again_and_the_line_says_how_to_reserve_more(run: Run) -> None:
    place = nodes(run, *([OutOfMemoryError("memory is full")] for _ in range(9)))
    ((_, how),) = heard_of(place, run.plan.jobs[0])
    assert "memory is full" in how and "resources.memory" in how
    assert len(place.ray.asked) == 3


def test_a_bug_in_a_task_is_not_given_again(run: Run) -> None:
    error = TaskError("ray::work() (pid=1)\nTraceback")
    error.cause = ZeroDivisionError("a bug")  # type: ignore[attr-defined]
    place = nodes(run, [error])
    ((_, how),) = heard_of(place, run.plan.jobs[0])
    assert how == "ZeroDivisionError: a bug"
    assert len(place.ray.asked) == 1


def test_a_node_with_another_version_is_refused() -> None:
    assert on_node.other_version(__version__) is None
    (start,), messages = on_node.work("out", "base", "0.0.0", {"SPILLOVER_DEVICE": "cpu"})
    refused, end = messages
    assert refused[:2] == ["refused", "ClusterError"] and __version__ in refused[2] and "0.0.0" in refused[4]
    assert (start[0], end[0]) == ("at", "ended")


def test_a_node_that_sees_another_folder_is_refused(run: Run, tmp_path: Path) -> None:
    mark = run.store.leave_mark()
    run.store.check_mark(mark)
    other = type(run.store)(tmp_path / "other")
    for _ in range(2):  # without a folder there, and with one of its own
        with pytest.raises(StoreError, match=r"other.*another folder.*s3://"):
            other.check_mark(mark)
        other.create()
        other.leave_mark()


def test_a_variant_that_a_lost_node_still_holds_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = [["refused", "StoreBusy", "held", None, None], ["ended", "exit code 3"]]
    tries = iter([[busy], [busy], [[["done"], ["ended", "exit code 0"]]]])
    monkeypatch.setattr(on_node, "process", lambda *_: next(tries))
    monkeypatch.setattr(on_node, "AGAIN_S", 0.0)
    told = list(on_node.work("out", "base", __version__, {"SPILLOVER_DEVICE": "cpu"}))
    assert told[1:] == [[["done"], ["ended", "exit code 0"]]]
    monkeypatch.setattr(on_node, "process", lambda *_: iter([busy]))
    monkeypatch.setattr(on_node, "BUSY_S", -1.0)
    assert list(on_node.work("out", "base", __version__, {"SPILLOVER_DEVICE": "cpu"}))[1:] == [busy]


@pytest.mark.parametrize("kind", ["Broken", "DataError"])
def test_what_a_process_refuses_ends_the_run_with_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also where the error is one that only a module of the store knows."""
    stage = Stage(run, monkeypatch)
    pool = Pool(run, stage, [])
    pool.running = [Task(run.plan.jobs[0], "node-1")]
    with pytest.raises(SpilloverError, match=r"weights.*is not whole") as raised:
        pool._hear(pool.running[0], ["refused", kind, "is not whole", "weights", None])
    assert raised.value.exit_code == 2


class Alone(Backend):
    """The machine that Ray shows to a job that has reserved one GPU."""

    def devices(self) -> list[str]:
        return ["cuda:0"]

    def precision(self, requested: str) -> Any:
        return "float32"


def test_only_a_training_in_several_processes_needs_a_gpu_for_each(run: Run, tmp_path: Path) -> None:
    sets = [STRATEGIES, "train.seeds=0", "train.processes=4"]
    one = Run(*prepare(tmp_path / "twice.yaml", sets, output_path=tmp_path / "out"), Heard(), Alone())
    one.prepare([job_of(one, "base"), job_of(one, WISE)])
    with pytest.raises(ModelError, match=r"train\.processes"):
        one.prepare([job_of(one, FT)])


# --- what a job reserves ----------------------------------------------------------------------------------


def experiment(**resources: Any) -> Any:
    return parse_experiment({"model": "m", "suite": "builtin", "resources": resources})


def job_of(run: Run, name: str) -> Job:
    return next(job for job in run.plan.jobs if job.variant.name == name)


SHAPES: Mapping[str, tuple[int, ...]] = {"embed": (10_000, 1_000), "layer": (90_000, 1_000)}  # 0.4 GB in float32


def test_a_training_needs_more_memory_than_an_answer(run: Run) -> None:
    asked = run.plan.experiment
    base, ft = (memory_of(job_of(run, name), SHAPES, asked, on_gpu=False) for name in ("base", FT))
    assert 0.4 * GB < base < ft
    assert ft > 4 * 0.4 * GB  # weights, gradients and two moments
    assert memory_of(job_of(run, FT), SHAPES, asked, on_gpu=True) < ft
    assert memory_of(job_of(run, FT), None, asked, on_gpu=False) == 0


def test_what_the_yaml_says_counts(run: Run) -> None:
    given = experiment(cpus=3, gpus=0.5, memory=7)
    assert needs_of(run.plan.jobs[0], SHAPES, given, [Node(8, 2, 4 * GB)], cpus=1) == Needs(3, 0.5, round(7 * GB))


def test_what_is_estimated_fits_the_largest_node(run: Run) -> None:
    offered = [Node(8, 0, GB), Node(8, 0, 2 * GB)]
    assert needs_of(job_of(run, FT), SHAPES, experiment(), offered, cpus=4) == Needs(4, 0.0, round(2 * GB))
    assert needs_of(job_of(run, FT), SHAPES, experiment(), [Node(8, 1, GB)], cpus=4).gpus == 1


def test_processes_that_train_together_are_on_one_node(run: Run) -> None:
    """Each has a core or a GPU of its own, and memory for the model. Answers come from one process."""
    asked = experiment().model_copy(update={"train": run.plan.experiment.train.model_copy(update={"processes": 3})})
    offered = [Node(8, 4, 100 * GB)]
    alone, together = (needs_of(job_of(run, FT), SHAPES, one, offered, cpus=1) for one in (experiment(), asked))
    assert (together.cpus, together.gpus, together.memory) == (3, 3, 3 * alone.memory)
    assert needs_of(run.plan.jobs[0], SHAPES, asked, offered, cpus=1) == alone


@pytest.mark.parametrize(("given", "training", "answers"), [(1, 3, 1), (0.5, 3, 0.5), (4, 4, 4), (0, 0, 0)])
def test_processes_that_train_together_have_a_gpu_each_whatever_a_job_is_given(
    run: Run, given: float, training: float, answers: float
) -> None:
    together = run.plan.experiment.train.model_copy(update={"processes": 3})
    asked = experiment(gpus=given).model_copy(update={"train": together})
    reserved = [needs_of(job, SHAPES, asked, [Node(8, 4, GB)], 1).gpus for job in (job_of(run, FT), run.plan.jobs[0])]
    assert reserved == [training, answers]


def reserve(run: Run, address: str, *offered: Node, processes: int = 4) -> list[str]:
    """What is said when the nodes of a cluster are seen by a run whose trainings have several processes."""
    train = run.plan.experiment.train.model_copy(update={"processes": processes})
    asked = run.plan.experiment.model_copy(update={"train": train, "resources": experiment(memory=1).resources})
    run.plan = replace(run.plan, experiment=asked)
    place = nodes(run)
    place.__dict__.update(address=address, _nodes=lambda: list(offered))
    place._reserve(run.plan.jobs)
    return run.reporter.lines  # type: ignore[attr-defined]


def test_a_job_that_fits_no_node_is_named_although_the_base_fits(run: Run) -> None:
    """Where the memory is given, all reserve the same of it."""
    said, waits = reserve(run, "auto", Node(8, 2, 8 * GB), Node(8, 1, 8 * GB))
    assert FT in waits and "4 GPUs" in waits and "4 GPUs" in said
    run.reporter.lines.clear()  # type: ignore[attr-defined]
    assert len(reserve(run, "auto", Node(8, 4, 8 * GB))) == 1


def test_a_cluster_of_this_machine_without_room_for_a_job_is_refused(run: Run) -> None:
    with pytest.raises(ClusterError, match=rf"resources.*{FT}.*4 GPUs"):
        reserve(run, cluster.LOCAL, Node(8, 2, 8 * GB))


@pytest.mark.parametrize(
    ("offered", "jobs", "cores"),
    [
        ([Node(8, 0, 0)], 2, 4),
        ([Node(8, 0, 0)], 100, 1),
        ([Node(8, 0, 0), Node(16, 0, 0)], 4, 4),
        ([Node(64, 8, 0), Node(0, 0, 0)], 100, 8),
        ([], 1, 1),
    ],
)
def test_the_cores_of_a_node_are_shared(offered: list[Node], jobs: int, cores: int) -> None:
    assert cores_of_a_job(experiment().resources, offered, jobs) == cores


# --- the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ray", "file"),
    [
        (["a.yaml", "--ray"], "local", "a.yaml"),
        (["--ray", "a.yaml"], "local", "a.yaml"),
        (["a.yaml", "--ray", "auto"], "auto", "a.yaml"),
        (["--ray", "10.0.0.1:6379", "a.yaml"], "10.0.0.1:6379", "a.yaml"),
        (["a.yaml", "--ray", "--limit", "4"], "local", "a.yaml"),
        (["a.yaml"], None, "a.yaml"),
    ],
)
def test_the_address_of_a_cluster_may_be_left_out(words: list[str], ray: str | None, file: str) -> None:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    context = command.make_context("run", words)
    assert (context.params["ray"], str(context.params["file"])) == (ray, file)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu", "--ray"], "--device, --ray"),
        (["--ray", "ray://head:10001"], "HOST:PORT"),
        (["--ray", "127.0.0.1:1"], "no cluster"),  # nobody listens there
        (["--ray", "auto", "--ray"], "2 times"),
    ],
)
def test_what_cannot_be_a_cluster_is_one_line(call: Cli, tmp_path: Path, words: list[str], said: str) -> None:
    code, _, err = call("run", str(write_experiment(tmp_path)), "-o", str(tmp_path / "out"), *words)
    assert code == 2
    *_, last = err.splitlines()
    assert last.startswith("error:") and said in last


def test_a_connection_of_the_caller_to_a_cluster_is_left_as_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    ray = SimpleNamespace(is_initialized=lambda: True, init=refuse_twice, shutdown=lambda: ended.append(True))
    monkeypatch.setattr(cluster, "_ray", lambda: ray)
    with pytest.raises(ClusterError, match="connected"):
        Nodes(run, "auto", run.plan.jobs)
    assert not ended


def refuse_twice(**_: Any) -> None:
    raise RuntimeError("called ray.init twice")


def test_without_ray_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"spillover\[ray\]"):
        cluster._ray()
