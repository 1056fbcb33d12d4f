"""Prints the table of docs/data.md from what `spillover check FILE --format json` says of a suite.

spillover check suite.yaml --format json | python docs/data_sets.py          # the suite bigbench
spillover check suite.yaml --format json | python docs/data_sets.py abilities
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from spillover.checks.kinds import KINDS
from spillover.experiment.suite import load_suite


def table(checked: dict[str, Any], suite: str) -> Iterator[str]:
    """One row a data set."""
    yield "| data set | member of the archive | train | test | demos | median tokens | test rows with |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    parts: dict[str, dict[str, dict[str, Any]]] = {}
    for one in checked["audit"]:
        parts.setdefault(one["dataset"], {})[one["part"]] = one
    for name, spec in load_suite(suite).datasets.items():
        own = parts[name]
        (member,) = {source.member for source in spec.test}
        counts = [f"{own[part]['rows']:,}" if part in own else "" for part in ("train", "test", "demos")]
        tokens = sum(column["median"] for column in own["test"]["tokens"].values())
        yield f"| `{name}` | `{member}` | {' | '.join(counts)} | {tokens:g} | {found(own['test'])} |"


def found(test: dict[str, Any]) -> str:
    """How many rows have each kind of defect."""
    seen = [
        f"{KINDS[one['kind']].name}{' (training row)' if 'train' in one['against'] else ''}: {one['count']:,}"
        for one in test["defects"]
        if one["count"] and ("train" in one["against"] or not one["against"])
    ]
    return "; ".join(seen)


if __name__ == "__main__":
    print("\n".join(table(json.load(sys.stdin), *(sys.argv[1:] or ["bigbench"]))))
