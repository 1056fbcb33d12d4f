"""Validation rows: which rows are held out of training rows, and that no row is on two sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spillover.data.alike import RowSet
from spillover.data.catalogue import Catalogue
from spillover.data.sources import Places
from spillover.data.validation import MOST, drawn
from spillover.experiment.schema import parse_experiment
from spillover.text.task import FIVE, Example

TASK = FIVE["sentiment"]
WORDS = ["harbour", "castle", "market", "tower", "bridge", "garden", "station", "river", "school", "museum", "square"]


def question(i: int) -> str:
    return " ".join(WORDS[(i // 11**k + k) % 11] + str(i) for k in range(8))


def rows(count: int, part: str = "train", at: int = 0) -> RowSet:
    made = [Example(i, {"input": question(at + i)}, "positive") for i in range(count)]
    return RowSet("mine", part, TASK, made)  # type: ignore[arg-type]


def ids(examples: tuple[Example, ...]) -> list[int]:
    return [example.doc_id for example in examples]


def test_rows_beyond_the_training_size_come_first() -> None:
    found = ids(drawn(rows(60), 20, 16, 0, {}, []))
    assert len(found) == 16 and min(found) >= 20 and found == sorted(found)
    assert found == ids(drawn(rows(60), 20, 16, 0, {}, [])) != ids(drawn(rows(60), 20, 16, 1, {}, []))


def test_of_the_rows_that_are_trained_on_only_a_part() -> None:
    assert len(drawn(rows(60), None, 64, 0, {}, [])) == int(MOST * 60)
    assert len(drawn(rows(60), 52, 16, 0, {}, [])) == 16
    assert sum(number < 52 for number in ids(drawn(rows(60), 52, 16, 0, {}, []))) == 8


def test_rows_of_a_group_and_equal_rows_stay_on_one_side() -> None:
    by_four = {number: str(number // 4) for number in range(60)}
    found = ids(drawn(rows(60), 22, 16, 0, by_four, []))
    assert all(set(range(number // 4 * 4, number // 4 * 4 + 4)) <= set(found) for number in found)
    assert not {20, 21, 22, 23} & set(found), "a group that training rows belong to"
    twenty = rows(20).rows
    same = RowSet(
        "mine", "train", TASK, [*twenty, *(Example(20 + row.doc_id, row.fields, row.target) for row in twenty)]
    )
    found = ids(drawn(same, None, 8, 0, {}, []))
    assert found and {(number + 20) % 40 for number in found} == set(found), "both of two equal rows"


def test_a_test_row_is_never_a_validation_row() -> None:
    tested = rows(30, "test", at=20)  # the training rows 20 to 49 are test rows too
    found = ids(drawn(rows(60), 20, 30, 0, {}, [tested]))
    assert found and not set(range(20, 50)) & set(found)


def catalogue(folder: Path, **more: Any) -> Catalogue:
    lines = [{"prompt": question(i), "completion": [" yes", " no"][i % 2], "who": str(i // 3)} for i in range(80)]
    for name, some in (("train", lines[:60]), ("test", [*lines[60:], *lines[50:60]])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    data = {"mine": {"train": "train.jsonl", "test": "test.jsonl", "labels": [" yes", " no"], "group": "who"}}
    raw = {"model": "m", "datasets": data, "train": {"sizes": [24], "learning_rate": [1, 2]}, **more}
    return Catalogue(parse_experiment(raw), Places(folder))


def test_no_row_is_trained_on_and_validated_on(tmp_path: Path) -> None:
    made = catalogue(tmp_path, validation={"rows": 20})
    held, train = made.validation("mine"), made.train("mine", 24)
    assert held and train is not None and len(train.examples) == 24
    test = made.test("mine")
    assert test is not None
    sides = [{row.content for row in side} for side in (held, train.examples, test.examples)]
    assert sides[0].isdisjoint(sides[1]) and sides[0].isdisjoint(sides[2])
    groups = [{row.doc_id // 3 for row in side} for side in (held, train.examples)]
    assert groups[0].isdisjoint(groups[1])


def test_no_row_that_goes_with_a_validation_row_is_trained_on(tmp_path: Path) -> None:
    made = catalogue(tmp_path, validation={"rows": 3})
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    late = [{**line, "prompt": f"{line['prompt']} once more {n}"} for n, line in enumerate(lines)]  # of the same groups
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *late]))
    every = made.train("mine", None)
    held = {row.doc_id % 60 // 3 for row in made.validation("mine")}
    assert every is not None and held and held.isdisjoint(row.doc_id % 60 // 3 for row in every.examples)


def test_rows_are_held_out_only_when_something_is_to_be_chosen(tmp_path: Path) -> None:
    assert catalogue(tmp_path, choose="none").validation("mine") == ()
    assert catalogue(tmp_path, train={"learning_rate": 1}).validation("mine") == ()
    assert catalogue(tmp_path, train={"learning_rate": 1}, deploy="best").validation("mine")
