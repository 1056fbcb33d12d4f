"""The folder on disk: whole or absent, found by content, safe against another version."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from spillover import models
from spillover.errors import StoreBusy, StoreError
from spillover.plan.grid import Cell, Condition, Grid, Variant
from spillover.store.store import Store

BASE, TRAINED = Variant("b", "base", "base"), Variant("v", "tuned", "trained")
GRID = Grid(
    "model",
    "sound",
    (BASE, TRAINED),
    tuple(Cell(f"c{v.key}", v.key, Condition("t", "p1", 0, 0), "k", None, 1) for v in (BASE, TRAINED)),
    (),
)


def trained(store: Store, content: bytes = b"x" * 1000) -> Path:
    """A variant with one file of weights."""
    making = store.making_folder("v")
    (making / "model.safetensors").write_bytes(content)
    return store.finish_variant("v", {"weights": models.content_sha256(making)})


def fill(store: Store) -> None:
    """Both cells of the grid, whole."""
    store.write_plan(GRID, {})
    for cell in GRID.cells:
        receipt = {"variant": cell.variant, "weights": store.weights(cell.variant) or "of the base"}
        store.write_cell(cell.key, [{"prompt_hash": "p", "response": "yes"}], receipt)


def test_a_cell_counts_only_with_the_weights_it_was_made_with(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = trained(store)
    fill(store)
    assert set(store.valid(store.grid())) == {"cb", "cv"}
    (place / "model.safetensors").write_bytes(b"y" * 1000)
    assert set(store.valid(GRID)) == {"cb"}
    store.finish_variant("v", {"weights": "of another training"})
    assert set(store.valid(GRID)) == {"cb"}


def test_cells_count_after_their_weights_were_deleted(tmp_path: Path) -> None:
    store = Store(tmp_path)
    trained(store)
    fill(store)
    store.drop_weights("v")
    assert set(store.valid(GRID)) == {"cb", "cv"}
    assert not store.has_weights("v") and store.weights("v")


def test_known_rows_are_those_of_a_variant_with_these_weights_by_an_engine(tmp_path: Path) -> None:
    store = Store(tmp_path)
    receipt = {"variant": "v", "weights": "w1", "engine": "vllm"}
    store.write_cell("abc", [{"prompt_hash": "p", "response": "yes"}], receipt)
    assert store.known_rows("v", "w1", "vllm") == {"p": {"prompt_hash": "p", "response": "yes"}}
    assert store.known_rows("v", "w2", "vllm") == store.known_rows("v", "w1", "shared") == {}
    assert store.known_rows("v", "w1", "vllm", of_others={key for key, _ in store.cell_receipts()}) == {}


def test_statistics_replace_those_of_other_predictions(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_cell("abc", [], {})
    store.keep_statistics("abc", "one", b"1")
    store.keep_statistics("abc", "two", b"2")
    assert (store.statistics("abc", "one"), store.statistics("abc", "two")) == (None, b"2")


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_cell("abc", [{"a": 1}], {})
    path = tmp_path / "cells" / "abc" / "predictions.jsonl"
    path.write_text(path.read_text() + "{")
    with pytest.raises(StoreError, match=r"predictions\.jsonl:2"):
        store.predictions("abc")


def test_precision_is_settled_once(tmp_path: Path) -> None:
    assert Store(tmp_path).precision(lambda: "bfloat16") == "bfloat16"
    assert Store(tmp_path).precision(lambda: "float32") == "bfloat16"


def test_locks_of_variants_are_separate(tmp_path: Path) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    with store.lock_variant("v", "tuned"):
        with other.lock_variant("b", "base"), other.lock():
            pass
        with pytest.raises(StoreBusy, match="'tuned'"), other.lock_variant("v", "tuned"):
            pass
        with pytest.raises(StoreBusy, match="'tuned'"), other.lock_all(GRID):
            pass
    with other.lock_all(GRID), pytest.raises(StoreBusy), store.lock_variant("v", "tuned"):
        pass


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_chunk_that_a_killed_process_wrote_half_is_cut_off(tmp_path: Path, cut: int) -> None:
    store = Store(tmp_path)
    store.create()
    for name in "ab":
        store.append_partial("u", [{"prompt_hash": name, "response": "£ \U0001f600"}], {"seconds": 1.5})
    path = tmp_path / "partial" / "u.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    rows, works = store.partial("u")
    assert (set(rows), works) == ({"a"}, [{"seconds": 1.5}])
    store.append_partial("u", [{"prompt_hash": "c", "response": "\ud800"}], {})  # half a surrogate pair survives too
    assert store.partial("u")[0]["c"]["response"] == "\ud800"
    assert store.partial("absent") == ({}, [])


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spillover.json").write_text(json.dumps({"store": 0}))
    with pytest.raises(StoreError, match="written by another version"):
        Store(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_whole_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.create()
    store.write_cell("abc", [{"a": 1}], {"variant": "v"})

    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match=r"cannot be written: No space left on device \(\d+\.\d GB free\)"):
            store.write_cell("abd", [{"a": 1}], {"variant": "v"})
    assert (store.cell("abc") or {})["variant"] == "v"
    assert store.cell("abd") is None


@pytest.mark.parametrize("inside", ["", "deeper/yet"])
def test_a_file_is_no_folder(tmp_path: Path, inside: str) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match=r"out: is a file \(a folder\)$"):
        Store(tmp_path / "out" / inside)


def test_dropping_weights_keeps_the_receipt(tmp_path: Path) -> None:
    store = Store(tmp_path)
    making = store.making_folder("v")
    (making / "model.safetensors").write_bytes(b"x" * 1000)
    (making / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    place = store.finish_variant("v", {"weights": "w"})
    assert sorted(path.name for path in place.iterdir()) == ["model.safetensors", "receipt.json"]
    assert store.drop_weights("v") == 1000
    assert store.variant_receipt("v") == {"weights": "w"}


def test_what_the_experiment_does_not_name_is_unused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    for key in ("old", "cv"):
        store.write_cell(key, [], {})
    store.making_folder("half")
    stale = store.unused(GRID)
    assert [path.name for path in stale] == ["half.making", "old"]
    store.delete(stale)
    assert store.unused(GRID) == []
