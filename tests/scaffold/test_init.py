"""What `init` writes loads, plans and reads well, whatever shape the user's rows have."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from prose import tells

from spillover.checks.check import check
from spillover.data import archives
from spillover.errors import DataError, ExperimentError, SourceUnavailable
from spillover.experiment.schema import load_experiment
from spillover.experiment.suite import load_suite
from spillover.plan.plan import Plan, make_plan
from spillover.scaffold.columns import describe
from spillover.scaffold.init import Added, write_experiment
from spillover.text.task import Example

pytestmark = pytest.mark.usefixtures("smollm2")

Rows = Sequence[dict[str, Any]]

TICKETS = [{"id": i, "text": f"The thing number {i} broke.", "label": ["bug", "praise"][i % 2]} for i in range(40)]
TOWNS = ["harbour", "castle", "market", "tower", "bridge", "garden", "station"]
SHAPES: dict[str, Rows] = {
    "prompt/completion": [{"prompt": f"Say {i} in words:", "completion": f" word {i}"} for i in range(20)],
    "messages": [
        {"messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"word {i}"}]}
        for i in range(20)
    ],
    "conversations": [
        {"conversations": [{"from": "human", "value": f"Say {i}"}, {"from": "gpt", "value": f"word {i}"}]}
        for i in range(20)
    ],
    "alpaca": [{"instruction": f"Say {i}", "input": "", "output": f"word {i}"} for i in range(20)],
}


def jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def written(
    out: Path, train: Path | None = None, test: Path | None = None, suite: Added = "builtin"
) -> tuple[str, Plan, list[str]]:
    """(the YAML, its plan, what was said). Every YAML is short and narrow enough to read."""
    lines = write_experiment(out, train, test, None, suite)
    text = out.read_text()
    assert len(text.splitlines()) <= 45
    assert max(map(len, text.splitlines())) <= 120
    assert lines[-1] == f"Wrote {out}. Next: spillover check {out}, then spillover run {out}"
    return text, make_plan(load_experiment(out), out.parent), lines


def test_a_column_with_lists_holds_several_right_answers(tmp_path: Path) -> None:
    rows = [{"fact": f"Fact {i}.", "targets": [f"What {i}?", f"Which {i}?"]} for i in range(60)]
    text, plan, _ = written(tmp_path / "facts.yaml", jsonl(tmp_path / "facts-train.jsonl", rows))
    assert "references: targets" in text and "target:" not in text
    (job,) = [job for job in plan.trainings if job.variant.name.endswith("-ft")]
    assert all(
        example.references == (example.target, example.target.replace("What", "Which")) for example in job.rows.examples
    )


def test_named_columns_with_few_short_answers_are_classification(tmp_path: Path) -> None:
    train, test = jsonl(tmp_path / "tickets-train.jsonl", TICKETS), jsonl(tmp_path / "tickets-test.jsonl", TICKETS[:30])
    text, plan, lines = written(tmp_path / "tickets.yaml", train, test)
    assert "    train: tickets-train.jsonl  # 40 rows\n    test: tickets-test.jsonl  # 30 rows\n" in text
    assert "    hold_out: {demos: 4, seed: 0}  # 4 are demonstrations; not trained on\n" in text
    assert "    labels: [bug, praise]  #" in text
    assert lines[0].endswith("40 rows. text: the question; label: the answer; not used: id.")
    assert lines[1] == "The answers are 2 labels (bug, praise): a classification task."
    assert tells(lines[2], "4", "demonstrations", "equally", "not trained on")
    assert "shows the machinery" in lines[3]
    assert "cross-task changes on real tasks need real test sets" in lines[4]
    assert [v.name for v in plan.grid.variants] == ["base", "tickets-ft", "tickets-lora"]
    roles = {(cell.test, cell.role) for cell in plan.grid.cells if cell.role}
    assert roles == {("tickets", "in_domain")} | {
        (n, "cross_task") for n in ("reviews", "deals", "scenes", "quiz", "news")
    }
    sheet = plan.sheets["tickets", "p1", 0, 0]
    assert sheet.questions[0].text == "### Text:\nThe thing number 0 broke.\n### Label: "


@pytest.mark.parametrize("shape", SHAPES)
def test_known_shapes_need_nothing_said(tmp_path: Path, shape: str) -> None:
    train, test = jsonl(tmp_path / "train.jsonl", SHAPES[shape]), jsonl(tmp_path / "test.jsonl", SHAPES[shape][:16])
    text, plan, lines = written(tmp_path / "x.yaml", train, test)
    assert "template" not in text.replace("chat template", "").replace("templated", "")
    assert lines[0].endswith(f"20 rows in the shape {shape}.")
    assert lines[1].startswith("The answers are free text: up to 10 tokens are generated, or up to a line break")
    assert 'stop: ["\\n"]' in text and {plan.sheets[cell.condition].stop for cell in plan.grid.cells} >= {("\n",)}
    assert ("prompt: chat" in text) == (shape in ("messages", "conversations"))
    assert {cell.prompt for cell in plan.grid.cells} == {"chat" if "prompt: chat" in text else "p1"}
    assert not [f for f in check(plan, tmp_path).findings if f.level == "warning" and "training rows of" not in f.what]


def test_a_label_after_a_space_becomes_the_word_and_the_text_stays(tmp_path: Path) -> None:
    rows = [{"prompt": f"Is {i} even?\nAnswer:", "completion": [" yes", " no"][i % 2]} for i in range(80)]
    text, plan, _ = written(tmp_path / "x.yaml", None, jsonl(tmp_path / "even.jsonl", rows))
    assert 'labels: ["yes", "no"]' in text
    sheet = plan.sheets["even", "p1", 2, 0]
    assert sheet.task.labels == ("yes", "no")
    assert sheet.questions[0].text.endswith("Is 65 even?\nAnswer: no\n\nIs 0 even?\nAnswer: ")
    assert sheet.questions[0].example.target == "yes"


def labelled(path: Path, labels: Sequence[object], n: int = 40) -> Path:
    return jsonl(path, [{"text": f"In {path.stem}, {i} broke.", "label": labels[i % len(labels)]} for i in range(n)])


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["1", "0"], ["1.0", "0.0"]),
        ([1, 0], [1.0, 0.0]),
        ([True, False], ["True", "False"]),
        (["positive", "negative"], ["Positive ", "NEGATIVE"]),
        (["é", "ö"], ["e\u0301", "o\u0308"]),
    ],
)
def test_labels_that_are_written_otherwise_in_the_test_file_are_the_same(
    tmp_path: Path, train: list[object], test: list[object]
) -> None:
    files = labelled(tmp_path / "train.jsonl", train), labelled(tmp_path / "test.jsonl", test, 30)
    _, plan, lines = written(tmp_path / "x.yaml", *files)
    assert lines[1].startswith("The answers are 2 labels (")
    assert tells(lines[2], "30 answers", "another spelling")
    (mine,) = [info for info in plan.grid.tests if info.name == "mine"]
    assert mine.labels is not None and len(mine.labels) == 2
    targets = {row.example.target for sheet in plan.sheets.values() if sheet.test == "mine" for row in sheet.questions}
    assert targets == set(mine.labels) == {row.target for row in plan.trainings[0].rows.examples}
    found = check(plan, tmp_path)
    assert any(tells(f.what, "30", "another spelling") for f in found.findings)
    assert not any("no training row has" in f.what for f in found.findings)


def test_files_whose_labels_have_nothing_in_common_are_refused_with_both(tmp_path: Path) -> None:
    files = labelled(tmp_path / "a.jsonl", ["positive", "negative"]), labelled(tmp_path / "b.jsonl", ["1", "0"])
    with pytest.raises(DataError) as caught:
        write_experiment(tmp_path / "x.yaml", *files, None)
    assert tells(str(caught.value), "'positive', 'negative'", "'1', '0'", "a.jsonl", "b.jsonl", "target_map")
    lines = write_experiment(tmp_path / "x.yaml", files[0], labelled(files[1], ["positive", "mixed"]), None)
    assert any(tells(line, "No training row", "'mixed'") for line in lines)


def test_a_space_behind_a_label_is_no_delimiter(tmp_path: Path) -> None:
    text, plan, _ = written(tmp_path / "x.yaml", None, labelled(tmp_path / "t.jsonl", ["bug ", "praise "]))
    assert "answer_delimiter" not in text
    assert plan.sheets["t", "p1", 0, 0].questions[0].text.endswith("### Label: ")
    assert plan.sheets["t", "p1", 0, 0].task.labels == ("bug", "praise")


def test_training_rows_alone_are_split_by_a_rule(tmp_path: Path) -> None:
    rows = [
        {"text": f"Thing {i} broke in the {TOWNS[i % 7]} of {TOWNS[i // 7 % 7]}.", "label": i % 2} for i in range(600)
    ]
    text, plan, lines = written(tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", [*rows, *rows[:30]]))
    assert "train: train.jsonl  # 630 rows" in text
    assert "hold_out: {rows: 63, demos: 4, seed: 0}  # 63 rows are tested, 4 are demonstrations" in text
    assert any(tells(line, "63 of 630", "held out") for line in lines)
    test = {row.example.doc_id for sheet in plan.sheets.values() if sheet.test == "mine" for row in sheet.questions}
    demos = {row.doc_id for sheet in plan.sheets.values() if sheet.test == "mine" for row in sheet.demos}
    trained = {row.doc_id for row in plan.trainings[0].rows.examples}
    assert trained.isdisjoint(test | demos) and len(trained) == 630 - 63 - 4 - 64 and len(test) == 63
    assert [v.name for v in plan.grid.variants] == ["base", "mine-ft-lr2e-05", "mine-ft-lr0.0001", "mine-lora"]
    assert {cell.role for cell in plan.grid.cells} == {None, "in_domain", "cross_task"}
    assert check(plan, tmp_path).clean["leaked"]["mine"]["mine"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.jsonl", "x.yaml"]  # no file is copied


def test_rows_of_a_group_stay_together(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}:", "completion": f" word {i}", "user_id": i // 8} for i in range(400)]
    text, plan, lines = written(tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", rows))
    assert "hold_out: {rows: 48, demos: 4, seed: 0, by: user_id}  # 48 rows are tested" in text
    assert any(tells(line, "48 of 400", "user_id") for line in lines)
    sides = [{row.doc_id // 8 for row in part} for part in (plan.trainings[0].rows.examples, scored(plan, "mine"))]
    assert sides[0].isdisjoint(sides[1])


@pytest.mark.parametrize(
    "answer", ["Вокзал стоит у реки, дом {}", "車站在河邊的第{}號樓", "สถานีอยู่ริมแม่น้ำหลังที่ {}", "Station {} lies by it"]
)
def test_answers_in_any_script_are_not_cut(tmp_path: Path, answer: str) -> None:
    rows = [{"prompt": f"Where is number {i}?", "completion": " " + answer.format(i)} for i in range(40)]
    _, plan, _ = written(tmp_path / "x.yaml", None, jsonl(tmp_path / "t.jsonl", rows))
    assert not any("max_new_tokens" in finding.what for finding in check(plan, tmp_path).findings)


def test_few_rows_are_halved_and_very_few_are_not_held_out(tmp_path: Path) -> None:
    text, plan, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", TICKETS))
    assert "hold_out: {rows: 20, demos: 4," in text and len(plan.trainings[0].rows.examples) == 16
    text, plan, lines = written(tmp_path / "y.yaml", jsonl(tmp_path / "train.jsonl", TICKETS[:19]))
    assert "rows:" not in text and "# test: your-test.jsonl" in text
    assert any(tells(line, "19", "20", "--test") for line in lines)
    assert {cell.role for cell in plan.grid.cells} == {None, "cross_task"}


def test_rows_that_are_all_connected_are_not_held_out(tmp_path: Path) -> None:
    rows = [{"prompt": "Name a word that nobody would think of:", "completion": f" word {i}"} for i in range(100)]
    lines = write_experiment(tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", rows), None, None)
    assert "hold_out: {demos: 4," in (tmp_path / "x.yaml").read_text()
    assert any(tells(line, "100 of 100", "in common", "--test") for line in lines)


def scored(plan: Plan, test: str) -> list[Example]:
    return [row.example for sheet in plan.sheets.values() if sheet.test == test for row in sheet.questions]


def test_test_rows_only_are_for_a_model_that_is_there(tmp_path: Path) -> None:
    text, plan, _ = written(tmp_path / "x.yaml", None, jsonl(tmp_path / "news.jsonl", TICKETS))
    assert "#   - {name: mine, path: path/to/checkpoint, trained_on: my_news}" in text
    assert [variant.name for variant in plan.grid.variants] == ["base"]


def test_without_files_it_is_the_builtin_suite(tmp_path: Path) -> None:
    text, plan, lines = written(tmp_path / "x.yaml")
    assert lines[0] == "No files given: an experiment over the builtin suite."
    assert "shows the machinery, not findings" in text
    assert {cell.role for cell in plan.grid.cells} == {None, "in_domain", "out_of_domain", "cross_task"}


@pytest.mark.parametrize(("labels", "shots"), [(2, 2), (3, 3), (5, 5), (10, 10), (0, 2)])
def test_demonstrations_show_each_label_equally_and_are_no_test_rows(tmp_path: Path, labels: int, shots: int) -> None:
    """Also where the file is sorted by label, and where one label is rare."""
    n, names = 160, sorted(f"c{i % max(labels, 1)}" if i % 4 else "c0" for i in range(160))
    rows = [
        {"text": f"{TOWNS[i % 7]} {i} {TOWNS[i // 7 % 7]}", "answer": names[i] if labels else f"number {i}"}
        for i in range(n)
    ]
    train, test = jsonl(tmp_path / "train.jsonl", rows[::2]), jsonl(tmp_path / "test.jsonl", rows[1::2])
    _, plan, _ = written(tmp_path / "x.yaml", train, test)
    asked = {shots: sheet for (name, _, shots, _), sheet in plan.sheets.items() if name == "mine"}
    assert asked.keys() == {0, shots}
    shown = Counter(demo.target for demo in asked[shots].demos)
    assert [*shown.values()] == ([1] * labels if labels else [1, 1])
    assert len(asked[shots].questions) == len(rows[1::2])  # every test row is scored
    for training in plan.trainings:
        content = {row.content for row in training.rows.examples}
        assert content.isdisjoint(demo.content for demo in asked[shots].demos)
    assert not [f.what for f in check(plan, tmp_path).findings if "equally often" in f.what]


@pytest.mark.parametrize(("rare", "shots", "demos"), [(1, "[0]", 0), (2, "[0, 3]", 3), (3, "[0, 3]", 6)])
def test_a_rare_label_keeps_a_training_row(tmp_path: Path, rare: int, shots: str, demos: int) -> None:
    names = ["rare"] * rare + [f"c{i % 2}" for i in range(80)]
    rows = [{"text": f"{TOWNS[i % 7]} {i} {TOWNS[i // 7 % 7]}", "label": name} for i, name in enumerate(names)]
    train, test = jsonl(tmp_path / "train.jsonl", rows), jsonl(tmp_path / "test.jsonl", rows[:40])
    text, plan, lines = written(tmp_path / "x.yaml", train, test)
    assert f"    shots: {shots}  #" in text and (f"demos: {demos}" in text if demos else "hold_out" not in text)
    assert {row.target for row in plan.trainings[0].rows.examples} == {"rare", "c0", "c1"}
    assert any(tells(line, "No demonstrations", "1", "'rare'") for line in lines) == (not demos)


@pytest.mark.parametrize("tested", [40, 400])
def test_how_rows_are_tested_without_demonstrations_held_out_is_said_as_it_is_written(
    tmp_path: Path, tested: int
) -> None:
    names = ["rare", *(f"c{i % 2}" for i in range(80))]
    rows = [{"text": f"{TOWNS[i % 7]} {i} {TOWNS[i // 7 % 7]}", "label": name} for i, name in enumerate(names)]
    test = [{"text": f"{TOWNS[i % 7]} then {i}", "label": ("c0", "c1", "rare")[i % 3]} for i in range(tested)]
    train, other = jsonl(tmp_path / "train.jsonl", rows), jsonl(tmp_path / "test.jsonl", test)
    text, _, lines = written(tmp_path / "x.yaml", train, other)
    at_zero = "    shots: [0]  #" in text
    assert any("tested at 0 shots" in line for line in lines) is at_zero
    assert any("test rows are shown" in line for line in lines) is not at_zero


def described(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    """What the right options are, as `init` has the file read."""
    _, plan, _ = written(path.with_suffix(".yaml"), jsonl(path, rows))
    return [row.target for row in plan.trainings[0].rows.examples]


@pytest.mark.parametrize("as_text", [True, False])
def test_columns_that_are_numbered_from_0_keep_their_first_option(tmp_path: Path, as_text: bool) -> None:
    words = ["zero", "one", "two", "three"]
    rows = [
        {"ctx": f"{TOWNS[i % 7]} {i}", **{f"ending{n}": f"{w} {i}" for n, w in enumerate(words)}}
        | {"label": str(i % 4) if as_text else i % 4}
        for i in range(120)
    ]
    right = {f"{words[i % 4]} {i}" for i in range(120)}
    found = described(tmp_path / "swag.jsonl", rows)
    assert len(found) > 60 and set(found) <= right


def test_numbers_from_1_mean_places_also_where_options_are_letters(tmp_path: Path) -> None:
    groups = ["O", "A", "B", "AB"]
    rows = [{"question": f"Which, {i}?", "choices": groups, "answer": i % 4 + 1} for i in range(80)]
    _, plan, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "b.jsonl", rows))
    known = {row["question"]: groups[int(row["answer"]) - 1] for row in rows}
    examples = plan.trainings[0].rows.examples
    assert len(examples) > 20
    assert all(any(known.get(text) == row.target for text in row.fields.values()) for row in examples)


def test_numbers_beside_a_text_are_no_options(tmp_path: Path) -> None:
    rows = [{"text": f"{TOWNS[i % 7]} {i}", "a": i / 10, "b": i / 7, "label": i % 2} for i in range(80)]
    text, _, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "features.jsonl", rows))
    assert "labels:" in text and "options:" not in text


def test_a_passage_of_some_rows_keeps_numbers_from_1(tmp_path: Path) -> None:
    words = ["one", "two", "three", "four"]
    rows = [
        {"question": f"{TOWNS[i % 7]} {i}?", "choices": words, "answer": i % 4 + 1, "context": "Rain." if i % 2 else ""}
        for i in range(80)
    ]
    assert set(described(tmp_path / "some.jsonl", rows)) == set(words)


def test_answers_with_blank_lines_are_not_cut_there(tmp_path: Path) -> None:
    rows = [{"prompt": f"Write {i}:", "completion": f" One {i}.\n\nTwo {i}."} for i in range(40)]
    text, plan, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "letters.jsonl", rows))
    assert "    stop: []  #" in text
    assert not any("blank line" in finding.what for finding in check(plan, tmp_path).findings)


def test_several_right_answers_are_no_labels(tmp_path: Path) -> None:
    rows = [{"context": f"C {i}", "question": "Q?", "answers": {"text": ["yes", "no"][: 1 + i % 2]}} for i in range(40)]
    text, _, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "squad.jsonl", rows))
    assert "labels:" not in text


def test_test_rows_alone_show_labels_equally_or_not_at_all(tmp_path: Path) -> None:
    alternating = [{"prompt": f"Is {i} even?", "completion": [" yes", " no"][i % 2]} for i in range(80)]
    in_order = sorted(alternating, key=lambda row: row["completion"])
    for name, rows, shots in (("a", alternating, "[0, 2]"), ("b", in_order, "[0]"), ("c", alternating[:40], "[0]")):
        text, _, _ = written(tmp_path / f"{name}.yaml", None, jsonl(tmp_path / f"{name}.jsonl", rows))
        assert f"    shots: {shots}  #" in text


def test_the_suite_abilities_is_added_and_what_cannot_be_had_of_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise SourceUnavailable("cannot be downloaded", where="bigbench", allowed="check the connection")

    monkeypatch.setattr(archives, "ensure", no_network)
    train = jsonl(tmp_path / "train.jsonl", TICKETS)
    text, plan, lines = written(tmp_path / "x.yaml", train, suite="abilities")
    assert "suite: abilities  #" in text and "datasets: [mine, abilities]  #" in text
    sets = str(len(load_suite("abilities").datasets))
    assert any(tells(line, "abilities", sets) for line in lines) and any(tells(line, "358") for line in lines)
    assert [info.name for info in plan.grid.tests] == ["mine"]
    assert [v.name for v in plan.grid.variants] == ["base", "mine-ft", "mine-lora"]
    (line,) = [f for f in plan.grid.warnings if f.level == "warning"]
    assert tells(str(line), "intents", "sentences", "cannot be downloaded")
    text, plan, _ = written(tmp_path / "y.yaml", train, suite="none")
    assert "abilities" in text and {cell.role for cell in plan.grid.cells} == {None, "in_domain"}
    with pytest.raises(ExperimentError, match="--suite none"):
        write_experiment(tmp_path / "z.yaml", None, None, None, "none")
    write_experiment(tmp_path / "z.yaml", None, None, None)
    assert load_experiment(tmp_path / "z.yaml").suite == ("bigbench", "abilities")


def test_paths_start_from_the_yaml_s_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    train = jsonl(tmp_path / "data" / "my, rows.jsonl", TICKETS)
    text, plan, _ = written(tmp_path / "deep" / "er" / "x.yaml", train)
    assert 'train: "../../data/my, rows.jsonl"' in text
    assert len(plan.jobs) == 3


def test_a_file_with_a_long_name_or_with_control_characters_in_it(tmp_path: Path) -> None:
    """A name of 200 characters is one that other tables have to hold; a control character is in no YAML."""
    long, odd = tmp_path / f"{'n' * 240}.jsonl", tmp_path / "a\x1b[31m.jsonl"
    for path in (long, odd):
        path.write_text("".join(json.dumps(row) + "\n" for row in SHAPES["prompt/completion"]))
    write_experiment(tmp_path / "x.yaml", None, long, None)
    assert make_plan(load_experiment(tmp_path / "x.yaml"), tmp_path).grid.tests
    with pytest.raises(DataError, match=r"\\x1b.*control characters"):
        write_experiment(tmp_path / "y.yaml", None, odd, None)


def test_odd_columns_and_labels_survive_the_yaml(tmp_path: Path) -> None:
    path = tmp_path / "odd: #1.csv"
    with path.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["1st {text}", "what?", "row id", "class.name"])
        rows.writerows(
            [f"It's: {{{i}}} #x", f"why {i}", i, ["no", "1", 'a "b", c', "- d: é"][i % 4]] for i in range(40)
        )
    text, plan, lines = written(tmp_path / "x.yaml", None, path)
    assert 'labels: ["no", "1", "a \\"b\\", c", "- d: é"]' in text
    assert lines[0].endswith("1st {text}, what?: the question; class.name: the answer; not used: row id.")
    sheet = plan.sheets["odd_1", "p1", 0, 0]
    question = "### Column 1st text:\nIt's: {0} #x\n### What:\nwhy 0\n### Class name: "
    assert sheet.questions[0].text == question
    assert {row.example.target for row in sheet.questions} == {"no", "1", 'a "b", c', "- d: é"}


def test_a_large_file_is_begun_with_its_first_rows(tmp_path: Path) -> None:
    rows = [{"prompt": f"Say {i}:", "completion": f" word {i}"} for i in range(2500)]
    text, plan, _ = written(tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", rows))
    assert "  sizes: [2000]  # the first rows of 2,246; leave it out for all" in text
    assert plan.grid.variants[1].factors["train_size"] == 2000


def test_tiny_files_still_plan(tmp_path: Path) -> None:
    rows = SHAPES["alpaca"]
    text, plan, _ = written(
        tmp_path / "x.yaml", jsonl(tmp_path / "train.jsonl", rows[:2]), jsonl(tmp_path / "test.jsonl", rows[5:6])
    )
    assert "strategies: [ft, lora]" in text
    assert "    shots: [0]  #" in text
    assert plan.grid.cells[0].n == 1


def test_a_model_folder_is_named_from_the_yaml_s_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "sub").mkdir()
    write_experiment(tmp_path / "sub" / "x.yaml", None, None, str(tmp_path / "model"))
    assert load_experiment(tmp_path / "sub" / "x.yaml").model == "../model"
    write_experiment(tmp_path / "y.yaml", None, None, "org/name")
    assert load_experiment(tmp_path / "y.yaml").model == "org/name"


def test_what_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "x.yaml"
    out.write_text("mine")
    with pytest.raises(ExperimentError, match="is there already") as caught:
        write_experiment(out, None, None, None)
    assert caught.value.exit_code == 2
    assert out.read_text() == "mine"
    new = tmp_path / "new.yaml"
    with pytest.raises(DataError, match="no such file"):
        write_experiment(new, tmp_path / "nowhere.jsonl", None, None)
    with pytest.raises(DataError, match="do not show what is asked and what is answered"):
        write_experiment(new, jsonl(tmp_path / "one.jsonl", [{"a": 1, "b": 2}]), None, None)
    with pytest.raises(DataError, match=r"answer_after.*loss: all"):
        write_experiment(new, jsonl(tmp_path / "one.jsonl", [{"text": "a"}]), None, None)
    train = jsonl(tmp_path / "train.jsonl", TICKETS)
    with pytest.raises(DataError, match="as training and as test rows"):
        write_experiment(new, train, train, None)
    with pytest.raises(DataError, match=r"test\.jsonl:1"):
        write_experiment(new, train, jsonl(tmp_path / "test.jsonl", [{"other": "a", "label": "bug"}]), None)
    assert not new.exists()


@pytest.mark.parametrize(
    ("row", "asked", "answer"),
    [
        ({"question": "q", "response_chosen": "a", "response_rejected": "b"}, ["question"], "response_chosen"),
        ({"input": "q", "preferred_output": "a", "non_preferred_output": "b"}, ["input"], "preferred_output"),
        ({"query": "q", "bad_response": "b", "response": "a"}, ["query"], "response"),
        ({"question": "q", "distractor1": "b", "correct_answer": "a"}, ["question"], "correct_answer"),
        ({"anchor": "q", "positive": "a", "negative": "b"}, ["anchor"], "positive"),
        ({"problem": "q", "solution": "why", "answer": "a"}, ["problem"], "answer"),
        ({"problem": "q", "solution": "a"}, ["problem"], "solution"),
        ({"sentence1": "q", "sentence2": "r", "answer": "a"}, ["sentence1", "sentence2"], "answer"),
    ],
)
def test_a_wrong_answer_or_an_explanation_is_no_part_of_the_question(
    row: dict[str, str], asked: list[str], answer: str
) -> None:
    rows = [{column: f"{text} of {i}" for column, text in row.items()} for i in range(20)]
    found = describe(Path("rows.jsonl"), rows)
    assert found.template is not None
    assert [column for column in row if f"{{{column}}}" in found.template] == asked
    assert found.source.target in (None, answer)
    assert f"; {answer}: the answer" in found.line


@pytest.mark.parametrize(
    "columns", [("response_0", "response_1"), ("response_a", "response_b"), ("answer1", "answer2")]
)
def test_of_several_answers_none_is_guessed(columns: tuple[str, str]) -> None:
    rows = [{"question": f"q {i}", columns[0]: f"one {i}", columns[1]: f"two {i}"} for i in range(20)]
    with pytest.raises(DataError) as caught:
        describe(Path("rows.jsonl"), rows)
    assert all(column in str(caught.value) for column in columns)
