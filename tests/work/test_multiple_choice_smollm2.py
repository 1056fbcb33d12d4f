"""The real model on real multiple choice, from the command line: above what random guesses reach."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from commandline import Cli

from spillover.data import archives
from spillover.errors import SourceUnavailable
from spillover.stats.intervals import wilson
from spillover.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

ROWS = 60


def test_smollm2_is_above_chance_on_steps_to_a_goal(smollm2: Path, tmp_path: Path, call: Cli) -> None:
    try:
        archives.ensure("bigbench", ["goal_step_wikihow/step_inference"])
    except SourceUnavailable as error:
        pytest.skip(f"the data cannot be fetched here: {error}")
    asked = f"test: {{datasets: [steps], shots: [0], limit: {ROWS}}}"
    (tmp_path / "x.yaml").write_text(f"model: {smollm2}\nprecision: float32\nsuite: abilities\n{asked}\n")
    code, _, err = call("run", str(tmp_path / "x.yaml"), "-o", str(tmp_path / "out"))
    assert code == 0, err
    with (tmp_path / "out" / "results.csv").open() as file:
        (accuracy,) = [row for row in csv.DictReader(file) if (row["metric"], row["rows"]) == ("accuracy", "all")]
    (test,) = Store(tmp_path / "out").grid().tests
    assert test.chance == 1 / 4
    assert wilson(ROWS * float(accuracy["value"]), ROWS).low > test.chance
