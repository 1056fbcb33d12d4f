"""The output folder itself: its version, its locks, and the one way in which files are read and written there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..disk import free_space, nearest_existing, write_whole
from ..errors import StoreBusy, StoreError

STORE_VERSION = 1

Json = dict[str, Any]


class Folder:
    """A folder on disk with a version. Raises StoreError for a folder of another version, and for a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        marker = self._read("spillover.json")
        if marker is not None and (found := marker.get("store")) != STORE_VERSION:
            what = f"written by another version of spillover (store {found}, this is {STORE_VERSION})"
            raise StoreError(what, where=str(folder), allowed="give another --output")
        if marker is None and not (place := nearest_existing(folder)).is_dir():
            raise StoreError("is a file", where=str(place), allowed="a folder")

    def create(self) -> None:
        """Make the folder and its marker."""
        with self._disk_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "spillover.json").exists():
                self._write("spillover.json", json.dumps({"store": STORE_VERSION}) + "\n")

    @contextmanager
    def _held(self, name: str, busy: str, allowed: str | None = None, wait_s: float = 0.0) -> Iterator[None]:
        """Hold a lock file. The operating system frees it when the process ends, also when it is killed."""
        path = self.folder / name
        with self._disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=wait_s)
            except Timeout:
                raise StoreBusy(busy, where=str(self.folder), allowed=allowed) from None
        try:
            yield
        finally:
            lock.release()

    def _read(self, name: str, allowed: str | None = None) -> Json | None:
        """A JSON object; None if there is no such file. Raises StoreError for a broken file."""
        path = self.folder / name
        try:
            value = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):  # absent, or another process is replacing its folder
            return None
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot be read: {error}", where=str(path), allowed=allowed) from None
        return value if isinstance(value, dict) else {}

    def _write(self, name: str, content: str | bytes) -> Path:
        """Replace a file as a whole."""
        with self._disk_errors():
            return write_whole(self.folder / name, content)

    def _entries(self, kind: str) -> list[Path]:
        """What is in a folder inside this one, sorted."""
        place = self.folder / kind
        return sorted(place.iterdir()) if place.is_dir() else []

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """A full disk or a missing permission becomes one line; what was whole stays whole."""
        try:
            yield
        except OSError as error:
            what = f"cannot be written: {error.strerror or error} ({free_space(self.folder) / 1e9:.1f} GB free)"
            raise StoreError(what, where=str(error.filename or self.folder)) from None


def line(value: Json) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def pretty(value: Json) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
