"""Where an output folder is: on a disk, or at a URL such as `s3://bucket/run`.

A store at a URL has a folder in the user's cache, its local copy. Each machine has one of its own, also where the cache
is in a home folder that several machines share. The program reads and writes there as in any folder,
so a path is enough to name a store: `folder_of` gives the path, `url_of` says whether it is the copy of a URL.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from urllib.parse import urlsplit

from ..disk import cache_dir, disk_errors, write_whole
from ..errors import CALLED, StoreError, shown
from ..fingerprint import fingerprint

URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*?)/*")  # with one slash, too: as a path, a URL loses the other
FILE = re.compile(r"file:(?://)?(/[^/].*)")
NO_PLACE = re.compile(r"\s*|[a-z][a-z0-9+.-]+:/+")
NOTE = "remote/url"


def folder_of(address: str | Path, start: Path = Path()) -> Path:
    """The folder that is meant: this one, from `start`, or the local copy of a URL.

    Raises StoreError for an empty text, such as that of a variable that is not set, and for a URL without a bucket.
    """
    text = str(address)
    if found := FILE.fullmatch(text):
        return Path(found[1])
    if NO_PLACE.fullmatch(text):
        raise StoreError("names no place", where=repr(text), allowed="a folder, or a URL such as s3://BUCKET/FOLDER")
    if not (found := URL.fullmatch(text)):
        return start / text
    url = f"{found[1]}://{found[2]}"
    refuse_credentials(url)  # before anything is written: the copy holds its URL
    folder = _copies() / fingerprint([url, platform.node()])[:16]
    if not (folder / NOTE).exists():
        with disk_errors(folder):
            write_whole(folder / NOTE, url + "\n")
    CALLED[str(folder)] = url
    return folder


def refuse_credentials(url: str) -> None:
    """Raise StoreError for a URL with a user or a password, and for what is no URL."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreError(f"is no URL: {error}", where=shown(url)) from None
    if "@" in parts.netloc and not parts.scheme.startswith("abfs"):
        raise StoreError("holds credentials", where=f"{parts.scheme}://", allowed="give them in the environment")


def is_url(address: str) -> bool:
    return URL.fullmatch(address) is not None or FILE.fullmatch(address) is not None


def url_of(folder: Path) -> str | None:
    """The URL that a folder is the local copy of; None for an ordinary folder."""
    if folder.parent != _copies() or not (folder / NOTE).exists():
        return None
    url = (folder / NOTE).read_text("utf-8").strip()
    CALLED[str(folder)] = url
    return url


def copy_of(path: Path) -> str | None:
    """Where a file of a store at a URL is on this disk, spelled so that it is said as it is; None of other files."""
    for folder in map(Path, CALLED):
        if folder in path.parents:
            return f"{folder.parent}/./{folder.name}/{path.relative_to(folder)}"
    return None


def _copies() -> Path:
    return cache_dir() / "stores"
