"""Prints the table of the suite abilities in docs/data.md from the results of a run of the base model over it.

spillover run experiments/abilities.yaml --output runs/abilities
python docs/abilities.py runs/abilities
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from spillover.data import archives
from spillover.experiment.suite import DatasetSpec, load_suite

SHOWN = ("accuracy", "rougeL")


def chance(spec: DatasetSpec) -> str:
    """What guessing scores. Free text is not guessed."""
    (source,) = spec.test
    if spec.labels:
        return f"{100 / len(spec.labels):.1f}"
    if not source.options:
        return ""
    if len(source.options) > 1:
        return f"{100 / len(source.options):.1f}"
    found = [1 / len(row["options"]) for row in archives.rows(str(source.archive), str(source.member))]
    return f"{100 * sum(found) / len(found):.1f}"


def table(rows: list[dict[str, str]]) -> Iterator[str]:
    """One row a data set, with a score at each number of shots."""
    yield "| data set | member of the archive | metric | n | chance | 0 shots | with demonstrations |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, spec in load_suite("abilities").datasets.items():
        own = [row for row in rows if row["test_dataset"] == name and row["metric"] in SHOWN]
        if not own:
            continue
        scores = [_score(row) for row in sorted(own, key=lambda row: int(row["shots"]))]
        (source,) = spec.test
        cells = [f"`{name}`", f"`{source.member}`", own[0]["metric"], own[0]["n"], chance(spec), *scores]
        yield f"| {' | '.join(cells)} |"


def _score(row: dict[str, str]) -> str:
    value, low, high = (100 * float(row[key]) for key in ("value", "ci_low", "ci_high"))
    shots = f" ({row['shots']})" if row["shots"] != "0" else ""
    return f"{value:.1f} [{low:.1f}, {high:.1f}]{shots}"


if __name__ == "__main__":
    with (Path(sys.argv[1]) / "results.csv").open(encoding="utf-8", newline="") as handle:
        base = [row for row in csv.DictReader(handle) if (row["variant"], row["rows"]) == ("base", "all")]
    print("\n".join(table(base)))
