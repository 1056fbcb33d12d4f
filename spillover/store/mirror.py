"""The local copy of what is at a URL: what it has, and whole folders that are sent and fetched.

There are two kinds of objects. A *record* is written once: `<name>/<number>`. The highest number counts, and a record
is replaced by creating the next number, so two writers never write the same object. All others are plain files, which
the last writer decides.

A folder that is sent as a whole ends with `whole.json`, which has the size and hash of each of its files. Without it
the folder does not count, and it is what is deleted first.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from threading import RLock
from uuid import uuid4

from filelock import FileLock

from ..disk import disk_errors, file_sha256, from_json, write_whole
from ..errors import shown
from ..fingerprint import fingerprint
from .folder import Broken
from .leases import Leases
from .objects import Objects

WHOLE = "whole.json"
PLAIN = {"spillover.json", "experiment.yaml", "source.json", "grid.json", "claims.yaml", "audit.json", "shown.json"}
PLAIN |= {"mark"}
PLAIN_FOLDERS = {"earlier", "prompts", "errors"}
RECORDS = {"cells", "variants", "inside", "written", "precision.json"}


class Mirror:
    """What this machine has of a URL. `listing` has every object there with its stamp, as `look` found them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.objects = url, folder, Objects(url)
        self.listing: dict[str, str] = {}
        self.has: dict[str, list[str]] = {}  # name in the folder -> object, stamp
        self.read_until, self.turn = 0, RLock()
        self.looked = -inf
        self.fetched_again: set[tuple[str, ...]] = set()
        with disk_errors(folder):
            own = folder / "remote" / "id"
            if not own.exists():
                write_whole(own, uuid4().hex)
        self.lock = FileLock(folder / "remote" / "lock")  # of processes on this machine
        self.leases = Leases(self.objects, fingerprint([own.read_text(), platform.node()]))

    # --- what is there, and what is here -----------------------------------------------------------------

    def look(self) -> dict[str, list[str]]:
        """What is there now of what is copied: name in the folder -> object, stamp. The caller holds the lock."""
        self._read()
        self.looked, self.listing = time.monotonic(), self.objects.listing()
        newest: dict[str, tuple[int, str]] = {}
        for one in self.listing:
            if (named := _named(one)) and newest.get(named[0], (-1, ""))[0] < named[1]:
                newest[named[0]] = named[1], one
        return {name: [one, self.listing[one]] for name, (_, one) in newest.items()}

    def note(self, name: str, found: list[str] | None) -> None:
        """Remember which object a file or cell here is the copy of; None: it is gone."""
        with self.turn, disk_errors(self.folder), self._index.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps([name, found]) + "\n")
            if found is None:
                self.has.pop(name, None)
            else:
                self.has[name] = found
                self.listing[found[0]] = found[1]

    def _read(self) -> None:
        """What processes of this machine noted since the last time."""
        with suppress(FileNotFoundError), self.turn:
            if self._index.stat().st_size < self.read_until:
                self.read_until = 0
            with self._index.open("rb") as handle:
                handle.seek(self.read_until)
                for line in handle:
                    self.read_until += len(line)
                    with suppress(ValueError):
                        name, found = from_json(line)
                        self.has.pop(name, None) if found is None else self.has.update({name: found})

    @property
    def _index(self) -> Path:
        return self.folder / "remote" / "has.jsonl"

    # --- single objects ----------------------------------------------------------------------------------

    def put(self, name: str, content: bytes) -> None:
        """Send a plain file."""
        self.objects.put(name, content)
        if _named(name):
            self.note(name, [name, self.objects.stamp(name) or ""])

    def create(self, name: str, content: bytes) -> bool:
        """Send the next number of a record. False if another writer has created it."""
        before = self.has.get(name, [""])[0]
        number = int(before.rpartition("/")[2]) + 1 if before else 1
        new = f"{name}/{number:06}"
        if not self.objects.create(new, content):
            return False
        self.note(name, [new, self.objects.stamp(new) or ""])
        self.delete([before] if before else [])
        return True

    def delete(self, names: Iterable[str]) -> None:
        names = list(names)
        self.objects.delete(names)
        for name in names:
            self.listing.pop(name, None)

    def under(self, place: str) -> list[str]:
        """The objects below a folder, as the last look found them."""
        return [name for name in self.listing if name.startswith(f"{place}/")]

    # --- whole folders -----------------------------------------------------------------------------------

    def is_whole(self, place: str) -> bool:
        return f"{place}/{WHOLE}" in self.listing

    def send(self, place: str, files: Mapping[str, Path]) -> None:
        """Send files, by their names in `place`.

        Nothing is deleted of a place that is new: a network may deliver a deletion once more, after what follows it.
        """
        if self.is_whole(place):
            self.objects.delete([f"{place}/{WHOLE}"])
        self.objects.put_files({f"{place}/{name}": path for name, path in files.items()})
        said = {name: [path.stat().st_size, file_sha256(path)] for name, path in files.items()}
        self.objects.put(f"{place}/{WHOLE}", json.dumps(said, indent=1).encode())
        self.listing |= {f"{place}/{name}": str(size) for name, (size, _) in said.items()} | {f"{place}/{WHOLE}": "0"}

    def fetch(self, place: str, into: Path) -> None:
        """Fetch a folder that was sent whole. Raises Broken if it is not what was sent."""
        try:
            found = from_json(self.objects.get(f"{place}/{WHOLE}") or b"")
            said = {str(name): (size, sha256) for name, (size, sha256) in found.items()}
        except (ValueError, TypeError, AttributeError):
            raise Broken("is not whole", where=f"{self.url}/{place}") from None
        with disk_errors(into):
            for name, (_, sha256) in said.items():
                if not _is_inside(name):
                    raise Broken(f"names {shown(name)}, which is elsewhere", where=f"{self.url}/{place}/{WHOLE}")
                path = into / name
                there = self.objects.get_file(f"{place}/{name}", path)
                if not there or file_sha256(path) != sha256:
                    what = "was changed" if there else "is missing"
                    raise Broken(what, where=f"{self.url}/{place}/{name}")

    def drop(self, place: str) -> int:
        """Delete a folder that was sent; returns its bytes. Nobody takes half of it for the whole."""
        names = self.under(place)
        size = sum(int(self.listing[name].split()[0]) for name in names)
        self.delete([name for name in names if name.endswith(f"/{WHOLE}")])
        self.delete(self.under(place))
        return size


def _is_inside(name: str) -> bool:
    """Whether a name that was read from the storage stays in the folder that it is written to."""
    return not {"", ".", ".."}.intersection(name.split("/")) and "\\" not in name


def _named(one: str) -> tuple[str, int] | None:
    """The name of an object in the local copy, and its number; None for what is not copied as a matter of course."""
    kind, *more = one.split("/")
    if not _is_inside(one):
        return None
    if kind in RECORDS and more and more[-1].isdigit():
        return one.rpartition("/")[0], int(more[-1])
    return (one, 0) if one in PLAIN or (kind in PLAIN_FOLDERS and more) else None
