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

SETS = {"dates": "date_understanding", "social": "social_iqa"}


def test_smollm2_is_above_chance_on_dates_and_social_situations(smollm2: Path, tmp_path: Path, call: Cli) -> None:
    try:
        archives.ensure("bigbench", SETS.values())
    except SourceUnavailable as error:
        pytest.skip(f"the data cannot be fetched here: {error}")
    lines = [f"model: {smollm2}", "precision: float32", "datasets:"]
    for name, member in SETS.items():
        how = "fields: {prompt: input}, options: options, target: answer"
        lines.append(f"  {name}: {{test: {{archive: bigbench, member: {member}, {how}}}, shots: [0]}}")
    (tmp_path / "x.yaml").write_text("\n".join([*lines, "test: {limit: 120}"]) + "\n")
    code, _, err = call("run", str(tmp_path / "x.yaml"), "-o", str(tmp_path / "out"))
    assert code == 0, err
    with (tmp_path / "out" / "results.csv").open() as file:
        scores = {row["test_dataset"]: row for row in csv.DictReader(file) if row["metric"] == "accuracy"}
    for test in Store(tmp_path / "out").grid().tests:
        n = int(scores[test.name]["n"])
        assert test.chance is not None and n == 120
        assert wilson(n, n * float(scores[test.name]["value"])).low > test.chance, test.name
