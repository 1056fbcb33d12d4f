"""Opens the store at a path or a URL: the way in for everybody outside this room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .place import folder_of, url_of
from .store import Store

if TYPE_CHECKING:
    from .mirror import Mirror

_MIRRORS: dict[Path, Mirror] = {}
"""The one mirror of this process for each URL, by its local copy."""


def open_store(place: str | Path) -> Store:
    """The store at a path or a URL, with what others have published there until now.

    Raises StoreError for a folder of another version, for a file, and for storage that cannot be used.
    """
    folder = folder_of(place)
    url = url_of(folder)
    if url is None:
        return Store(folder)
    from .mirror import Mirror
    from .mirrored import MirroredStore

    if folder not in _MIRRORS:
        _MIRRORS[folder] = Mirror(url, folder)
    return MirroredStore(_MIRRORS[folder])
