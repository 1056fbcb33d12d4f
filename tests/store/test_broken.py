"""A stored file that is not what was written never counts, and one line says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fakestore
import pandas as pd
import pytest
from prose import tells

from spillover.analysis import table
from spillover.errors import StoreError
from spillover.interop.compare import compare
from spillover.plan.grid import Condition, Grid
from spillover.store.folder import Broken
from spillover.store.store import Store

WHOLE = fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,), prompts=("p1",), rows=20)
GRID = replace(
    WHOLE,
    cells=tuple(cell for cell in WHOLE.cells if cell.test in ("shop", "film")),
    tests=tuple(test for test in WHOLE.tests if test.name in ("shop", "film")),
)
CELL = next(cell for cell in GRID.cells if cell.variant == "v0" and cell.test == "shop")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakestore.write_store(tmp_path_factory.mktemp("made") / "out", GRID)


@pytest.fixture(scope="module")
def right(made: Path) -> pd.DataFrame:
    """The table as it is when nothing is broken."""
    return table.load(made).df


@pytest.fixture
def folder(made: Path, right: pd.DataFrame, tmp_path: Path) -> Path:
    """A finished experiment, with what was computed from its answers."""
    return Path(shutil.copytree(made, tmp_path / "out"))


def file_of(folder: Path, name: str) -> Path:
    return folder / "cells" / CELL.key / name


def without_rows(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:15]))


def other_answer(path: Path) -> None:
    """Of the same length."""
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"response": "negative"', b'"response": "positive"', 1))
    assert path.read_bytes() != before


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


WRITTEN = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"7",
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b'{"rows": "many", "bytes": []}',
]
DAMAGES: list[Callable[[Path], object]] = [
    *(lambda path, content=content: path.write_bytes(content) for content in WRITTEN),  # type: ignore[misc]
    lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    Path.unlink,
    flipped,
    a_folder,
]


@pytest.mark.parametrize("name", ["predictions.jsonl", "receipt.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_cell_is_missing_and_one_line_says_so(
    folder: Path, right: pd.DataFrame, name: str, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    damage(file_of(folder, name))
    results = table.load(folder)
    assert results.missing == (CELL,)
    (line,) = caplog.messages
    assert tells(line, "1 of 4 cells", "base/shop", name, "spillover run")
    expected = right[~((right["variant"] == "base") & (right["test_dataset"] == "shop"))]
    same = ["variant", "test_dataset", "metric", "value", "n"]
    pd.testing.assert_frame_equal(results.df[same].reset_index(drop=True), expected[same].reset_index(drop=True))


def test_lost_rows_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The smaller n is never scored: neither in the table nor in a comparison."""
    without_rows(file_of(folder, "predictions.jsonl"))
    for hashes in (True, False):
        assert CELL.key not in Store(folder).valid(GRID, hashes=hashes)
    assert tells(caplog.messages[0], "predictions.jsonl", "15 of 20 rows")
    compared = compare(f"{folder}:base", f"{folder}:news-ft").rows
    assert [dict(row.setting)["test_dataset"] for row in compared] == ["film"]


def test_a_changed_answer_is_found_by_its_hash(folder: Path) -> None:
    """`status` compares sizes only; whatever gives a number compares hashes."""
    other_answer(file_of(folder, "predictions.jsonl"))
    assert CELL.key in Store(folder).valid(GRID, hashes=False)
    assert CELL.key not in Store(folder).valid(GRID)
    assert table.load(folder).missing == (CELL,)


def test_a_change_that_leaves_size_and_time_of_an_older_file_is_found(folder: Path) -> None:
    path = file_of(folder, "predictions.jsonl")
    os.utime(path, ns=(0, 0))
    assert CELL.key in Store(folder).valid(GRID)
    other_answer(path)
    os.utime(path, ns=(0, 0))
    assert CELL.key not in Store(folder).valid(GRID)


def test_a_cell_in_the_place_of_another_does_not_count(folder: Path) -> None:
    other = next(cell for cell in GRID.cells if cell.test == "film" and cell.variant == "v0")
    for name in ("predictions.jsonl", "receipt.json"):
        file_of(folder, name).write_bytes((folder / "cells" / other.key / name).read_bytes())
    assert table.load(folder).missing == (CELL,)


def test_rows_of_broken_cells_are_not_used_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("one", "two"):
        store.write_cell(
            key, [{"prompt_hash": key, "response": "yes"}], {"variant": "v", "weights": "w", "engine": "shared"}
        )
    path = tmp_path / "cells" / "one" / "predictions.jsonl"
    path.write_text(path.read_text().replace("yes", "no!"))
    assert set(store.known_rows("v", "w", "shared")) == {"two"}


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.write_bytes(path.read_bytes() + b"x")])
def test_a_broken_cache_of_scores_is_made_again(
    folder: Path, right: pd.DataFrame, damage: Callable[[Path], object]
) -> None:
    for path in folder.glob("cells/*/rows-*"):
        damage(path)
    pd.testing.assert_frame_equal(table.load(folder).df, right)


def test_the_cache_of_one_cell_is_no_cache_of_another(folder: Path, right: pd.DataFrame) -> None:
    paths = sorted(folder.glob("cells/*/rows-*"))
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    pd.testing.assert_frame_equal(table.load(folder).df, right)


@pytest.mark.parametrize("name", ["grid.json", "audit.json", "claims.yaml", "source.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_plan_is_said_in_one_line(folder: Path, name: str, damage: Callable[[Path], object]) -> None:
    damage(folder / name)
    store = Store(folder)
    with pytest.raises(StoreError) as told:
        store.grid(), store.audit(), store.claims()
    assert tells(str(told.value), "spillover run") and "\n" not in str(told.value)
    if (folder / "grid.json").exists():
        assert tells(str(told.value), name)
        (broken,) = store.broken_of_plan()
        assert name in broken


def test_files_of_two_plans_do_not_fit_together(folder: Path) -> None:
    """As after a run that was killed while it wrote its plan, or where somebody put an old file back."""
    before = (folder / "grid.json").read_bytes()
    smaller = Grid(GRID.model, GRID.protocol, GRID.variants, GRID.cells[:3], GRID.tests)
    Store(folder).write_plan(smaller, {})
    assert Store(folder).grid() == smaller
    (folder / "grid.json").write_bytes(before)
    with pytest.raises(Broken, match="not what the last run wrote"):
        Store(folder).grid()


def test_prompts_that_are_broken_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    condition: Condition = CELL.condition
    assert Store(folder).prompts(condition) is not None
    for path in (folder / "prompts").iterdir():
        flipped(path)
    assert Store(folder).prompts(condition) is None
    assert "out/prompts/" in caplog.messages[0] and tells(caplog.messages[0], "not what the last run wrote")
    assert len(Store(folder).broken_of_plan()) == len(list((folder / "prompts").iterdir()))


@pytest.mark.parametrize("damage", [one for one in DAMAGES if one is not Path.unlink])
def test_what_was_measured_inside_is_left_out_where_it_is_broken(
    folder: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    fakestore.write_inside(folder, GRID)
    damage(folder / "inside" / "v-news-ft.json")
    store = Store(folder)
    assert store.inside() == {} and tells(caplog.messages[0], "inside/v-news-ft.json", "spillover run")
    assert not store.is_damaged("v-news-ft", is_trained=True), "its weights are gone, so nothing can be measured"
    assert store.is_damaged("v-news-ft", is_trained=False)


def test_a_broken_receipt_of_a_variant_is_trained_again(folder: Path) -> None:
    store = Store(folder)
    assert not store.is_damaged("v-news-ft", is_trained=True)
    flipped(folder / "variants" / "v-news-ft" / "receipt.json")
    assert store.variant_receipt("v-news-ft") is None and store.is_damaged("v-news-ft", is_trained=True)


def test_cells_whose_weights_changed_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(folder)
    variant = next(one for one in store.grid().variants if one.kind == "trained")
    (store.making_folder(variant.key) / "model.safetensors").write_bytes(b"changed since")
    store.finish_variant(variant.key, {"weights": "as the training left them"})
    counting = Store(folder).valid(store.grid())
    assert not any(cell.variant == variant.key and cell.key in counting for cell in store.grid().cells)
    (line,) = {record.getMessage() for record in caplog.records}
    assert tells(line, variant.name, "weights", "spillover run")


def test_cells_of_two_trainings_do_not_count_together(folder: Path) -> None:
    """Where the receipt of a variant is lost, nobody knows which of its cells belong to its weights."""
    (folder / "variants" / "v-news-ft" / "receipt.json").unlink()
    store = Store(folder)
    cells = [cell.key for cell in GRID.cells if cell.variant == "v-news-ft"]
    for key in cells:
        store.write_cell(key, store.predictions(key), {"variant": "v-news-ft", "weights": "w"})
    assert set(cells) <= set(store.valid(GRID))
    store.write_cell(cells[0], store.predictions(cells[0]), {"variant": "v-news-ft", "weights": "others"})
    assert not set(cells) & set(store.valid(GRID))


def test_broken_chunks_are_cut_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    for name in "abc":
        store.append_partial("u", [{"prompt_hash": name, "response": "yes"}], {"seconds": 1.0})
    path = tmp_path / "partial" / "u.jsonl"
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(b"yes", b"no!") + b"{}\n[]\nnull\n" + third)
    rows, works = store.partial("u")
    assert set(rows) == {"a", "c"} and len(works) == 2
    assert path.read_bytes() == first + third
    assert tells(caplog.messages[0], "4 of 6 chunks", "computed again")
    path.unlink()
    path.mkdir()
    assert store.partial("u") == ({}, [])
    store.append_partial("u", [], {})


@pytest.mark.parametrize("damage", [one for one in DAMAGES if one is not Path.unlink])
def test_the_precision_of_a_folder_is_asked_for_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = Store(tmp_path)
    assert store.precision(lambda: "float32") == "float32"
    damage(tmp_path / "precision.json")
    if (tmp_path / "precision.json").is_dir():
        with pytest.raises(StoreError, match=r"precision.json: cannot be written"):
            store.precision(lambda: "bfloat16")
    else:
        assert store.precision(lambda: "bfloat16") == "bfloat16"
        assert json.loads((tmp_path / "precision.json").read_text())["auto"] == "bfloat16"


@pytest.mark.parametrize("content", ["", "[]", "null", "\x00", "{"])
def test_a_broken_marker_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "spillover.json").write_text(content)
    with pytest.raises(StoreError, match=r"spillover\.json: is"):
        Store(tmp_path)


def test_weights_that_another_process_deletes_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    making = store.making_folder("v")
    for number in range(3):
        (making / f"model-{number}.safetensors").write_bytes(b"x" * 1000)
    store.finish_variant("v", {"weights": "w"})
    read = Path.open

    def vanishing(self: Path, *args: object, **options: object) -> object:
        if self.name == "model-1.safetensors":
            self.unlink(missing_ok=True)
        return read(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", vanishing)
    assert store.weights("v") == "w"
