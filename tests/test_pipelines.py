"""The jobs of docs/gate.md: their shell lines run as they stand, on an adapter of a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import adapters
import pytest
import tinymodels
import tinyruns

from spillover.experiment import dialect
from spillover.experiment.schema import parse_experiment

DOCS = Path(__file__).parents[1] / "docs" / "gate.md"
EXPERIMENT = """
model: ./tiny
datasets:
  parity: {test: test.jsonl, labels: [" four", " five"]}
variants: {name: adapter, path: adapter}
test: {shots: [0], prompts: [p1], limit: 40}
gate: {keep: KEEP}
"""


def blocks() -> dict[str, Any]:
    """The YAML of the page by the file name in its first line."""
    found = re.findall(r"```yaml\n# (\S+)\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    return {name: dialect.read(text, name) for name, text in found}


def github() -> str:
    """What a runner of GitHub does with the steps that have commands."""
    steps = blocks()[".github/workflows/gate.yaml"]["jobs"]["gate"]["steps"]
    return "\n".join(step["run"] for step in steps if "run" in step and "pip install" not in step["run"])


def gitlab() -> str:
    """The lines of a job of GitLab, which one shell runs."""
    return "\n".join(line for line in blocks()[".gitlab-ci.yml"]["gate"]["script"] if "pip install" not in line)


def test_the_experiment_of_the_page_is_one() -> None:
    made = parse_experiment(blocks()["gate.yaml"])
    tests = [*made.test.datasets, *(name for name in made.all_datasets() if name not in ("reviews", "scenes"))]
    assert made.gate.tiers(tests)["tickets"] == "critical"
    assert made.gate.tiers(tests)["quiz"] == "advisory"


def test_gitlab_takes_insufficient_evidence_for_a_warning() -> None:
    assert blocks()[".gitlab-ci.yml"]["gate"]["allow_failure"] == {"exit_codes": [11]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter of it that PEFT has saved, and test rows."""
    place = tmp_path_factory.mktemp("pipeline")
    tinyruns.write_experiment(place)
    wrapped = adapters.wrap(tinymodels.build(gain=4.0), adapters.lora(**adapters.LORAS["plain"]))
    adapters.save(wrapped, place / "adapter")
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("job", "keep", "expected"), [(github, 0.98, 11), (gitlab, 0.98, 11), (gitlab, 0.05, 0)])
def test_a_job_ends_as_the_gate_does(place: Path, job: Callable[[], str], keep: float, expected: int) -> None:
    (place / "gate.yaml").write_text(EXPERIMENT.replace("KEEP", str(keep)))
    summary = place / "summary.md"
    summary.write_text("")
    environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(DOCS.parents[1])}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", job()], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stdout + done.stderr
    suite = ElementTree.parse(place / "gate.xml").getroot()[0]
    assert (suite.get("name"), suite.get("failures")) == ("adapter", str(int(expected != 0)))
    if job is github:
        assert summary.read_text().startswith("### spillover gate: insufficient evidence")
        assert "::warning::" in done.stdout
    else:
        assert (place / "runs" / "gate" / "report.html").exists()
