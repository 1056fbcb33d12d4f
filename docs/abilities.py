"""Prints the tables of the suite abilities in docs/data.md: what the base model scores, and what the audit finds.

spillover run experiments/abilities.yaml --output runs/abilities
python docs/abilities.py runs/abilities
spillover check experiments/abilities.yaml --format json | python docs/data_sets.py abilities
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from spillover.data import archives
from spillover.experiment.suite import DatasetSpec, load_suite

SHOWN = ("accuracy", "accuracy_norm", "rougeL")  # in the order of the table
NAMES = {"accuracy": "accuracy", "accuracy_norm": "accuracy per character", "rougeL": "ROUGE-L"}


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
    """A row for each data set and metric, with a score at each number of shots."""
    yield "| data set | metric | n | chance | 0 shots | with demonstrations |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, spec in load_suite("abilities").datasets.items():
        guessed = chance(spec)
        for metric in SHOWN:
            own = [row for row in rows if row["test_dataset"] == name and row["metric"] == metric]
            if own:
                scores = [_score(row, guessed) for row in sorted(own, key=lambda row: int(row["shots"]))]
                yield f"| {' | '.join([f'`{name}`', NAMES[metric], own[0]['n'], guessed, *scores])} |"


def _score(row: dict[str, str], guessed: str) -> str:
    """The score with its interval; in bold where the interval is above chance."""
    value, low, high = (100 * float(row[key]) for key in ("value", "ci_low", "ci_high"))
    shots = f" ({row['shots']})" if row["shots"] != "0" else ""
    shown = f"{value:.1f} [{low:.1f}, {high:.1f}]"
    return (f"**{shown}**" if guessed and low > float(guessed) else shown) + shots


if __name__ == "__main__":
    with (Path(sys.argv[1]) / "results.csv").open(encoding="utf-8", newline="") as handle:
        base = [row for row in csv.DictReader(handle) if (row["variant"], row["rows"]) == ("base", "all")]
    print("\n".join(table(base)))
