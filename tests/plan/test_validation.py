"""What is asked of validation rows, and what is watched during a training: never a test row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tinyruns import write_experiment

from spillover.analysis.choices import choices
from spillover.api import prepare
from spillover.errors import ExperimentError
from spillover.plan.plan import Plan
from spillover.plan.validation import SUFFIX
from spillover.store.store import Store

SETS = ["train.strategies=[ft]", "train.seeds=0", "test.limit=6", "test.datasets=[parity, echo]", "validation.rows=5"]


def planned(place: Path, *more: str) -> Plan:
    if not (place / "twice.yaml").exists():
        write_experiment(place)
        demos = [{"prompt": f"echo {n} of them {n}", "completion": f" {n}"} for n in range(9)]
        (place / "demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in demos))
    sets = [*SETS, "datasets.echo.demos=demos.jsonl", *more]
    return prepare(place / "twice.yaml", sets, output_path=place / "out")[0]


RATES = "train.learning_rate=[1e-2, 1e-3]"


@pytest.mark.parametrize(
    ("sets", "uses"),
    [
        ([], {(0, "p1"), (2, "p1")}),
        (["deploy.shots=2"], {(2, "p1")}),
    ],
)
def test_validation_rows_are_asked_as_the_task_will_be(
    tmp_path: Path, sets: list[str], uses: set[tuple[int, str]]
) -> None:
    grid = planned(tmp_path, RATES, *sets).grid
    assert {(cell.shots, cell.prompt) for cell in grid.validation} == uses
    assert {cell.test for cell in grid.validation} == {f"parity{SUFFIX}"}


def test_a_random_change_is_asked_no_validation_rows(tmp_path: Path) -> None:
    grid = planned(tmp_path, "train.strategies=[ft, ft + noise]", "deploy=best").grid
    [null] = [variant.key for variant in grid.variants if variant.is_null]
    assert null in {cell.variant for cell in grid.cells}
    assert {cell.variant for cell in grid.validation} == {one.key for one in grid.variants} - {null}


def test_other_sets_are_asked_where_a_share_must_be_kept(tmp_path: Path) -> None:
    plan = planned(tmp_path, RATES, "ship.keep=0.9", "validation.elsewhere=4")
    of_echo = [sheet for sheet in plan.sheets.values() if sheet.test == f"echo{SUFFIX}"]
    [sheet] = of_echo
    shown = {demo.content for one in plan.sheets.values() if one.test == "echo" for demo in one.demos}
    tested = {row.example.content for one in plan.sheets.values() if one.test == "echo" for row in one.questions}
    asked = {row.example.content for row in sheet.questions}
    assert len(asked) == 4 and asked.isdisjoint(shown | tested)
    assert {cell.role for cell in plan.grid.validation if cell.test == sheet.test} == {None, "cross_task"}


def test_what_is_watched_is_neither_trained_on_nor_tested(tmp_path: Path) -> None:
    plan = planned(tmp_path, "train.evaluate_every=2", "validation.elsewhere=3")
    [job] = plan.trainings
    own, other = job.watched
    assert (own.rows.name, len(own.rows.examples), other.rows.name, len(other.rows.examples)) == (
        "parity",
        5,
        "echo",
        3,
    )
    watched = {row.content for one in job.watched for row in one.rows.examples}
    tested = {row.example.content for sheet in plan.sheets.values() for row in sheet.questions}
    assert watched.isdisjoint(tested) and watched.isdisjoint(row.content for row in job.rows.examples)
    assert plan.grid.validation == (), "nothing is chosen among variants"
    [blind] = planned(tmp_path, "train.evaluate_every=0").trainings
    assert blind.watched == () and blind.variant.key != job.variant.key


def test_patience_without_measurements_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="evaluate_every"):
        planned(tmp_path, "train.patience=2")


def test_a_training_set_without_a_test_set_is_asked_in_one_way(tmp_path: Path) -> None:
    plan = planned(tmp_path, RATES, "test.datasets=[echo]", "deploy.shots=2")
    assert {(cell.test, cell.shots) for cell in plan.grid.validation} == {(f"parity{SUFFIX}", 0)}
    assert len({cell.variant for cell in plan.grid.validation}) == 3, "the base, and both alternatives"
    [choice] = choices(Store(tmp_path / "none"), plan.grid)
    assert choice.missing == 3 and len(choice.candidates) == 2
    unasked = replace(plan.grid, validation=())
    with pytest.raises(ExperimentError, match="no validation rows"):
        choices(Store(tmp_path / "none"), unasked)


def test_how_a_checkpoint_is_asked_best_is_chosen_on_its_training_set(tmp_path: Path) -> None:
    sets = ["train.strategies=[]", "deploy=best", "variants=[{name: theirs, path: ./tiny, trained_on: parity}]"]
    grid = planned(tmp_path, *sets).grid
    assert {(cell.test, cell.shots) for cell in grid.validation} == {(f"parity{SUFFIX}", 0), (f"parity{SUFFIX}", 2)}
    assert len({cell.variant for cell in grid.validation}) == 2, "the base and the checkpoint"
    assert "theirs" in {one.where for one in grid.warnings}, "it may know these rows"
    with pytest.raises(ExperimentError, match="training rows of echo") as refused:
        planned(tmp_path, *sets[:2], "variants=[{name: theirs, path: ./tiny, trained_on: echo}]")
    assert refused.value.where == "deploy"
    with pytest.raises(ExperimentError, match="trained_on"):
        planned(tmp_path, *sets[:2], "variants=[{name: theirs, path: ./tiny}]")
