"""The nodes of a Ray cluster, as a place where jobs run (`spillover run --ray`).

Every job that can begin is given to Ray as a task with what it needs (`resources`), and Ray places it. The task runs
the same process that a device of this machine would run (`on_node`), and hands on its messages as a stream. A stream
whose node is lost ends with an error here; its job is given again, and goes on from what the store has of it.

Ray schedules, watches the nodes and ends the tasks of a driver that is gone. So nothing here does.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from .. import __version__
from ..errors import ClusterError, shortened
from ..plan.cost import weight_shapes
from ..plan.jobs import Job
from . import on_node
from .pool import Message, Task
from .processes import MARK
from .resources import Needs, Node, cores_of_a_job, needs_of, processes_of
from .run import Run

LOCAL = "local"
ADDRESSES = "auto, on a machine of the cluster; HOST:PORT of its head; or --ray alone, a cluster of this machine"
REACHED_S = 10.0
TIMES = 3  # a job is given, as long as its nodes are lost
STORE_BYTES = 80 * 2**20  # of objects in a cluster of our own: only messages pass through it
# Ray reports to its makers unless told otherwise, and would hide the GPUs of a node from a task that asks for none,
# which `SPILLOVER_DEVICE` does here; a warning of Ray speaks of the latter.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class Nodes:
    """The nodes of the cluster at `address`: one that is there, or a new one on this machine (`local`)."""

    def __init__(self, run: Run, address: str, jobs: Sequence[Job]) -> None:
        _check(address)
        self.run, self.address = run, address
        self.inbox: deque[tuple[Task, Message]] = deque()
        self.streams: list[tuple[Any, Task]] = []
        self.given: dict[Task, int] = {}
        self.said: deque[str] = deque()
        self.ray = _ray()
        self._connect()
        try:
            self.mark = run.store.leave_mark()
            self._reserve(jobs)
        except BaseException:
            self.close()
            raise
        self.work = self.ray.remote(on_node.work)

    # --- before the first job --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Connect to the cluster. Raises ClusterError."""
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        if self.ray.is_initialized():
            what = "this process is connected to a cluster already"
            raise ClusterError(what, where=f"--ray {self.address}", allowed="ray.shutdown() first, or another process")
        handler = signal.getsignal(signal.SIGTERM)
        new = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if self.address == LOCAL else {}
        try:
            self.ray.init(address=self.address, log_to_driver=False, logging_level="error", **new)
        except Exception as error:  # Ray has no kind of its own for a cluster that does not answer, or not in time
            self.ray.shutdown()
            what = f"no cluster: {' '.join(str(error).split()) or type(error).__name__}"
            raise ClusterError(what, where=f"--ray {self.address}", allowed=ADDRESSES) from None
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray has put its own in this place
        with suppress(AttributeError):  # Ray prints what the cluster says on standard output, where results go
            self.ray._private.worker.print_to_stdstream = self._heard_of_cluster
        self.ray.cloudpickle.register_pickle_by_value(on_node)

    def _heard_of_cluster(self, data: dict[str, Any], ignore_prefix: bool = False) -> None:
        """Called in a thread of Ray's: keep the first line of what the cluster says."""
        if lines := [line for text in data.get("lines", ()) for line in str(text).strip().splitlines()]:
            self.said.append(shortened(lines[0], 300))

    def _reserve(self, jobs: Sequence[Job]) -> None:
        """Decide what each job gets, and say which of them no node has room for: an error on a cluster of our own."""
        say, experiment = self.run.reporter.say, self.run.plan.experiment
        self.nodes = nodes = self._nodes()
        self.shapes = weight_shapes(experiment, self.run.plan.base)
        threads = os.environ.get("OMP_NUM_THREADS", "")
        self.cpus = int(threads) if threads.isdigit() else cores_of_a_job(experiment.resources, nodes, len(jobs))
        needs = [self.needs(job) for job in jobs]
        largest = max(needs, key=lambda one: (one.gpus, one.memory, one.cpus))
        self.at_once = min(len(jobs), max(1, sum(node.holds(largest) for node in nodes)))
        where = "on this machine" if self.address == LOCAL else f"at {self.address}"
        have = Node(*(sum(kind) for kind in zip(*map(astuple, nodes), strict=True))) if nodes else "nothing"
        say(f"Ray {where}: {len(nodes)} node{'s' * (len(nodes) != 1)}, {have}; a job reserves up to {largest}")
        fits = {one: any(node.holds(one) for node in nodes) for one in needs}
        too_large = [(job.variant.name, one) for job, one in zip(jobs, needs, strict=True) if not fits[one]]
        if too_large:
            what = "{} reserves {}, which no node has".format(*too_large[0])
            what += f" ({len(too_large)} such variants in all)" if len(too_large) > 1 else ""
            if self.address == LOCAL:
                most = max(nodes, key=lambda node: node.cpus)
                raise ClusterError(what, where="resources", allowed=f"at most {most}")
            say(f"{what}; it waits until one comes")

    def needs(self, job: Job) -> Needs:
        return needs_of(job, self.shapes, self.run.plan.experiment, self.nodes, self.cpus)

    def _nodes(self) -> list[Node]:
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return [Node(has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0)) for has in alive]

    # --- the place -------------------------------------------------------------------------------------

    def has_room(self) -> bool:
        return True  # Ray keeps what waits

    def start(self, job: Job) -> Task:
        task = Task(job)
        self._give(task)
        return task

    def _give(self, task: Task) -> None:
        self.given[task] = self.given.get(task, 0) + 1
        needs = self.needs(task.job)
        environment = {
            "OMP_NUM_THREADS": str(max(1, needs.cpus // processes_of(task.job, self.run.plan.experiment))),
            "SPILLOVER_DEVICE": "cuda" if needs.gpus else "cpu",
            MARK: self.mark,
        }
        environment |= {} if needs.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        asked = {
            "num_cpus": needs.cpus,
            "num_gpus": needs.gpus,
            "memory": needs.memory,
            "name": f"spillover {task.name}",
        }
        give = self.work.options(num_returns="streaming", max_retries=0, **asked).remote
        self.streams.append((give(self.run.store.address, task.name, __version__, environment), task))

    def hear(self) -> tuple[Task, Message]:
        while not self.inbox:
            self._listen()
        return self.inbox.popleft()

    def _listen(self) -> None:
        """Wait for a moment until one of the streams has something."""
        while self.said:
            self.run.reporter.say(f"Ray: {self.said.popleft()}")
        ready, _ = self.ray.wait([stream for stream, _ in self.streams], timeout=1.0)
        for stream in ready:
            task = next(task for one, task in self.streams if one is stream)
            try:
                messages = self.ray.get(next(stream))
            except StopIteration:
                messages = [["ended", "its task ended without a word"]]
            except self.ray.exceptions.RayError as error:
                messages = self._broken(task, error)
            self.inbox.extend((task, message) for message in messages)
            if not messages or messages[-1][0] == "ended":
                self.streams = [pair for pair in self.streams if pair[0] is not stream]

    def _broken(self, task: Task, error: Any) -> list[Message]:
        """What follows from the error that a stream ended with.

        Its job is given again if it is not the job's own: its node was lost, or so short of memory that Ray has ended
        what began last.
        """
        known = self.ray.exceptions
        first = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        if isinstance(error, known.OutOfMemoryError):
            why, hint = "ran out of memory", "; resources.memory reserves more"
        elif isinstance(error, (known.NodeDiedError, known.WorkerCrashedError, known.ObjectLostError)):
            why, hint = "was lost", ""
        else:
            cause = getattr(error, "cause", None) or error  # what a task raised itself: a bug here
            return [["ended", f"{type(cause).__name__}: {first if cause is error else cause}"]]
        if self.given[task] == TIMES:
            return [["ended", f"given {TIMES} times, and each time its node {why}: {first}{hint}"]]
        was, task.where = task.where or "its node", ""
        self._give(task)
        self.run.reporter.say(f"{task.name}: {was} {why}; given again ({self.given[task]} of {TIMES} times)")
        return []

    def close(self) -> None:
        for stream, _ in self.streams:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(stream, force=True)
        self.ray.shutdown()


def _check(address: str) -> None:
    """Raises ClusterError for what is no address, or one at which nobody listens: Ray would try that for minutes."""
    where = f"--ray {address}"
    if "://" in address:
        raise ClusterError("a run is not given through Ray's client", where=where, allowed=ADDRESSES)
    host, colon, port = address.rpartition(":")
    if colon:
        try:
            socket.create_connection((host, int(port)), REACHED_S).close()
        except (OSError, ValueError, OverflowError) as error:
            raise ClusterError(f"no cluster: {error}", where=where, allowed=ADDRESSES) from None


def _ray() -> Any:
    try:
        import ray
        import ray.cloudpickle
        import ray.exceptions
    except ImportError:
        raise ClusterError("Ray is not installed", where="--ray", allowed="pip install 'spillover[ray]'") from None
    return ray
