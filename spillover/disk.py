"""Files on disk: writing one as a whole, hashing it, its size, and the space that is left.

A file that several processes may read is never seen half written: it is written beside its place under another name
and then renamed. A killed process leaves the old file or the new one.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, content: str | bytes) -> Path:
    """Replace the file at `path`, or make it; missing folders are made too. Returns `path`."""
    beside = path.with_name(f"{path.name}.{uuid4().hex[:8]}.writing")  # two processes may write the same file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        beside.write_bytes(as_bytes(content) if isinstance(content, str) else content)
        return beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def as_bytes(text: str) -> bytes:
    """Text in UTF-8. Half a surrogate pair, which JSON files may hold, becomes a backslash escape."""
    return text.encode("utf-8", "backslashreplace")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())


def nearest_existing(path: Path) -> Path:
    """The path itself if it exists, else its nearest parent that does."""
    return next(place for place in [path, *path.absolute().parents] if place.exists())


def free_space(path: Path) -> int:
    """Free bytes on the disk that holds `path`, or will hold it."""
    return shutil.disk_usage(nearest_existing(path)).free
