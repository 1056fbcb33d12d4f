"""A store in a bucket of a real S3 server on loopback, behind a network that fails, delays and repeats requests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import children
import pytest
from badnetwork import BadNetwork
from commandline import Cli
from fakes import Executed
from paths import ROOT
from plans import contents
from tinyruns import write_experiment
from urls import SETS, Machines

from spillover.errors import StoreBusy
from spillover.store import objects
from spillover.store.mirrored import MirroredStore
from spillover.work.execute import work

pytestmark = pytest.mark.slow
pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
pytest.importorskip("flask")

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def network(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[BadNetwork]:
    network = BadNetwork(*server)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", network.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # so that repeating is up to us
    monkeypatch.setattr(objects, "WAITS_S", (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8))
    yield network
    network.stop()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def machines(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: BadNetwork, request: pytest.FixtureRequest
) -> Machines:
    import s3fs

    monkeypatch.setenv("SPILLOVER_LEASE_S", "4")
    bucket = f"b{abs(hash(request.node.name)) % 10**9}"
    s3fs.S3FileSystem.clear_instance_cache()
    network.is_bad = False
    s3fs.S3FileSystem(use_listings_cache=False).mkdir(bucket)
    network.is_bad = True
    here = tmp_path / "here"
    here.mkdir()
    for path in file.parent.iterdir():
        (here / path.name).symlink_to(path)
    return Machines(here / file.name, f"s3://{bucket}/run", monkeypatch)


def test_a_run_over_a_bad_network_ends_as_on_a_folder(
    machines: Machines, network: BadNetwork, tmp_path: Path, call: Cli
) -> None:
    assert machines.run(sets=["test.limit=3"]) == ()  # seven variants, 28 cells
    machines.run(place=tmp_path / "folder", sets=["test.limit=3"])
    assert min(network.done[fate] for fate in ("reset after", "500 after", "twice", "again later")) > 0, network.done
    machines.on("b")
    grid = machines.store.grid()
    assert len(machines.store.valid(grid)) == len(grid.cells)
    assert contents(machines.copy) == contents(tmp_path / "folder")
    named = [name.split("/")[-2] for name in machines.objects("cells")]
    assert sorted(named) == sorted(cell.key for cell in grid.cells)  # each once
    code, out, error = call("status", machines.url)
    assert code == 0 and "parity-lora-s1" in out, error
    machines.on("c")
    code, out, error = call("report", machines.url, "--format", "csv")
    assert code == 0 and "parity-ft-s0" in out, error
    code, out, error = call("compare", f"{machines.url}:base", f"{machines.url}:parity-ft-s0", "--format", "csv")
    assert code == 0 and out.startswith("test"), error
    code, out, error = call("clean", machines.url, "--yes")
    assert code == 0 and "freed" in out and not machines.objects("weights"), error
    machines.on("d")
    assert len(machines.store.valid(grid)) == len(grid.cells)


def test_of_two_machines_at_once_one_trains_and_one_is_told(machines: Machines) -> None:
    machines.monkeypatch.setenv("SPILLOVER_LEASE_S", "120")  # none is over because this process pauses
    machines.plan()
    stores = list[MirroredStore]()
    for machine in ("a", "b"):
        machines.on(machine)
        store = machines.store
        assert isinstance(store, MirroredStore)
        stores.append(store)
    executed, said, together = Executed(), dict[int, Any](), threading.Barrier(2)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(executed.backend(), name)

        def train(self, *given: Any) -> Any:
            until = time.monotonic() + 100
            while not said and time.monotonic() < until:  # until the other one was told
                time.sleep(0.2)
                for leases in (store.mirror.leases for store in stores):
                    for lease in list(leases.mine):
                        leases._renew(lease)  # early, so that the other one soon sees that it is alive
            return executed.train(*given)

    def one(number: int) -> None:
        together.wait()
        try:
            said[number] = work(stores[number], "parity-ft", backend=Slow())  # type: ignore[arg-type]
        except StoreBusy as error:
            said[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(one).__name__ for one in said.values()) == ["StoreBusy", "Worked"], said
    assert executed.trained == {"parity-ft": 1} and len(machines.objects("variants")) == 1


def test_a_killed_machine_is_replaced_when_its_lease_is_over(machines: Machines, tmp_path: Path) -> None:
    machines.plan()
    key = next(v.key for v in machines.store.grid().variants if v.name == "parity-ft")
    command = [sys.executable, "-m", "spillover", "work", machines.url, "--variant", "parity-ft"]
    endpoint = {"FSSPEC_S3_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL_S3"]}  # as a user may give it
    process = subprocess.Popen(
        command, env={k: v for k, v in os.environ.items() if k != "AWS_ENDPOINT_URL_S3"} | endpoint, cwd=tmp_path
    )
    try:
        until = time.monotonic() + 100
        while not machines.objects(f"leases/{key}"):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        assert not machines.objects("variants")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    machines.on("b")
    began = time.monotonic()
    assert work(machines.store, "parity-ft", backend=Executed().backend()).failures == ()
    assert time.monotonic() - began > 3.0  # nearly its duration
    assert len(machines.objects("variants")) == 1


def test_ray_and_trainings_of_two_processes_share_a_bucket(machines: Machines, network: BadNetwork) -> None:
    """From the command line: a variant is a Ray task that trains in two processes, and no disk is shared."""
    pytest.importorskip("ray")
    network.is_bad = False  # `test_a_run_over_a_bad_network` has that
    folder = machines.file.parent
    caches = {place: {"SPILLOVER_CACHE": str(folder / f"cache-{place}")} for place in ("ray", "folder")}
    sets = (*SETS[1:], "train.strategies=[ft]", "train.processes=2")  # one variant: each takes half a minute
    options = [word for one in sets for word in ("--set", one)]
    command = [sys.executable, "-m", "spillover", "run", machines.file.name, *options]
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "cwd": folder}
    for place, words in (("ray", ["--output", machines.url, "--ray"]), ("folder", ["--output", "folder"])):
        run = children.start([*command, *words], env=settings | caches[place], **pipes)
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said

    machines.on("b")  # which has seen nothing of it
    grid, store = machines.store.grid(), machines.store
    assert len(store.valid(grid)) == len(grid.cells)
    assert contents(machines.copy) == contents(folder / "folder")
    trained = [store.variant_receipt(one.key) for one in grid.variants if one.kind != "base"]
    assert [receipt and receipt["processes"] for receipt in trained] == [2]


def test_what_is_wrong_with_a_bucket_is_one_line(
    machines: Machines, network: BadNetwork, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.is_bad = False
    code, _, error = call("run", str(machines.file), "--output", "s3://no-such-bucket/run")
    assert code == 2 and "bucket" in error and "a-secret" not in error and error.count("\n") == 1
    monkeypatch.setattr(objects, "WAITS_S", (0.01,))
    network.is_down = True
    code, _, error = call("status", machines.url)
    assert code == 2 and "2 tries" in error and error.count("\n") == 1
