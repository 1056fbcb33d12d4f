"""Files are replaced as a whole, and a failure leaves the old one and nothing beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from spillover import disk


def test_text_and_bytes_are_written_and_missing_folders_made(tmp_path: Path) -> None:
    assert disk.write_whole(tmp_path / "a" / "b.txt", "£\r\n").read_bytes() == "£\r\n".encode()
    assert disk.write_whole(tmp_path / "a" / "b.txt", b"\x00").read_bytes() == b"\x00"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_half_a_surrogate_pair_becomes_its_escape(tmp_path: Path) -> None:
    assert disk.write_whole(tmp_path / "x", '"\ud800"').read_text("utf-8") == r'"\ud800"'


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = disk.write_whole(tmp_path / "x", "old")

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        disk.write_whole(path, "new")
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("x", "old")]


def test_sizes_and_space_are_those_of_the_disk(tmp_path: Path) -> None:
    for name, size in (("a", 3), ("deep/b", 4)):
        disk.write_whole(tmp_path / name, b"x" * size)
    assert disk.size_on_disk(tmp_path) == 7
    assert disk.size_on_disk(tmp_path / "a") == 3
    assert disk.size_on_disk(tmp_path / "absent") == 0
    assert disk.nearest_existing(tmp_path / "not" / "here") == tmp_path
    assert disk.free_space(tmp_path / "not" / "here") > 0
