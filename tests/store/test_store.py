"""The folder on disk: whole or absent, found by content, safe against another version."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from spillover.errors import StoreError
from spillover.store.store import Store


def test_a_cell_counts_only_with_the_weights_it_was_made_with(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create()
    store.write_cell("abc", [{"prompt_hash": "p", "response": "yes"}], {"variant": "v", "weights": "w1"})
    assert store.has_cell("abc", "w1")
    assert store.has_cell("abc", None)  # weights not known yet: nothing speaks against it
    assert not store.has_cell("abc", "w2")
    assert store.known_rows("v", "w1") == {"p": {"prompt_hash": "p", "response": "yes"}}
    assert store.known_rows("v", "w2") == {}


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
    assert store.has_cell("abc", None)
    assert not store.has_cell("abd", None)


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
    for key in ("old", "new"):
        store.write_cell(key, [], {})
    store.making_folder("half")
    assert [path.name for path in store.unused(set(), {"new"})] == ["half.making", "old"]
