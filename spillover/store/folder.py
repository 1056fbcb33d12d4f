"""The output folder itself: its version, its locks, and the one way in which files are read and written there.

Every file that a number rests on is checked when it is read, so that a file that lost a line, or in which a bit
flipped, never counts. There are two ways. A JSON file that is its own record is *sealed*: it holds a hash of its name
and of everything else in it. A file beside a sealed one has its hash there: predictions in the cell's receipt, what a
plan wrote in `source.json`. What does not pass is `Broken`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from filelock import FileLock, Timeout

from ..disk import disk_errors, nearest_existing, remove, within, write_whole
from ..errors import StoreBusy, StoreError, visible

STORE_VERSION = 2
SEAL = "seal"
SHORT = 40  # characters of a text that other files may hold too, such as a version
SETTLED_S = 2.0  # a file that changed more recently could change again without another time of change

Json = dict[str, Any]
Made = TypeVar("Made")

log = logging.getLogger("spillover")  # without a handler of its own, Python writes the line to stderr


class Broken(StoreError):
    """A stored file is not what was written: it is missing, cut off, changed, or in the place of another."""


class Folder:
    """A folder on disk with a version. Raises StoreError for a folder of another version, and for a file."""

    _made: ClassVar[dict[tuple[Path, str], tuple[tuple[int, ...], Any]]] = {}
    _told: ClassVar[set[tuple[Path, str]]] = set()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = self._content("spillover.json")
        try:
            found = STORE_VERSION if content is None else _json(content).get("store")
        except ValueError as error:
            raise Broken(str(error), where=str(folder / "spillover.json"), allowed="give another --output") from None
        if found != STORE_VERSION:
            what = f"written by another version of spillover (store {found}, this is {STORE_VERSION})"
            raise StoreError(what, where=str(folder), allowed="give another --output")
        if content is None and not (place := nearest_existing(folder)).is_dir():
            raise StoreError("is a file", where=str(place), allowed="a folder")

    @property
    def address(self) -> str:
        """What another process names this folder by."""
        return str(self.folder.absolute())

    def create(self) -> None:
        """Make the folder and its marker."""
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "spillover.json").exists():
                self._write("spillover.json", json.dumps({"store": STORE_VERSION}) + "\n")

    @contextmanager
    def _held(self, name: str, busy: str, allowed: str | None = None, wait_s: float = 0.0) -> Iterator[None]:
        """Hold a lock file. The operating system frees it when the process ends, also when it is killed."""
        path = within(self.folder, name)
        with disk_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink():
                path.unlink(missing_ok=True)
            lock = FileLock(path)
            try:
                lock.acquire(timeout=wait_s)
            except Timeout:
                raise StoreBusy(busy, where=str(self.folder), allowed=allowed) from None
        try:
            yield
        finally:
            lock.release()

    # --- reading ---------------------------------------------------------------------------------------

    def _content(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is no such file. Raises Broken if it cannot be read."""
        try:
            return (self.folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # absent, or another process is replacing its folder
            return None
        except IsADirectoryError:
            raise Broken("is a folder; delete it", where=str(self.folder / name)) from None
        except OSError as error:
            raise Broken(f"cannot be read: {error.strerror}", where=str(self.folder / name)) from None

    def _sealed(self, name: str) -> Json | None:
        """The JSON object of a sealed file; None if there is no such file. Raises Broken."""
        content = self._content(name)
        try:
            return None if content is None else unsealed(name, content)
        except ValueError as error:
            raise Broken(str(error), where=str(self.folder / name)) from None

    def _sealed_or_none(self, name: str, then: str) -> Json | None:
        """The same for a file that numbers do not need: if it is broken it is left out, and `then` says what follows.

        Each broken file is told of once in a process.
        """
        try:
            found = self._sealed(name)
        except Broken as error:
            self._tell(name, f"{error}; {then}")
            return None
        self._told.discard((self.folder, name))
        return found

    def _tell(self, about: str, text: str) -> None:
        """Say something about a file or cell, once in a process."""
        if (self.folder, about) not in self._told:
            self._told.add((self.folder, about))
            log.warning("%s", visible(text))

    def _once(self, path: Path, kind: str, make: Callable[[], Made]) -> Made:
        """What `make` reads from a file, remembered in this process as long as the file does not change."""
        stat = path.stat()
        now = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        before, made = self._made.get((path, kind), (None, None))
        if before == now:
            return made  # type: ignore[return-value]
        made = make()
        if time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED_S:
            self._made[path, kind] = now, made
        return made

    # --- writing ---------------------------------------------------------------------------------------

    def _write(self, name: str, content: str | bytes) -> Path:
        """Replace a file as a whole. Raises StoreError for what the disk refuses; what was whole stays whole."""
        with disk_errors(self.folder):
            return write_whole(within(self.folder, name), content)

    def _write_sealed(self, name: str, value: Json) -> Path:
        return self._write(name, sealed(name, value))

    def _remove(self, name: str) -> None:
        """Delete a file, a link or a folder, if it is there. Raises StoreError for what the disk refuses."""
        with disk_errors(self.folder):
            remove(within(self.folder, name))

    def _entries(self, kind: str) -> list[Path]:
        """What is in a folder inside this one, sorted."""
        place = self.folder / kind
        return sorted(place.iterdir()) if place.is_dir() else []


def sealed(name: str, value: Json, indent: int | None = 1) -> str:
    """A JSON object as text with its seal, which belongs to the file's name. `indent`: None for a single line."""
    plain = json.loads(json.dumps(value))  # as it will be read: keys that were numbers are text
    return json.dumps({**plain, SEAL: _seal(name, plain)}, indent=indent, ensure_ascii=False) + "\n"


def unsealed(name: str, content: bytes) -> Json:
    """The JSON object that `sealed` wrote under this name. Raises ValueError for anything else."""
    value = _json(content)
    if value.pop(SEAL, None) != _seal(name, value):
        raise ValueError("is not what was written there")
    return value


def _seal(name: str, value: Json) -> str:
    return hashlib.sha256(json.dumps([name, value], sort_keys=True).encode()).hexdigest()


def _json(content: bytes) -> Json:
    """A JSON object. Raises ValueError with what it is instead."""
    if not content.strip():
        raise ValueError("is empty")
    try:
        value = json.loads(content, object_pairs_hook=_held_once)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON, or only a part of it") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def _held_once(pairs: list[tuple[str, Any]]) -> Json:
    """An object whose names and short texts are in memory once: most of a receipt stands in thousands of others too."""
    return {
        sys.intern(name): sys.intern(value) if isinstance(value, str) and len(value) <= SHORT else value
        for name, value in pairs
    }


def line(value: Json) -> str:
    """One line of JSON."""
    return json.dumps(value, ensure_ascii=False) + "\n"
