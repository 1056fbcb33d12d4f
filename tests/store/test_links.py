"""Nothing outside the output folder is written or deleted. The output folder itself may be a link."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fakestore
import pytest

from spillover import api
from spillover.disk import size_on_disk
from spillover.errors import StoreError
from spillover.interop.export import export
from spillover.plan.grid import Grid
from spillover.store.store import Store

GRID = fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,), prompts=("p1",), rows=4)
EMPTY = Grid("model", "sound", (), (), ())


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    place = tmp_path / "elsewhere"
    (place / "deeper").mkdir(parents=True)
    for name in ("model.safetensors", "receipt.json", "rows-old", "deeper/precious.txt"):
        (place / name).write_text("precious")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(fakestore.write_store(tmp_path / "out", GRID))


def content(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


UNLINKED: list[tuple[str, Callable[[Store], object]]] = [
    ("variants/k", lambda store: store.drop_weights("k")),
    ("variants/k", lambda store: store.finish_variant("k", {"weights": "w"})),
    ("variants/k", lambda store: store.delete(store.unused(EMPTY))),
    ("variants/k.making", lambda store: store.making_folder("k")),
    ("variants/k.making/checkpoints", lambda store: store.making_folder("k")),
    ("variants/k.making/model.safetensors", lambda store: store.making_folder("k")),
    ("cells/k", lambda store: store.delete(store.unused(EMPTY))),
    ("cells/k", lambda store: store.write_cell("k", [], {})),
    ("cells/k.writing", lambda store: store.write_cell("k", [], {})),
    ("partial/u.jsonl", lambda store: store.append_partial("u", [], {})),
    ("partial/u.jsonl", lambda store: store.drop_partial("u")),
    ("errors", lambda store: store.forget_errors()),
    ("locks/k", lambda store: store.lock_variant("k", "k").__enter__()),
    ("results.csv", lambda store: store.write_report_file("results.csv", "a")),
]


@pytest.mark.parametrize(("name", "act"), UNLINKED, ids=[name for name, _ in UNLINKED])
@pytest.mark.parametrize("target", ["", "receipt.json", "not/there"], ids=["folder", "file", "nothing"])
def test_a_link_is_deleted_and_never_followed(
    store: Store, elsewhere: Path, name: str, act: Callable[[Store], object], target: str
) -> None:
    before = content(elsewhere)
    link = store.folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere / target)
    act(store)
    assert content(elsewhere) == before and not (elsewhere / "not").exists()
    assert not link.is_symlink()


REFUSED: list[tuple[str, Callable[[Store], object]]] = [
    ("cells", lambda store: store.write_cell("k", [], {})),
    ("cells", lambda store: store.delete([store.folder / "cells" / "deeper"])),
    ("variants", lambda store: store.making_folder("k")),
    ("variants", lambda store: store.drop_weights("deeper")),
    ("variants", lambda store: store.delete([store.folder / "variants" / "deeper"])),
    ("partial", lambda store: store.append_partial("u", [], {})),
    ("prompts", lambda store: store.write_plan(GRID, {}, {GRID.cells[0].condition: {}})),
    ("inside", lambda store: store.write_inside("k", {})),
    ("errors", lambda store: store.write_error("what", "why")),
    ("locks", lambda store: store.lock_variant("k", "k").__enter__()),
    ("figures", lambda store: api.load(store.folder).write(figures=True)),
    ("report.data", lambda store: api.load(store.folder).write()),
]


@pytest.mark.parametrize(("name", "act"), REFUSED, ids=[name for name, _ in REFUSED])
def test_a_link_in_the_place_of_a_folder_is_refused_in_one_line(
    store: Store, elsewhere: Path, name: str, act: Callable[[Store], object]
) -> None:
    before = content(elsewhere)
    if (store.folder / name).exists():
        (store.folder / name).rename(store.folder / f"{name}.real")
    (store.folder / name).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=rf"{name}: is a link, and nothing outside") as told:
        act(store)
    assert "\n" not in str(told.value)
    assert content(elsewhere) == before


OUTSIDE: list[Callable[[Store, str], object]] = [
    lambda store, name: store.write_cell(name, [], {}),
    lambda store, name: store.keep_statistics(name, "new", b"1"),
    lambda store, name: store.making_folder(name),
    lambda store, name: store.finish_variant(name, {"weights": "w"}),
    lambda store, name: store.drop_weights(name),
    lambda store, name: store.append_partial(name, [], {}),
    lambda store, name: store.write_inside(name, {}),
    lambda store, name: store.write_written(name, [], {}),
    lambda store, name: store.lock_variant(name, name).__enter__(),
    lambda store, name: store.write_report_file(name, "a"),
]


@pytest.mark.parametrize("act", OUTSIDE)
@pytest.mark.parametrize("start", ["../../", "../cells/../../"])
def test_a_name_that_leads_outside_is_refused(
    store: Store, elsewhere: Path, tmp_path: Path, act: Callable[[Store, str], object], start: str
) -> None:
    """Keys come from files that others may have made."""
    before = content(elsewhere)
    for name in (f"{start}elsewhere", str(elsewhere / "new")):
        with suppress(StoreError):  # `keep_statistics` keeps nothing; a whole path behind a folder's name stays inside
            act(store, name)
        assert content(elsewhere) == before and {path.name for path in tmp_path.iterdir()} == {"out", "elsewhere"}


@pytest.mark.parametrize("link", ["export", "export/card", "export/card/shop-ft"])
def test_an_export_into_the_folder_follows_no_link(store: Store, elsewhere: Path, link: str) -> None:
    before = content(elsewhere)
    (store.folder / link).parent.mkdir(parents=True, exist_ok=True)
    (store.folder / link).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=rf"{link}: is a link"):
        export(store.folder, "card", None)
    assert content(elsewhere) == before


def test_statistics_are_not_kept_behind_a_link(store: Store, elsewhere: Path) -> None:
    before = content(elsewhere)
    (store.folder / "cells" / "k").symlink_to(elsewhere)
    store.keep_statistics("k", "new", b"1")
    assert content(elsewhere) == before


def test_weights_behind_a_link_count_and_stay_and_the_receipt_is_kept(store: Store, elsewhere: Path) -> None:
    """Somebody moved a variant to a larger disk."""
    place = store.finish_variant("k", {"weights": "w"})
    (place / "model.safetensors").write_bytes(b"x" * 1000)
    moved = place.rename(elsewhere / "moved")
    place.symlink_to(moved)
    assert store.variant_receipt("k") == {"weights": "w"}
    assert size_on_disk(place) == store.drop_weights("k") == 0
    assert (moved / "model.safetensors").exists()
    assert not place.is_symlink() and store.variant_receipt("k") == {"weights": "w"}


def test_the_output_folder_may_be_a_link(store: Store, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store.folder)
    other = Store(link)
    other.write_cell("k", [{"a": 1}], {})
    assert store.predictions("k") == [{"a": 1}]
    other.delete(other.unused(EMPTY))
    assert not (store.folder / "cells" / "k").exists()
