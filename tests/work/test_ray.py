"""A run on a real Ray cluster of two nodes with a core each, with a model of a few thousand weights.

The program is started as a user does. The nodes are processes of this machine, which see the same folders.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import children
import pytest
from atwork import eventually
from paths import ROOT
from tinyruns import write_experiment

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
# Two trainings that take a while, weights that are made of one of them, and a training that meets a bug.
TRAIN = """
train:
  datasets: [parity]
  strategies: [ft, {fticl: {shots: [2]}}, {ft + wise: {alpha: [0.5]}}, {name: bad, function: "bad.py:bad"}]
  num_train_epochs: 30
  learning_rate: 1e-3
  batch_size: 4
choose: none
trust: true  # runs bad.py
test: {shots: [0], prompts: [p1], limit: 6}
"""
BAD = "def bad(tokens):\n    raise ZeroDivisionError('a bug')\n"
LONG = {"parity-ft", "parity-fticl2"}
LATEST_S = 300.0  # on a busy machine
SETTINGS = {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "SPILLOVER_CHECKPOINT_S": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # or Ray warns
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # what else this machine does must not end a task
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of one node. Its processes, and those that it starts, have `SETTINGS`."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        try:
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = write_experiment(tmp_path)
    path.write_text(path.read_text().split("train:\n")[0] + TRAIN)
    (tmp_path / "bad.py").write_text(BAD)
    return path


def start(file: Path, output: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "spillover", "run", file.name, "-o", output, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return children.start(command, cwd=file.parent, env=os.environ | SETTINGS, **pipes)


def at_work(folder: Path) -> dict[int, str]:
    """The processes that work on a folder for a run, with their variants."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "--relay" in words and str(folder) in words:
            found[int(path.parent.name)] = words[words.index("--variant") + 1]
    return found


def is_of(pid: int, raylet: int) -> bool:
    """Whether a process was started by a task of a node."""
    while pid > 1 and pid != raylet:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return pid == raylet


def signal_to(pid: int, number: signal.Signals) -> bool:
    """Send a signal; returns whether the process was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def is_frozen(pid: int) -> bool:
    """Whether a process stands still. One that has ended in the meantime does not."""
    return eventually(lambda: state(pid) in "TZX", LATEST_S) and state(pid) == "T"


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def newest(folder: Path) -> set[Path]:
    """The checkpoints of trainings that are under way."""
    return set(folder.glob("variants/*.making/checkpoints/checkpoint-*"))


def stored(folder: Path) -> dict[str, bytes]:
    """Predictions and weights, by folder."""
    patterns = ("cells/*/predictions.jsonl", "variants/*/*.safetensors")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for one in patterns for path in folder.glob(one)}


def test_what_is_stopped_killed_and_lost_ends_with_the_bytes_of_one_process(cluster: Any, file: Path) -> None:
    one, two = file.parent / "one", file.parent / "two"
    whole = start(file, "one", "--device", "cpu")

    # Ctrl-C, then a driver that is killed: no process is left, and each goes on from what the last one left
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = newest(two)
        run = start(file, "two", "--ray", cluster.address)
        eventually(lambda run=run, before=before: newest(two) - before or run.poll() is not None, LATEST_S)
        assert at_work(two)
        run.send_signal(number)
        said, _ = run.communicate()
        assert run.returncode == code, said
        assert "Traceback" not in said
        eventually(lambda: not at_work(two))

    # a node that is lost in the middle of a training
    node, frozen = cluster.add_node(**NODE), set[int]()
    raylet = node.all_processes["raylet"][0].process.pid
    before = newest(two)
    run = start(file, "two", "--ray", cluster.address)

    def trains_on_node() -> bool:
        """Whether a training is there in the middle. It is frozen: it cannot end before its node is lost."""
        on_node = {pid: name for pid, name in at_work(two).items() if is_of(pid, raylet)}
        if LONG & set(on_node.values()) and newest(two) - before:
            frozen.update(pid for pid in on_node if signal_to(pid, signal.SIGSTOP) and is_frozen(pid))
        return bool(frozen) or run.poll() is not None

    eventually(trains_on_node, LATEST_S)
    lost = {name for pid, name in at_work(two).items() if pid in frozen}
    cluster.remove_node(node, allow_graceful=False)
    for pid in frozen:
        signal_to(pid, signal.SIGCONT)  # to end: whoever started it is gone
    said, _ = run.communicate()
    assert run.returncode == 1, said
    assert lost
    assert all(re.search(rf"{re.escape(name)}: .* was lost; given again \(2 of 3", said) for name in lost), said

    said_by_one, _ = whole.communicate()
    assert whole.returncode == 1, said_by_one  # the training that meets a bug
    assert len(stored(one)) == 4 * 2 + 3
    assert stored(two) == stored(one), said
    failures = [re.findall(r"parity-bad failed: \w+: a bug", text) for text in (said, said_by_one)]
    assert failures[0] and failures[0] == failures[1]
    assert not at_work(two)
