"""The stop strings of a data set: which tasks have them, and what they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plans import plan_of

from spillover.errors import ExperimentError
from spillover.plan.plan import Plan
from spillover.text.stops import STOPS

pytestmark = pytest.mark.usefixtures("smollm2")
ROWS = "".join(f'{{"prompt": "Say {i}:", "completion": " word {i}"}}\n' for i in range(20))


def plan(folder: Path, **mine: Any) -> Plan:
    (folder / "rows.jsonl").write_text(ROWS)
    datasets = {
        "mine": {"test": str(folder / "rows.jsonl"), "train": str(folder / "rows.jsonl"), **mine},
        "other": {"test": str(folder / "rows.jsonl"), "in_domain": "mine"},
    }
    train: dict[str, Any] = {"datasets": ["mine"]}
    return plan_of(suite=None, datasets=datasets, train=train, test={"datasets": ["mine", "other"], "shots": [0]})


def test_a_stop_is_part_of_a_cells_key_and_of_no_training(tmp_path: Path) -> None:
    default, same, lines = plan(tmp_path), plan(tmp_path, stop="\n\n"), plan(tmp_path, stop=["\n"])
    assert [cell.key for cell in default.grid.cells] == [cell.key for cell in same.grid.cells]
    assert not {cell.key for cell in default.grid.cells} & {cell.key for cell in lines.grid.cells}
    assert [v.key for v in default.grid.variants] == [v.key for v in lines.grid.variants]
    assert {sheet.stop for sheet in default.sheets.values()} == {STOPS}
    assert {sheet.stop for sheet in lines.sheets.values()} == {("\n",)}  # of `other` too, which has the task of `mine`
    assert {test.stop for test in lines.grid.tests} == {("\n",)}


def test_what_is_scored_has_no_stop(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"mine\.stop"):
        plan(tmp_path, stop="\n", labels=["word 1", "word 2"])
    with pytest.raises(ExperimentError, match="stop"):
        plan(tmp_path, stop=[""])
