"""Options in each row: where they stand, and which of them is the right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spillover.data.catalogue import Catalogue
from spillover.data.rows import TestSet
from spillover.data.sources import Places
from spillover.errors import DataError, ExperimentError
from spillover.experiment.schema import load_experiment
from spillover.text.prompt import render

ARC = {"text": ["ice", "steam"], "label": ["1", "2"]}


def read(place: Path, source: str, rows: list[dict[str, Any]], more: str = "") -> TestSet:
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = f"{{file: rows.jsonl, {source}}}" if source else "rows.jsonl"
    (place / "x.yaml").write_text(f"model: m\ndatasets:\n  mine: {{test: {where}{more}}}\n")
    return Catalogue(load_experiment(place / "x.yaml"), Places(place)).test("mine")


@pytest.mark.parametrize(
    ("options", "answer", "right"),
    [
        (["ice", "steam"], "steam", "steam"),
        (["ice", "steam"], " Steam ", "steam"),
        (["ice", "steam"], "B", "steam"),
        (["ice", "steam"], 1, "steam"),
        (["ice", "steam"], "1", "steam"),
        (ARC, "2", "steam"),
        ([{"text": "ice", "label": "x"}, {"text": "steam", "label": "y"}], "y", "steam"),
        (["0", "1", "2"], 2, "2"),
        (["2", "1", "0"], 2, "0"),  # a number counts as the place
        (["2", "1", "0"], "2", "2"),  # a text counts as the text
        (["7", "8", "9"], 9, "9"),  # no option has this place
        (["B", "A"], "A", "A"),  # the text before the letter
        (["ice", "steam"], "(b)", "steam"),
        (["ice", "steam"], "B.", "steam"),
        (["ice", "steam"], 1.0, "steam"),
        (ARC, 2, "steam"),  # a name, not a place
        ({"A": "ice", "B": "steam", "C": None}, "B", "steam"),
        ({"A": "ice", "B": "steam"}, "steam", "steam"),
    ],
)
def test_the_answer_is_a_text_a_name_a_letter_or_a_number(
    tmp_path: Path, options: Any, answer: Any, right: str
) -> None:
    row = {"q": "What is hot?", "of": options, "is": answer}
    test = read(tmp_path, "fields: {prompt: q}, options: of, target: is", [row])
    assert test.task.kind == "multiple_choice" and test.examples[0].target == right


@pytest.mark.parametrize(("answer", "right"), [("1", "O"), ("2", "A"), ("3", "B"), ("4", "AB")])
def test_a_mapped_letter_is_a_place_also_where_an_option_reads_so(tmp_path: Path, answer: str, right: str) -> None:
    """Blood groups: the second option is the text A, and the letter A is the first place."""
    row = {"q": "Which group?", "of": ["O", "A", "B", "AB"], "is": answer}
    mapped = 'fields: {prompt: q}, options: of, target: is, target_map: {"1": A, "2": B, "3": C, "4": D}'
    assert read(tmp_path, mapped, [row]).examples[0].target == right


def test_options_may_stand_in_a_column_each_and_answers_may_be_mapped(tmp_path: Path) -> None:
    row = {"context": "Rain.", "answerA": "wet", "answerB": "dry", "label": "1"}
    how = 'fields: {prompt: context}, options: [answerA, answerB], target: label, target_map: {"1": A, "2": B}'
    (example,) = read(tmp_path, how, [row]).examples
    assert (example.options, example.target) == (("wet", "dry"), "wet")


def test_an_option_that_stands_twice_counts_once_and_ambiguous_answers_are_counted(tmp_path: Path) -> None:
    rows = [{"q": "a", "of": ["x", "y", "x "], "is": 2}, {"q": "b", "of": ["1", "0"], "is": "1"}]
    test = read(tmp_path, "fields: {prompt: q}, options: of, target: is", rows)
    assert [row.options for row in test.examples] == [("x", "y"), ("1", "0")]
    assert [row.target for row in test.examples] == ["x", "1"]
    assert any("1 row" in note and "twice" in note for note in test.notes)
    assert any("1 row" in note and "another way" in note for note in test.notes)


def test_the_field_options_lists_them_and_a_template_alone_finds_columns_of_the_usual_names(tmp_path: Path) -> None:
    more = ', template: "{question}\\n{options}\\nAnswer:"'
    test = read(tmp_path, "", [{"question": "What is hot?", "choices": ARC, "answerKey": "2"}], more)
    (example,) = test.examples
    text = render(test.task.prompts["p1"], (), example)
    assert text == "What is hot?\nA. ice\nB. steam\nAnswer: "
    assert (example.target, example.options) == ("steam", ("ice", "steam"))


def test_rows_are_equal_questions_only_with_the_same_options(tmp_path: Path) -> None:
    rows = [{"q": "Which?", "of": of, "is": 0} for of in (["a", "b"], ["B", "a"], ["a", "c"])]
    first, same, other = read(tmp_path, "fields: {prompt: q}, options: of, target: is", rows).examples
    assert first.content == same.content != other.content


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"q": "x", "of": ["a", "b"], "is": "c"}, ("rows.jsonl:2", "'c'", "'a', 'b'")),
        ({"q": "x", "of": ["a", "b"], "is": 2}, ("rows.jsonl:2", "'2'")),
        ({"q": "x", "of": ["a", "b"], "is": None}, ("rows.jsonl:2", "'is'")),
        ({"q": "x", "of": [], "is": 0}, ("rows.jsonl:2", "list of options")),
        ({"q": "x", "of": "a", "is": 0}, ("rows.jsonl:2", "list of options")),
        ({"q": "x", "of": {"text": ["a"], "label": ["A", "B"]}, "is": "A"}, ("rows.jsonl:2", "list of options")),
    ],
)
def test_a_row_without_its_right_option_is_named(tmp_path: Path, row: dict[str, Any], says: tuple[str, ...]) -> None:
    good = {"q": "x", "of": ["a", "b"], "is": "a"}
    with pytest.raises(DataError) as error:
        read(tmp_path, "fields: {prompt: q}, options: of, target: is", [good, row])
    assert all(part in str(error.value) for part in says)


def test_options_and_labels_exclude_each_other(tmp_path: Path) -> None:
    row = {"q": "x", "of": ["a", "b"], "is": "a"}
    with pytest.raises(ExperimentError, match="labels are the options of every row"):
        read(tmp_path, "fields: {prompt: q}, options: of, target: is", [row], ", labels: [a, b]")
