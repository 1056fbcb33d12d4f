"""A store at a URL: what is published, what another machine sees, and who may write."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from commandline import Cli
from fakes import Executed, Killed
from fsspec.implementations.memory import MemoryFileSystem
from plans import contents
from tinyruns import write_experiment
from urls import Machines

from spillover.api import prepare
from spillover.disk import write_whole
from spillover.errors import StoreBusy, StoreError, called
from spillover.store.leases import Leases
from spillover.store.mirror import Mirror
from spillover.store.mirrored import MirroredStore
from spillover.store.store import Broken
from spillover.train.checkpoints import newest_whole, seal
from spillover.work.clean import clean
from spillover.work.execute import work, write_plan


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("remote"))


@pytest.fixture
def machines(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    monkeypatch.setenv("SPILLOVER_LEASE_S", "600")  # none is over because this process pauses
    here = tmp_path / "here"
    here.mkdir()
    for path in file.parent.iterdir():
        (here / path.name).symlink_to(path)
    return Machines(here / file.name, "memory://bucket/run", monkeypatch)


def spoil(machines: Machines, key: str) -> None:
    """A bit flips in a variant's weights at the URL."""
    for name in machines.objects(f"weights/{key}"):
        if name.endswith(".safetensors"):
            machines.fs.pipe_file(name, machines.fs.cat_file(name)[:-4] + b"half")


def forget_cells(machines: Machines, variant: str) -> None:
    """The cells of a variant are gone at the URL."""
    for cell in machines.store.grid().cells_of(variant):
        for name in machines.objects(f"cells/{cell}"):
            machines.fs.rm_file(name)
    machines.store.refresh()


def test_two_machines_that_share_a_home_have_a_copy_each(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: "node-1")
    first = machines.copy
    monkeypatch.setattr("platform.node", lambda: "node-2")
    assert machines.copy.parent == first.parent and machines.copy != first


def test_another_machine_sees_what_a_folder_would_hold(machines: Machines, tmp_path: Path) -> None:
    assert machines.run() == ()
    machines.run(place=tmp_path / "folder")
    machines.on("b")
    store = machines.store
    grid = store.grid()
    assert len(store.valid(grid)) == len(grid.cells) > 0
    assert contents(machines.copy) == contents(tmp_path / "folder")
    again = Executed()
    machines.run(again.backend())
    assert not again.trained and not again.answers


class Clock:
    """The clock of leases: its seconds pass only while the test's own thread sleeps, as fast as it likes.

    `others` are the leases of processes that live: each renews what it holds at every sleep.
    """

    strftime, gmtime = staticmethod(time.strftime), staticmethod(time.gmtime)

    def __init__(self) -> None:
        self.now, self.thread, self.others = 0.0, threading.get_ident(), list[Leases]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if threading.get_ident() != self.thread:
            threading.Event().wait()
        self.now += seconds
        for leases in self.others:
            for lease in leases.mine:
                leases._renew(lease)


def test_of_two_writers_one_works_and_a_dead_ones_lease_runs_out(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("spillover.store.leases.time", clock)
    machines.plan()
    key, name = next((v.key, v.name) for v in machines.store.grid().variants if v.kind == "trained")
    store = machines.store
    assert isinstance(store, MirroredStore)
    with store.lock_variant(key, name):
        clock.others.append(store.mirror.leases)
        machines.on("b")
        with pytest.raises(StoreBusy), machines.store.lock_variant(key, name):
            pass
    clock.others.clear()
    machines.on("b")
    began = clock.now
    with machines.store.lock_variant(key, name):  # it was freed
        assert clock.now == began
    machines.on("a")
    machines.dies_with_lease(key)
    machines.on("b")
    began = clock.now
    with machines.store.lock_variant(key, name):
        assert clock.now - began >= 600  # as long as the lease says that it lasts


def test_a_lease_of_the_same_machine_is_taken_over_at_once(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock file is free, so the process has ended: `run` goes on after a kill without waiting."""
    clock = Clock()
    monkeypatch.setattr("spillover.store.leases.time", clock)
    machines.plan()
    machines.dies_with_lease("run")
    machines.on("a")
    assert machines.run() == () and clock.now == 0


def test_a_run_that_has_nothing_to_finish_takes_no_lease_of_a_variant(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs requests and a look at the whole store."""
    machines.run()
    held, names = Leases.held, list[str]()
    monkeypatch.setattr(Leases, "held", lambda self, name, *how: names.append(name) or held(self, name, *how))
    machines.on("b")
    assert machines.run() == () and set(names) <= {"run", "precision"}


def test_two_machines_that_finish_their_children_at_once_leave_no_weights_of_the_parent(machines: Machines) -> None:
    """`keep: none`: the parent's weights go with the last child, whichever machine made that."""
    strategies = "train.strategies=[ft, {ft + wise: {alpha: [0.25, 0.75]}}]"
    sets = [strategies, "train.seeds=0", "test.limit=3", "choose=none", "keep=none"]
    plan, store = prepare(machines.file, sets, output_path=machines.copy)
    store.create()
    write_plan(plan, store)
    children = [job.variant.name for job in plan.jobs if "wise" in job.variant.name]
    work(store, "parity-ft", backend=Executed().backend())
    backend, merges = Executed().backend(), Executed().merge

    def merge(*given: Any) -> float:
        machines.on("b")  # another machine makes the other child meanwhile
        work(machines.store, children[1], backend=Executed().backend())
        machines.on("a")
        return merges(*given)

    backend.merge = merge
    assert work(store, children[0], backend=backend).failures == ()
    parent = next(job.variant.key for job in plan.jobs if job.variant.name == "parity-ft")
    assert not machines.objects(f"weights/{parent}")


def test_who_lost_the_lease_publishes_nothing(machines: Machines) -> None:
    machines.run()
    store = machines.store
    cell = store.grid().cells[0]
    receipt, rows = store.cell(cell.key), store.predictions(cell.key)
    assert receipt is not None
    with store.lock_variant(cell.variant, "it"):
        machines.steal(cell.variant)
        with pytest.raises(StoreBusy, match="taken over"):
            store.write_cell(cell.key, [], receipt)
    machines.on("b")
    assert machines.store.cell(cell.key) == receipt and machines.store.predictions(cell.key) == rows


def test_of_two_cells_the_one_that_was_created_first_counts(machines: Machines) -> None:
    """Whoever comes second takes it, and has nothing of its own left."""
    machines.plan()
    machines.on("b")
    late = machines.store
    machines.on("a")
    machines.store.write_cell("c", [{"row": 1}], {"by": "a"})
    late.write_cell("c", [{"row": 2}], {"by": "b"})
    for store in (late, machines.store):
        receipt = store.cell("c")
        assert receipt is not None and receipt["by"] == "a" and store.predictions("c") == [{"row": 1}]
    assert len(machines.objects("cells/c")) == 1


@pytest.mark.parametrize("how", ["cut", "changed", "emptied"])
def test_a_broken_object_is_reported_and_computed_again(
    machines: Machines, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    machines.run()
    machines.on("b")
    whole = contents(machines.store.folder)
    cell = machines.store.grid().cells[0]
    (name,) = machines.objects(f"cells/{cell.key}")
    data = machines.fs.cat_file(name)
    made = {"cut": data[:-20], "changed": data.replace(b'"doc_id"', b'"doc_iD"', 1), "emptied": b""}[how]
    assert made != data
    machines.fs.pipe_file(name, made)
    machines.on("c")
    assert len(machines.store.valid(machines.store.grid())) == len(whole) - 1
    assert "1 of" in caplog.text and "memory://bucket/run" in caplog.text
    again = Executed()
    assert machines.run(again.backend()) == () and again.answers and not again.trained
    machines.on("d")
    assert len(machines.store.valid(machines.store.grid())) == len(whole) and contents(machines.copy) == whole


def test_broken_weights_are_made_again_by_who_holds_the_variant(machines: Machines) -> None:
    machines.run()
    key = machines.objects("weights")[0].split("/")[-3]
    spoil(machines, key)
    machines.on("b")
    with pytest.raises(Broken, match="was changed"):
        machines.store.bring_weights(key)
    assert machines.store.has_weights(key)  # a reader deletes nothing
    again = Executed()
    forget_cells(machines, key)
    assert machines.run(again.backend()) == () and sum(again.trained.values()) == 1
    machines.on("c")
    machines.store.bring_weights(key)


def test_a_merge_of_broken_weights_fails_alone_and_the_next_run_makes_them_again(machines: Machines) -> None:
    sets = ["train.strategies=[ft, {ft + wise: {alpha: [0.5]}}]", "train.seeds=0", "test.limit=3", "choose=none"]
    machines.run(sets=sets)
    keys = {v.name: v.key for v in machines.store.grid().variants}
    parent, child = keys["parity-ft"], keys["parity-ft+wise"]
    machines.store.drop_weights(child)
    forget_cells(machines, child)
    spoil(machines, parent)
    machines.on("b")
    (failure,) = machines.run(sets=sets)
    assert "parity-ft, whose weights are broken" in failure and "run again" in failure
    again = Executed()
    assert machines.run(again.backend(), sets=sets) == () and set(again.trained) == {"parity-ft", "parity-ft+wise"}


def test_weights_that_arrive_broken_are_fetched_once_more(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.run()
    key = machines.objects("weights")[0].split("/")[-3]
    machines.on("b")
    get, times = MemoryFileSystem.get_file, list[str]()

    def first_half(self: Any, path: str, to: str, **options: Any) -> None:
        get(self, path, to, **options)
        if path.endswith(".safetensors") and not times:
            times.append(path)
            Path(to).write_bytes(b"half")

    monkeypatch.setattr(MemoryFileSystem, "get_file", first_half)
    machines.store.bring_weights(key)
    assert times and list(machines.store.variant_folder(key).glob("*.safetensors"))


def test_of_several_processes_of_a_machine_one_fetches(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait for it, and find the weights there."""
    machines.run()
    key = machines.objects("weights")[0].split("/")[-3]
    machines.on("b")
    fetch, fetched = Mirror.fetch, list[str]()

    def slow(self: Mirror, place: str, into: Path) -> None:
        fetched.append(place)
        fetch(self, place, into)
        time.sleep(0.2)  # the others begin meanwhile

    monkeypatch.setattr(Mirror, "fetch", slow)
    machines.store.grid()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda store: store.bring_weights(key), [machines.store for _ in range(3)]))
    assert len(fetched) == 1 and list(machines.store.variant_folder(key).glob("*.safetensors"))


def test_a_deletion_that_is_delivered_again_later_takes_nothing_away(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a run whose variants are all new deletes nothing but leases and probes."""
    deleted: list[str] = []
    remove = MemoryFileSystem.rm_file

    def removed(fs: MemoryFileSystem, path: str) -> None:
        deleted.append(path)
        remove(fs, path)

    monkeypatch.setattr(MemoryFileSystem, "rm_file", removed)
    machines.run()
    assert deleted and all("/leases/" in path or "/probe/" in path for path in deleted)


def test_what_is_gone_there_goes_here(machines: Machines) -> None:
    machines.run()
    machines.on("b")
    store = machines.store
    grid = store.grid()
    for name in machines.objects(f"cells/{grid.cells[0].key}"):
        machines.fs.rm_file(name)
    assert len(store.valid(grid)) == len(grid.cells)
    store.refresh()
    assert len(store.valid(grid)) == len(grid.cells) - 1


def test_a_copy_that_was_damaged_is_fetched_again(machines: Machines) -> None:
    machines.run()
    store = machines.store
    path = next(store.folder.glob("cells/*/predictions.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    assert len(store.valid(store.grid())) == len(store.grid().cells) and path.read_bytes() == whole


def test_a_training_goes_on_from_a_checkpoint_of_another_machine(machines: Machines) -> None:
    machines.plan()
    key = next(v.key for v in machines.store.grid().variants if v.kind == "trained")
    store = machines.store
    assert isinstance(store, MirroredStore)
    with store.lock_variant(key, "it"):
        checkpoints = store.making_folder(key) / "checkpoints"
        for step in (2, 4):
            write_whole(checkpoints / f"checkpoint-{step}" / "weights", f"of {step}")
            write_whole(checkpoints / "best.safetensors", f"best of {step}")
            seal(checkpoints / f"checkpoint-{step}")
            store.send_checkpoint(key)
    write_whole(checkpoints / "checkpoint-6" / "weights", "not sealed")
    store.send_checkpoint(key)
    machines.on("b")
    with machines.store.lock_variant(key, "it"):
        there = machines.store.making_folder(key) / "checkpoints"
    assert newest_whole(there) == (there / "checkpoint-4", []) and not (there / "checkpoint-2").exists()
    assert (there / "best.safetensors").read_text() == "best of 4"
    assert not any("/2/" in name for name in machines.objects("training"))


@pytest.mark.parametrize("how", ["killed", "broken"])
def test_a_checkpoint_that_does_not_arrive_costs_no_training(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What did not arrive as a whole is never in the training's folder, and what is at the URL stays."""
    machines.plan()
    key = next(v.key for v in machines.store.grid().variants if v.kind == "trained")
    store = machines.store
    assert isinstance(store, MirroredStore)
    with store.lock_variant(key, "it"):
        checkpoints = store.making_folder(key) / "checkpoints"
        write_whole(checkpoints / "checkpoint-4" / "zweights", "of 4")
        seal(checkpoints / "checkpoint-4")
        store.send_checkpoint(key)
    machines.on("b")
    get = MemoryFileSystem.get_file

    def half(self: Any, path: str, to: str, **options: Any) -> None:
        get(self, path, to, **options)
        if path.endswith("zweights"):
            Path(to).write_bytes(b"half")
            if how == "killed":
                raise Killed

    with monkeypatch.context() as patch, machines.store.lock_variant(key, "it"):
        patch.setattr(MemoryFileSystem, "get_file", half)
        with pytest.raises(Killed) if how == "killed" else nullcontext():
            machines.store.making_folder(key)
    making = machines.copy / "variants" / f"{key}.making"
    assert not list(making.rglob("checkpoint-*"))
    assert ("zweights: was changed; the training goes on" in caplog.text) == (how == "broken")
    machines.on("b")
    with machines.store.lock_variant(key, "it"):
        machines.store.making_folder(key)
    assert newest_whole(making / "checkpoints") == (making / "checkpoints" / "checkpoint-4", [])


def test_a_checkpoint_that_is_broken_here_is_fetched(machines: Machines) -> None:
    machines.plan()
    key = next(v.key for v in machines.store.grid().variants if v.kind == "trained")
    store = machines.store
    assert isinstance(store, MirroredStore)
    for _ in range(2):
        with store.lock_variant(key, "it"):
            checkpoints = store.making_folder(key) / "checkpoints"
            if not checkpoints.exists():
                write_whole(checkpoints / "checkpoint-4" / "weights", "of 4")
                seal(checkpoints / "checkpoint-4")
                store.send_checkpoint(key)
                (checkpoints / "checkpoint-4" / "weights").write_text("lost")
    assert newest_whole(checkpoints) == (checkpoints / "checkpoint-4", [])


def test_weights_are_fetched_when_something_is_made_from_them_and_cleaned_there(machines: Machines) -> None:
    machines.run()
    machines.on("b")
    store = machines.store
    grid = store.grid()
    trained = [v for v in grid.variants if v.kind == "trained"]
    assert all(store.has_weights(v.key) for v in trained) and not list(store.folder.rglob("*.safetensors"))
    store.bring_weights(trained[0].key)
    assert list(store.variant_folder(trained[0].key).glob("*.safetensors"))
    said = list(clean(machines.copy, unused=True, ask=None))
    assert "Weights of 2 variants" in said[0], said
    assert not machines.objects("weights") and not list(store.folder.rglob("*.safetensors"))
    machines.on("a")
    assert not list(machines.store.folder.rglob("*.safetensors"))  # nor in other copies
    assert len(machines.store.valid(grid)) == len(grid.cells)


def test_a_killed_process_published_whole_cells_or_none(machines: Machines, tmp_path: Path) -> None:
    machines.run(place=tmp_path / "folder")
    for die_at in (2, 5, 9):
        with pytest.raises(Killed):
            machines.run(Executed(die_at=die_at).backend())
        machines.on("a")
    machines.on("b")
    assert machines.run() == ()
    assert contents(machines.copy) == contents(tmp_path / "folder")
    cells = machines.store.grid().cells
    assert len(machines.objects("cells")) == len(cells)  # each once


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://me:secret@bucket/run", "environment"),
        ("nosuch://bucket/run", "s3://BUCKET"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(call: Cli, url: str, said: str, machines: Machines) -> None:
    code, _, error = call("status", url)
    assert code == 2 and said in error and "secret" not in error and len(error.splitlines()) == 1


def test_what_is_no_place_or_no_duration_is_one_line(
    call: Cli, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, error = call("export", "folder", "--format", "scores", "--output", "s3://bucket/x")
    assert code == 2 and "is a URL" in error
    monkeypatch.setenv("SPILLOVER_LEASE_S", "soon")
    code, _, error = call("status", machines.url + "2")
    assert code == 2 and "SPILLOVER_LEASE_S" in error and len(error.splitlines()) == 1


def test_an_object_whose_answer_was_lost_is_ones_own(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has created it, the answer is lost, and the repeated request is refused, in whatever words."""
    pipe, calls = MemoryFileSystem.pipe_file, list[str]()

    def lost(self: Any, path: str, value: bytes, **options: Any) -> None:
        calls.append(path)
        try:
            pipe(self, path, value, **options)
        except FileExistsError:
            raise RuntimeError("412") from None
        raise TimeoutError

    store = machines.store
    assert isinstance(store, MirroredStore)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lost)
    assert store.mirror.objects.create("one", b"ours") and len(calls) == 1
    assert not store.mirror.objects.create("one", b"another's")


def test_storage_that_ignores_the_condition_is_refused(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, **_: pipe(self, path, value))
    with pytest.raises(StoreError, match="only if absent"):
        machines.run()


def test_nothing_in_a_bucket_is_written_outside_the_local_copy(machines: Machines, tmp_path: Path) -> None:
    machines.run()
    name = next(one for one in machines.objects("weights") if one.endswith("whole.json"))
    key = name.split("/")[-3]
    said = json.loads(machines.fs.cat_file(name))
    machines.fs.pipe_file(name, json.dumps({**said, "../../../../out": [1, "0"]}).encode())
    machines.on("b")
    with pytest.raises(Broken, match="elsewhere"):
        machines.store.bring_weights(key)
    assert not list(tmp_path.rglob("out"))


def test_a_failure_is_told_where_the_url_has_it(machines: Machines) -> None:
    backend = Executed().backend()
    backend.merge = backend.train = lambda *_: 1 / 0
    failures = machines.run(backend)
    assert len(failures) == 2 and all(f"{machines.url}/errors/" in str(called(line)) for line in failures)
    assert len(machines.objects("errors")) == 2
    machines.on("b")
    assert machines.run() == () and not machines.objects("errors")


def test_commands_name_the_url(machines: Machines, call: Cli) -> None:
    machines.run()
    machines.on("b")
    code, out, _ = call("report", machines.url)
    assert code == 0 and f"{machines.url}/report.html" in out
    on_disk = Path(out.rpartition("on this disk: ")[2].strip())
    assert on_disk.samefile(machines.copy / "report.html")
    machines.store.refresh()
    assert (machines.copy / "results.csv").exists() and machines.fs.exists(f"{machines.url}/results.csv")
    assert str(machines.copy) not in machines.fs.cat_file(f"{machines.url}/report.html").decode()
    code, out, _ = call("status", machines.url)
    assert code == 0 and "parity-lora" in out
    code, out, error = call("compare", f"{machines.url}:base", f"{machines.url}:parity-ft", "--format", "json")
    assert code == 0 and json.loads(out), error
