"""`spillover demo`: a newcomer's first command, on a real model and real data.

It is an ordinary experiment (`demo.yaml`, beside this file), written into the output folder and run from there. Its
data come from the package index. Where they cannot be had, it is the experiment of `demo-generated.yaml`.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

from ..data.sources import members_of
from ..errors import Say, SourceUnavailable
from ..experiment import dialect
from ..experiment.schema import Experiment, parse_experiment
from .init import model_from, quoted

REAL, GENERATED = "demo.yaml", "demo-generated.yaml"
ON_GENERATED = "\nsuite: builtin"  # a line of the second that the first does not have


def write_demo(folder: Path, model: str | None, say: Say) -> Path:
    """Put the demo's YAML into `folder` and return its path. One that is there is left alone, but for a new `model`.

    `say` gets a line on each download, and one if the demo does without real data.
    """
    path = folder / "demo.yaml"
    there = path.exists()
    text = path.read_text("utf-8") if there else _text(_available(say))
    if there and ON_GENERATED in text:
        say(f"{path} is the demo on generated text. Without that file, the demo tries real data again.")
    if model:
        line = f"model: {quoted(model_from(folder, model))}"
        text = re.sub(r"^model:.*$", lambda _: line, text, count=1, flags=re.MULTILINE)
    if model or not there:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return path


def experiment(name: str) -> Experiment:
    """One of the two experiments."""
    raw: dict[str, Any] = dialect.shipped(__package__, name)
    return parse_experiment(raw, name)


def _available(say: Say) -> str:
    """The experiment on real data, if they are here or can be downloaded; else the other, and why."""
    from ..data import archives

    for package, members in members_of(experiment(REAL).all_datasets().values()).items():
        try:
            archives.ensure(package, members, say)
        except SourceUnavailable as error:
            say(
                f"No real data: {error}. The demo goes on with generated text, which shows the program and no findings."
            )
            return GENERATED
    return REAL


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
