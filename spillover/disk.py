"""Files on disk: writing one as a whole, naming, deleting, hashing it, its size, and the space that is left.

A file that several processes may read is never seen half written: it is written beside its place under another name
and then renamed. A killed process leaves the old file or the new one.

Nothing outside a folder is written or deleted through a name with `..` or a symbolic link in it: such a name is refused
(`within`), as is a link in the place of a folder; a link that is to be deleted is itself deleted, not what it points to
(`remove`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from .errors import StoreError, shown

SEAL = "whole.json"  # file name -> hash, in a folder that was written to its end


def within(root: Path, name: str) -> Path:
    """The path of `name` below `root`, for writing or deleting. `root` itself may be a link.

    Raises StoreError if that would be outside: for a name with `..`, which a file from elsewhere may hold, and if a
    folder on the way is a link.
    """
    place, parts = root, Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        raise StoreError(f"{shown(name)} is a name outside the output folder", where=str(root))
    for part in parts[:-1]:
        place = place / part
        if place.is_symlink():
            what = "is a link, and nothing outside the output folder is written or deleted"
            raise StoreError(what, where=str(place), allowed="delete the link; a folder takes its place")
    return root / name


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there. Links are never followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """What the disk refuses below `folder`, such as a full disk or no permission, becomes one line."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written: {error.strerror or error} ({free_space(folder) / 1e9:.1f} GB free)"
        raise StoreError(what, where=str(error.filename2 or error.filename or folder)) from None


def write_whole(path: Path, content: str | bytes) -> Path:
    """Replace the file at `path`, or make it; missing folders are made too. Returns `path`."""
    # Two processes may write the same file, and its name may be as long as a name can be.
    beside = path.with_name(f"{path.name[:50]}.{uuid4().hex[:8]}.writing")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside.write_bytes(as_bytes(content) if isinstance(content, str) else content)
        return beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def file_name(name: str) -> str:
    """A name as one of a file, on any system: of at most 100 letters, digits and `-_.` of ASCII.

    A name that is changed, or that another system takes for another's or for a device's (`CON`), gets a hash, so that
    different names have different files.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    if _FILE_NAME.fullmatch(name):
        return name
    return f"{plain.strip('.-')[:80] or 'name'}-{hashlib.sha256(as_bytes(name)).hexdigest()[:12]}"


_FILE_NAME = re.compile(r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))[a-z0-9_]([a-z0-9_.-]{0,98}[a-z0-9_])?")


def from_json(content: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, also for one that is nested too deeply to read."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("lists or objects are nested too deeply") from None


def as_bytes(text: str) -> bytes:
    """Text in UTF-8. Half a surrogate pair, which JSON files may hold, becomes a backslash escape."""
    return text.encode("utf-8", "backslashreplace")


def text_sha256(content: str | bytes) -> str:
    """The SHA-256 of a file with this content."""
    return hashlib.sha256(as_bytes(content) if isinstance(content, str) else content).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def seal(folder: Path) -> None:
    """Say that a folder was written to its end: a file in it holds the hash of every other file."""
    write_whole(folder / SEAL, json.dumps(_hashes(folder)))


def is_whole(folder: Path) -> bool:
    """Whether the files of a folder are those that were sealed."""
    try:
        return bool(from_json((folder / SEAL).read_bytes()) == _hashes(folder))
    except (OSError, ValueError):
        return False


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != SEAL
    }


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder. Links are not followed, and files may go meanwhile."""
    size = 0
    for inner in [path] if path.is_symlink() or not path.is_dir() else path.rglob("*"):
        with suppress(OSError):
            size += inner.stat().st_size if inner.is_file() and not inner.is_symlink() else 0
    return size


def nearest_existing(path: Path) -> Path:
    """The path itself if it exists, else its nearest parent that does."""
    return next(place for place in [path, *path.absolute().parents] if place.exists())


def free_space(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or will hold it."""
    return shutil.disk_usage(nearest_existing(path)).free


def cache_dir() -> Path:
    """The user's cache folder for spillover, or `$SPILLOVER_CACHE`."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("SPILLOVER_CACHE") or user_cache_dir("spillover")).expanduser().absolute()
