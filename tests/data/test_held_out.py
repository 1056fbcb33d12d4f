"""Test rows that are held out of training rows: which, how many, and never with a text in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from prose import tells

from spillover.data.load import load_test, load_train, load_untouched
from spillover.data.sources import Places
from spillover.data.tasks import dataset_task
from spillover.errors import DataError, ExperimentError
from spillover.experiment.schema import parse_experiment
from spillover.experiment.suite import DatasetSpec, HoldOut
from spillover.text.task import Example, Task

WORDS = ["harbour", "castle", "market", "tower", "bridge", "garden", "station", "river", "school", "museum", "square"]


def question(i: int) -> str:
    """A question of its own: no two share more than half of their word triples."""
    return " ".join(WORDS[(i // 11**k + k) % 11] + str(i) for k in range(8))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def rows(n: int, at: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": question(at + i), "completion": f" {at + i}", "who": (at + i) // 4} for i in range(n)]


def spec_of(folder: Path, hold_out: dict[str, Any], **files: Sequence[dict[str, Any]]) -> tuple[DatasetSpec, Task]:
    names = [write(folder / f"{name}.jsonl", found) for name, found in files.items()]
    spec = DatasetSpec.model_validate({"train": names, "hold_out": hold_out})
    return spec, dataset_task("mine", spec, {"mine": spec}, Places(folder))


def split(folder: Path, hold_out: dict[str, Any], **files: Sequence[dict[str, Any]]) -> tuple[list[Example], ...]:
    """Training rows and test rows."""
    spec, task = spec_of(folder, hold_out, **files)
    train, test = load_train("mine", spec, task, None, Places(folder)), load_test("mine", spec, task, Places(folder))
    return list(train.examples), list(test.examples)


def ids(examples: Sequence[Example]) -> list[int]:
    return [example.doc_id for example in examples]


def test_every_row_is_on_one_side(tmp_path: Path) -> None:
    train, test = split(tmp_path, {"rows": 20}, a=rows(100))
    assert len(test) == 20 and sorted(ids(train) + ids(test)) == list(range(100))
    assert ids(test) == sorted(ids(test)) and ids(train) == sorted(ids(train))


def test_the_same_rows_each_time_and_others_with_another_seed(tmp_path: Path) -> None:
    _, first = split(tmp_path, {"rows": 20}, a=rows(100))
    _, again = split(tmp_path, {"rows": 20}, a=rows(100))
    _, other = split(tmp_path, {"rows": 20, "seed": 1}, a=rows(100))
    assert ids(first) == ids(again) != ids(other)
    _, longer = split(tmp_path, {"rows": 20}, a=rows(105))
    assert len(set(ids(longer)) & set(ids(first))) >= 15  # rows that are added change little


def labelled(n: int) -> list[dict[str, Any]]:
    """Three labels in blocks, the second of which is rare."""
    return [{"text": question(i), "label": "abc"[(i > n // 2) + (i > n // 2 + n // 8)]} for i in range(n)]


def labels_spec(folder: Path, hold_out: dict[str, Any], **more: object) -> tuple[DatasetSpec, Task]:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled(96)))
    given = {"train": "a.jsonl", "template": "{text}", "labels": ["a", "b", "c"], "hold_out": hold_out, **more}
    spec = DatasetSpec.model_validate(given)
    return spec, dataset_task("mine", spec, {"mine": spec}, Places(folder))


def test_demonstrations_are_training_rows_that_show_each_label_equally(tmp_path: Path) -> None:
    """Whatever the order of the file; they are neither trained on nor tested."""
    spec, task = labels_spec(tmp_path, {"rows": 20, "demos": 6})
    test = load_test("mine", spec, task, Places(tmp_path))
    train = load_train("mine", spec, task, None, Places(tmp_path))
    demos = test.demos
    assert [{demo.target for demo in demos[at : at + 3]} for at in (0, 3)] == [{"a", "b", "c"}] * 2
    parts = [ids(part) for part in (train.examples, test.examples, demos)]
    assert sorted(chain(*parts)) == list(range(96)) and len(parts[1]) == 20
    assert ids(load_untouched("mine", "demos", spec, task, None, Places(tmp_path))) == parts[2]
    assert any(tells(note, "demonstrations", "6", "not trained on") for note in test.notes)
    alone, _ = labels_spec(tmp_path, {"rows": 20})
    assert ids(load_test("mine", alone, task, Places(tmp_path)).examples) == parts[1]  # demos move no test row


def test_demonstrations_come_from_training_rows_beside_a_test_file(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "A row of its own", "label": "b"}) + "\n")
    spec, task = labels_spec(tmp_path, {"demos": 3}, test="t.jsonl")
    test = load_test("mine", spec, task, Places(tmp_path))
    train = load_train("mine", spec, task, None, Places(tmp_path))
    assert len(test.examples) == 1 and {demo.target for demo in test.demos} == {"a", "b", "c"}
    assert sorted(ids(train.examples) + ids(test.demos)) == list(range(96))
    with pytest.raises(DataError, match="leave none to train on"):
        load_train("mine", spec.model_copy(update={"hold_out": HoldOut(demos=96)}), task, None, Places(tmp_path))


def test_rows_of_one_group_stay_together(tmp_path: Path) -> None:
    train, test = split(tmp_path, {"rows": 22, "by": "who"}, a=rows(100))
    assert len(test) == 20  # five groups of four
    assert {i // 4 for i in ids(train)}.isdisjoint(i // 4 for i in ids(test))


def test_rows_with_a_text_in_common_stay_together(tmp_path: Path) -> None:
    """Three times each: as it is, in capitals, and with another last word."""
    texts = [question(i) for i in range(40)]
    given = [*texts, *(text.upper() + "!" for text in texts), *(f"{text} {i}x" for i, text in enumerate(texts))]
    found = [{"prompt": text, "completion": f" {i % 2}"} for i, text in enumerate(given)]
    train, test = split(tmp_path, {"rows": 30}, a=found)
    assert len(test) == 30 and {i % 40 for i in ids(train)}.isdisjoint(i % 40 for i in ids(test))


def test_long_answers_in_common_stay_together_if_that_leaves_enough(tmp_path: Path) -> None:
    pairs = [{"prompt": question(i), "completion": f" It is number {i // 2} of them"} for i in range(100)]
    train, test = split(tmp_path, {"rows": 20}, a=pairs)
    assert {i // 2 for i in ids(train)}.isdisjoint(i // 2 for i in ids(test))
    one = [{"prompt": question(i), "completion": " Please turn it off and on again"} for i in range(100)]
    assert len(split(tmp_path, {"rows": 20}, a=one)[1]) == 20


def test_several_files_are_split_as_one(tmp_path: Path) -> None:
    train, test = split(tmp_path, {"rows": 30}, a=rows(60), b=rows(40, at=60))
    assert sorted(ids(train) + ids(test)) == list(range(100))
    assert {i < 60 for i in ids(test)} == {True, False}
    train, test = split(tmp_path, {"rows": 3}, a=rows(60), b=rows(1, at=60))  # none of the second file may be held out
    assert sorted(ids(train) + ids(test)) == list(range(61))


def test_sizes_nest_and_the_audit_sees_the_same_rows(tmp_path: Path) -> None:
    spec, task = spec_of(tmp_path, {"rows": 20}, a=rows(100))
    places = Places(tmp_path)
    few, all_of_them = (load_train("mine", spec, task, size, places).examples for size in (30, None))
    assert len(few) == 30 and all_of_them[:30] == few
    assert ids(load_untouched("mine", "test", spec, task, None, places)) == ids(
        load_test("mine", spec, task, places).examples
    )
    assert ids(load_untouched("mine", "train", spec, task, None, places)) == ids(all_of_them)
    assert any(tells(note, "20 rows", "held out") for note in load_test("mine", spec, task, places).notes)


def test_a_file_that_was_changed_is_split_anew(tmp_path: Path) -> None:
    split(tmp_path, {"rows": 20}, a=rows(100))
    train, test = split(tmp_path, {"rows": 20}, a=rows(50))
    assert sorted(ids(train) + ids(test)) == list(range(50))


def test_what_cannot_be_held_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        split(tmp_path, {"rows": 100}, a=rows(100))
    assert caught.value.where == "datasets.mine.hold_out" and tells(caught.value.what, "100 of 100")
    with pytest.raises(DataError) as caught:
        split(tmp_path, {"rows": 20}, a=[{**row, "prompt": question(0)} for row in rows(100)])
    assert tells(caught.value.what, "0 of 20", "100 of 100")
    with pytest.raises(DataError, match="no column 'nobody'"):
        split(tmp_path, {"rows": 20, "by": "nobody"}, a=rows(100))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"test": "t.jsonl"}, ("hold_out", "test")),
        ({"train": {"builtin": "reviews"}}, ("hold_out", "file", "hub")),
        ({"train": []}, ("hold_out", "training rows")),
        ({"hold_out": {"rows": 0}}, ("datasets.mine.hold_out.rows", "0")),
        ({"hold_out": {"rows": 5, "share": 0.1}}, ("datasets.mine.hold_out.share", "rows, demos, seed, by")),
        ({"hold_out": {"demos": 5}, "demos": "d.jsonl"}, ("hold_out.demos", "not both")),
        ({"hold_out": {"seed": 5}}, ("hold_out", "rows", "demos")),
    ],
)
def test_a_yaml_that_means_two_things_is_refused(given: dict[str, Any], words: tuple[str, ...]) -> None:
    mine = {"train": "a.jsonl", "hold_out": {"rows": 5}, **given}
    with pytest.raises(ExperimentError) as caught:
        parse_experiment({"model": "m", "datasets": {"mine": mine}})
    assert tells(str(caught.value), *words)


def test_an_experiment_that_holds_out_is_read_as_it_was_written() -> None:
    experiment = parse_experiment({"model": "m", "datasets": {"mine": {"train": "a.jsonl", "hold_out": {"rows": 5}}}})
    assert parse_experiment(experiment.model_dump(mode="json")) == experiment
    assert parse_experiment(experiment.model_dump(mode="json", exclude_defaults=True)) == experiment
