"""`spillover plan --write` and `spillover work`: one variant of a folder at a time, by name or the next one."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed
from plans import contents
from tinyruns import write_experiment
from typer.testing import CliRunner, Result

from spillover import cli
from spillover.api import prepare
from spillover.store.store import Store
from spillover.work import execute as module
from spillover.work.execute import execute, work, work_for_parent
from spillover.work.progress import Reporter

SETS = ["train.strategies=[ft, lora]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Executed:
    """What the command line computes with: nothing."""
    executed = Executed()
    monkeypatch.setattr(module, "Torch", executed.backend)
    return executed


@pytest.fixture
def folder(tmp_path: Path, backend: Executed) -> Path:
    """A planned folder with three variants."""
    file = write_experiment(tmp_path)
    done = call("plan", file, *(word for one in SETS for word in ("--set", one)), "--write", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert f"spillover work {tmp_path / 'out'} --next" in " ".join(done.output.split())
    return tmp_path / "out"


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def names(folder: Path) -> list[str]:
    return [variant.name for variant in Store(folder).grid().variants]


def test_next_takes_one_after_another_and_ends(folder: Path, backend: Executed, tmp_path: Path) -> None:
    worked = [work(Store(folder), backend=backend.backend()) for _ in range(4)]
    taken = [one.variant for one in worked]
    assert taken[0] == "base" and taken[3] is None
    assert set(taken[:3]) == set(names(folder))
    assert [len(one.left) for one in worked] == [2, 1, 0, 0]
    plan, store = prepare(tmp_path / "twice.yaml", SETS, output_path=tmp_path / "whole")
    execute(plan, store, backend=Executed().backend())
    assert contents(folder) == contents(store.folder)


def test_a_worker_reads_the_cells_of_others_once(
    folder: Path, backend: Executed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of a thousand workers of a run would read a million cells: never twice."""
    first, *others = names(folder)
    work(Store(folder), first, backend=backend.backend())
    grid, read, cell = Store(folder).grid(), Counter[str](), Store.cell

    def counted(self: Store, key: str, hashes: bool = True) -> Any:
        read[key] += 1
        return cell(self, key, hashes)

    class Here(Reporter):
        """Not the process's standard output, which is the test's."""

        def end(self, *message: Any) -> None: ...

    monkeypatch.setattr(Store, "cell", counted)
    monkeypatch.setattr(module, "Relay", Here)
    monkeypatch.setattr(module, "log", logging.getLogger("nobody's"))
    assert work_for_parent(Store(folder), others[0], backend.backend()) == 0
    own = {cell.key for cell in grid.cells if cell.variant == grid.variants[1].key}
    assert Store(folder).valid(grid).keys() >= own
    read.subtract(cell.key for cell in grid.cells)  # by the line above
    assert {read[cell.key] for cell in grid.cells if cell.key not in own} == {1}


def test_next_takes_what_failed_before_last(folder: Path, backend: Executed, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array job does not spend all its tasks on one training that always fails."""
    train = backend.train

    def fails(folder: Path, built: Any, job: Any, *others: Any) -> dict[str, Any]:
        if job.variant.name == "parity-ft":
            raise ArithmeticError("nan")
        return train(folder, built, job, *others)

    monkeypatch.setattr(backend, "train", fails)
    worked = [work(Store(folder), backend=backend.backend()) for _ in range(4)]
    assert {one.variant for one in worked[:3]} == set(names(folder))
    assert worked[3].variant == "parity-ft" and worked[3].failures


def test_a_kill_while_weights_are_deleted_voids_no_cell(folder: Path, backend: Executed) -> None:
    for _ in range(3):
        work(Store(folder), backend=backend.backend())
    store = Store(folder)
    grid = store.grid()
    key = next(variant.key for variant in grid.variants if variant.name == "parity-ft")
    weights = store.variant_folder(key) / "model.safetensors"
    (store.variant_folder(key) / "dropped").touch()  # as `drop_weights` begins
    weights.write_bytes(weights.read_bytes()[:-4] + b"half")
    assert len(store.valid(grid)) == len(grid.cells) and not store.has_weights(key)
    store.drop_weights(key)
    assert not weights.exists() and len(store.valid(grid)) == len(grid.cells)


def test_the_command_says_what_is_left_and_then_what_to_do(folder: Path) -> None:
    said = [call("work", folder, "--next") for _ in range(4)]
    assert [one.exit_code for one in said] == [0, 0, 0, 0]
    assert "--next" in said[0].output and "parity-ft" in said[0].output
    assert all(f"spillover report {folder}" in " ".join(one.output.split()) for one in said[2:])


def test_a_variant_by_its_name_and_nothing_else(folder: Path, backend: Executed) -> None:
    assert call("work", folder, "--variant", "parity-lora").exit_code == 0
    assert backend.trained == {"parity-lora": 1}
    valid, grid = Store(folder).valid(Store(folder).grid()), Store(folder).grid()
    by_key = {variant.key: variant.name for variant in grid.variants}
    assert {by_key[cell.variant] for cell in grid.cells if cell.key in valid} == {"parity-lora"}


def test_two_at_once_take_two_variants(folder: Path, backend: Executed) -> None:
    store = Store(folder)
    base = store.grid().variants[0]
    with store.lock_variant(base.key, base.name):
        assert work(Store(folder), backend=backend.backend()).variant != "base"
        left = work(Store(folder), backend=backend.backend()).left
        held = work(Store(folder), backend=backend.backend())
        assert (left, held.variant, held.left) == (("base",), None, ("base",))
        refused = call("work", folder, "--variant", "base")
        assert isinstance(refused.exception, Exception) and refused.exception.exit_code == 3  # type: ignore[attr-defined]
        assert "'base'" in str(refused.exception)
        assert call("work", folder, "--next").exit_code == 0
    assert work(Store(folder), backend=backend.backend()).variant == "base"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--variant"),
        (["--next", "--variant", "base"], "--next"),
        (["--variant", "parity-lara"], "parity-lora"),
        (["--next", "--device", "cpu,cpu"], "--device"),
    ],
)
def test_what_work_refuses(folder: Path, words: list[str], said: str) -> None:
    refused = call("work", folder, *words)
    assert refused.exception is not None and said in str(refused.exception)
    assert refused.exception.exit_code == 2  # type: ignore[attr-defined]


def test_a_folder_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    refused = call("work", tmp_path, "--next")
    assert refused.exception.exit_code == 2  # type: ignore[union-attr]


def test_data_that_changed_since_the_plan_are_refused(folder: Path, backend: Executed, tmp_path: Path) -> None:
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-4]))
    refused = call("work", folder, "--next")
    assert refused.exception.exit_code == 2 and "plan" in str(refused.exception)  # type: ignore[union-attr]
    assert backend == Executed()


def test_a_failure_is_a_line_and_exit_code_1(folder: Path, backend: Executed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(backend, "train", broken)
    done = call("work", folder, "--variant", "parity-ft")
    assert done.exit_code == 1 and "ZeroDivisionError" in done.output
    assert (folder / "errors" / "parity-ft.txt").exists()


def test_status_plan_and_run_agree_once_weights_changed(folder: Path, backend: Executed, tmp_path: Path) -> None:
    """A trained variant's cells do not count once its weights on disk are others."""
    for _ in range(3):
        call("work", folder, "--next")
    ft = next(variant for variant in Store(folder).grid().variants if variant.name == "parity-ft")
    weights = folder / "variants" / ft.key / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80?")

    status = call("status", folder).output
    assert [line.split()[1:] for line in status.splitlines() if line.startswith("parity-ft")] == [["0", "of", "2", "2"]]
    options = [word for one in SETS for word in ("--set", one)]
    assert "2 of 6 cells" in " ".join(call("plan", tmp_path / "twice.yaml", *options, "-o", folder).output.split())
    assert set(Store(folder).valid(Store(folder).grid())) == {
        c.key for c in Store(folder).grid().cells if c.variant != ft.key
    }
    before = backend.trained["parity-ft"]
    assert call("run", tmp_path / "twice.yaml", *options, "-o", folder).exit_code == 0
    assert backend.trained["parity-ft"] == before + 1
    assert "0 of" not in call("status", folder).output


def test_weights_that_are_gone_are_made_again_for_who_asks_for_them(folder: Path, backend: Executed) -> None:
    for _ in range(3):
        work(Store(folder), backend=backend.backend())
    store, before = Store(folder), contents(folder)
    key = next(variant.key for variant in store.grid().variants if variant.name == "parity-ft")
    store.drop_weights(key)
    assert call("work", folder, "--variant", "parity-ft").exit_code == 0
    assert not store.has_weights(key), "its cells are there, so nothing is to do"
    done = call("work", folder, "--variant", "parity-ft", "--keep")
    assert done.exit_code == 0, done.output
    assert Store(folder).has_weights(key) and contents(folder) == before
    refused = call("work", folder, "--next", "--keep")
    assert refused.exit_code != 0 and "--keep" in str(refused.exception)
