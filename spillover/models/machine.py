"""What models need from this computer: a cache folder, space on the disk, the versions of installed packages.

The cache folder belongs to the user, and `SPILLOVER_CACHE` names another one. Everything in it can be made again.
Libraries explain a failure in many lines; `one_line` makes one of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from types import MappingProxyType

from ..errors import ModelError
from .names import PYPI_SPEC

FREE_BYTES_NEEDED = 1_000_000_000  # wheel, GGUF and float32 weights side by side: 0.73 GB, with a margin


@cache
def versions() -> Mapping[str, str]:
    """The installed versions of the packages that scores depend on, without importing them. Looked up once."""
    found = {}
    for package in ("spillover", "torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return MappingProxyType(found)


def refuse_without_vllm() -> None:
    """Raise ModelError unless vLLM is installed here and has a device to compute on."""
    where = "engine: vllm"
    if find_spec("vllm") is None:
        raise ModelError(
            "vLLM is not installed", where=where, allowed="pip install 'spillover[vllm]', or engine: shared"
        )
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm.platforms import current_platform

    if not current_platform.device_type:
        raise ModelError("vLLM finds no GPU here", where=where, allowed="a machine with a GPU, or engine: shared")


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def raise_if_disk_is_full(error: BaseException, where: str) -> None:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        advice = f"{FREE_BYTES_NEEDED / 1e9:.0f} GB free for {PYPI_SPEC}; SPILLOVER_CACHE names another folder"
        raise ModelError("no disk space for the model", where=where, allowed=advice) from None
