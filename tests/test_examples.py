"""The examples and the notebook: each is planned and run as it stands, over a backend that computes nothing.

The slow tests do the same with the real model.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commandline import Cli
from fakes import Executed

import spillover as so
from spillover.api import prepare
from spillover.work import execute

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_steps.ipynb"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> Path:
    """A copy of the repository's examples and notebook."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs" / "notebooks")
    return tmp_path


def cells() -> list[str]:
    """The code of the notebook."""
    found = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def run_notebook() -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
    for number, code in enumerate(cells()):
        exec(compile(code, f"{NOTEBOOK.name}, cell {number}", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("name", "variants"),
    [("classification", {"tickets-ft", "tickets-fticl3"}), ("generation", {"polite-ft", "polite-lora"})],
)
def test_an_example_runs(place: Path, name: str, variants: set[str]) -> None:
    yaml = place / "examples" / name / "experiment.yaml"
    plan, store = prepare(yaml, ["test.limit=12"], output_path=place / "out")
    assert not execute.execute(plan, store, backend=Executed().backend())
    assert {variant.name for variant in plan.grid.variants} == {"base"} | variants
    assert min(cell.n for cell in plan.grid.cells) >= 10


def test_the_notebook_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "Torch", Executed().backend)
    assert run_notebook()["gates"]


def test_the_notebook_teaches_between_its_cells() -> None:
    kinds = [cell["cell_type"] for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]]
    assert kinds.count("markdown") >= kinds.count("code") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classification", "generation"])
def test_an_example_runs_with_the_real_model(place: Path, name: str) -> None:
    result = so.run(place / "examples" / name / "experiment.yaml", ["test.limit=12"], output_path=place / "out")
    table = result.to_pandas()
    ours = table[(table.role == "in_domain") & (table.rows == "all") & (table.shots == 0)]
    assert not result.failures and (ours.groupby("variant")["delta"].max() > 0).any()


@pytest.mark.slow
def test_the_notebook_runs_with_the_real_model(place: Path) -> None:
    assert run_notebook()["gates"]


@pytest.mark.slow
def test_an_adapter_that_another_trainer_made_is_judged(
    place: Path, monkeypatch: pytest.MonkeyPatch, call: Cli
) -> None:
    """The lines at the top of `train.py`, then the gate. TRL trains it if it is installed."""
    folder = place / "examples" / "adapter"
    monkeypatch.chdir(folder)
    text = (folder / "train.py").read_text("utf-8")
    lines = [line.split() for line in text.split('"""')[1].splitlines() if line.startswith("    ")]
    assert [line[0] for line in lines] == ["spillover", "spillover", "python"]
    for _, *words in lines[:2]:
        assert call(*words)[0] == 0
    subprocess.run([sys.executable, *lines[2][1:]], check=True, capture_output=True)
    code, said, _ = call("gate", "gate.yaml", "--limit", "16", "--format", "json")
    (found,) = json.loads(said)
    assert code in (0, 10, 11) and code == found["exit_code"] and found["variant"] == "adapter"
    tickets = next(one for one in found["questions"] if one["test_dataset"] == "tickets")
    assert tickets["n"] == 16 and tickets["change"] > -0.5
