"""A run makes what is broken again, says so, and comes to the same results; it computes nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Executed
from plans import contents
from prose import tells
from tinyruns import write_experiment

from spillover.api import prepare
from spillover.store.store import Store
from spillover.work.execute import execute
from spillover.work.progress import Reporter

SETS = ["train.strategies=[ft, lora]", "train.seeds=0", "test.limit=3", "test.shots=[0]"]
TRAINED = "parity-ft"


class Told(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("repairs")
    write_experiment(place)
    plan, store = prepare(place / "twice.yaml", SETS, output_path=place / "whole")
    execute(plan, store, backend=Executed().backend())
    return place


def first(folder: Path, pattern: str) -> Path:
    return next(iter(sorted(folder.glob(pattern))))


def emptied(pattern: str) -> Callable[[Path, str], object]:
    return lambda folder, key: first(folder, pattern.format(key=key)).write_bytes(b"")


def other_configuration(folder: Path, key: str) -> None:
    """As when somebody edits `lora_alpha` in an adapter's configuration."""
    (folder / "variants" / key / "config.json").write_text(json.dumps({"lora_alpha": 64}))


def without_rows(folder: Path, key: str) -> None:
    path = first(folder, "cells/*/predictions.jsonl")
    path.write_text(path.read_text().splitlines()[0] + "\n")


DAMAGES: dict[str, tuple[Callable[[Path, str], object], int, int, str]] = {
    # what is broken, how often it is trained, how many answers are asked for, and a word of what is said
    "rows of a cell": (without_rows, 0, 3, "1 of 3 rows"),
    "all rows of a cell": (emptied("cells/*/predictions.jsonl"), 0, 3, "0 of 3 rows"),
    "a receipt of a cell": (emptied("cells/*/receipt.json"), 0, 3, "is empty"),
    "a receipt of a variant": (emptied("variants/{key}/receipt.json"), 1, 0, "is empty"),
    "a configuration": (other_configuration, 1, 0, "configuration"),
    "what was measured inside": (emptied("inside/{key}.json"), 0, 0, "measures it again"),
    "prompts": (emptied("prompts/*.json"), 0, 0, "written again"),
    "the audit": (emptied("audit.json"), 0, 0, "written again"),
    "the grid": (emptied("grid.json"), 0, 0, "written again"),
    "the source": (emptied("source.json"), 0, 0, "written again"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_broken_is_made_again_and_nothing_else(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    damage, trained, answers, word = DAMAGES[what]
    out = Path(shutil.copytree(made / "whole", tmp_path / "out"))
    plan, store = prepare(made / "twice.yaml", SETS, output_path=out)
    key = next(variant.key for variant in plan.grid.variants if variant.name == TRAINED)
    before = everything(out)
    damage(out, key)
    told, executed = Told(), Executed()
    assert execute(plan, store, told, executed.backend()) == ()
    assert (sum(executed.trained.values()), executed.answers) == (trained, answers)
    assert contents(out) == contents(made / "whole")
    assert everything(out) == before
    assert tells("\n".join([*told.lines, *caplog.messages]), word)
    again = Executed()
    caplog.clear()
    execute(plan, Store(out), told, again.backend())
    assert again == Executed() and caplog.messages == []


def everything(folder: Path) -> dict[str, Any]:
    """All that a run leaves, without times."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*.json*"):
        name = str(path.relative_to(folder))
        if path.name in ("receipt.json", "source.json") or "inside" in path.parts:
            found[name] = sorted(json.loads(path.read_bytes()))
        else:
            found[name] = path.read_bytes()
    return found


def test_the_precision_is_that_of_the_cells_that_count(made: Path, tmp_path: Path) -> None:
    """On a machine that would take another, in a folder that no longer says how it was begun."""
    out = Path(shutil.copytree(made / "whole", tmp_path / "out"))
    (out / "precision.json").unlink()
    plan, store = prepare(made / "twice.yaml", [*SETS[:-1], "test.shots=[0, 1]"], output_path=out)
    elsewhere = Executed().backend()
    elsewhere.precision = lambda asked: "bfloat16"
    execute(plan, store, backend=elsewhere)
    assert {receipt["precision"] for receipt in store.valid(plan.grid).values()} == {"float32"}
