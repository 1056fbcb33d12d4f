"""`spillover demo`: a newcomer's first command, on a real model.

It is an ordinary experiment (`demo.yaml`, beside this file), written into the output folder and run from there.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from .init import model_from, quoted


def write_demo(folder: Path, model: str | None) -> Path:
    """Put the demo's YAML into `folder` and return its path. One that is there is left alone, but for a new `model`."""
    path = folder / "demo.yaml"
    there = path.exists()
    text = path.read_text("utf-8") if there else resources.files(__package__).joinpath("demo.yaml").read_text("utf-8")
    if model:
        line = f"model: {quoted(model_from(folder, model))}"
        text = re.sub(r"^model:.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    if model or not there:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return path
