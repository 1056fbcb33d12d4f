"""Which source is taken, how many rows, in which order, and what is said when there are none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spillover.data import hub
from spillover.data.load import load_test, load_train, load_untouched
from spillover.data.sources import Places
from spillover.data.tasks import dataset_task
from spillover.errors import DataError, ExperimentError, SourceUnavailable
from spillover.experiment.suite import DatasetSpec, Source
from spillover.text.task import FIVE

SUMMARY = FIVE["summarisation"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_out_of_reach", None)
    hub._read.cache_clear()
    yield
    hub._read.cache_clear()


def write(path: str, rows: list[dict[str, Any]]) -> str:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    is_list = file.suffix == ".json"
    file.write_text(json.dumps(rows) if is_list else "".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def rows(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"input": f"text {i}", "output": f"sum {i}", **more} for i in range(n)]


def spec(**given: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(given)


def one_line(call: Any, *args: Any) -> str:
    with pytest.raises(DataError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- several right answers ---

ASKED = "{input} ->"


def test_a_column_with_a_list_of_right_answers() -> None:
    answers: list[Any] = [["a", "b", "a"], ["c"], "d"]
    write("t.jsonl", [{"input": f"text {n}", "targets": right} for n, right in enumerate(answers)])
    given = spec(train={"file": "t.jsonl", "references": "targets"}, test="t.jsonl", template=ASKED)
    task = dataset_task("mine", spec(train=given.train, template=ASKED), {}, Places())
    train = load_train("mine", given, task, None, Places())
    assert [example.target for example in train.examples] == ["a", "c", "d"]
    assert [example.references for example in train.examples] == [("a", "b"), (), ()]
    assert [example.right for example in train.examples] == [("a", "b"), ("c",), ("d",)]
    assert [note for note in train.notes if note.startswith("1 row with several right answers, up to 2")]


def test_a_target_beside_the_list_is_the_first_of_the_right_answers() -> None:
    write("t.jsonl", [{"input": "x", "answer": "b", "aliases": ["a", "b", "c"]}])
    given = spec(train={"file": "t.jsonl", "target": "answer", "references": "aliases"}, template=ASKED)
    task = dataset_task("mine", given, {}, Places())
    (example,) = load_train("mine", given, task, None, Places()).examples
    assert (example.target, example.references) == ("b", ("b", "a", "c"))


def test_rows_without_a_right_answer_are_named_or_left_out() -> None:
    write("t.jsonl", [{"input": "x", "targets": ["a"]}, {"input": "y", "targets": []}])
    source = {"file": "t.jsonl", "references": "targets"}
    task = dataset_task("mine", given := spec(train=source, template=ASKED), {}, Places())
    assert "t.jsonl:2" in (said := one_line(load_train, "mine", given, task, None, Places())) and "require" in said
    given = spec(train={**source, "require": ["targets"]}, template=ASKED)
    assert len(load_train("mine", given, task, None, Places()).examples) == 1


@pytest.mark.parametrize("wrong", [["a", None], ["a", {"b": 1}]])
def test_a_right_answer_that_is_no_text_is_named(wrong: list[Any]) -> None:
    write("t.jsonl", [{"input": "x", "targets": ["a"]}, {"input": "y", "targets": wrong}])
    task = dataset_task(
        "mine", given := spec(train={"file": "t.jsonl", "references": "targets"}, template=ASKED), {}, Places()
    )
    assert "'targets.1'" in one_line(load_train, "mine", given, task, None, Places())


def test_labels_have_one_right_answer_and_a_list_is_no_target() -> None:
    write("t.jsonl", [{"input": "x", "targets": ["yes"]}])
    source = {"file": "t.jsonl", "references": "targets"}
    labelled = spec(train=source, template=ASKED, labels=["yes", "no"])
    assert "labels" in one_line(dataset_task, "mine", labelled, {}, Places())
    given = spec(train={"file": "t.jsonl", "target": "targets"}, template=ASKED)
    task = dataset_task("mine", given, {}, Places())
    assert "references: targets" in one_line(load_train, "mine", given, task, None, Places())
    with pytest.raises(ValueError, match="references"):
        Source.model_validate({"file": "t.jsonl", "loss": "all", "references": "targets"})


RELEASE = {"release": "s/x_{size}.json", "sizes": [4, 8]}
PLACES = Places(data_dir=Path("paper"))


# --- files and sizes ---


def test_rows_of_a_file_beside_the_yaml() -> None:
    write("exp/t.jsonl", rows(5))
    given = spec(train="t.jsonl", test="t.jsonl", title="Mine")
    train = load_train("mine", given, SUMMARY, 3, Places(Path("exp")))
    assert [e.doc_id for e in train.examples] == [0, 1, 2] and train.notes == () and train.source == "t.jsonl"
    assert (train.name, train.size, train.task) == ("mine", 3, SUMMARY)
    test = load_test("mine", given, SUMMARY, Places(Path("exp")))
    assert (len(test.examples), test.title, test.demos, test.notes) == (5, "Mine", (), ())


def test_fewer_rows_than_asked_for_are_lacking() -> None:
    write("t.jsonl", rows(5))
    train = load_train("mine", spec(train="t.jsonl"), SUMMARY, 9, Places())
    assert (train.size, len(train.examples), train.lacking) == (9, 5, ("5 rows, 9 were asked for",))


def test_rows_left_out_make_room_and_keep_their_numbers() -> None:
    data = rows(6)
    data[1]["output"] = data[4]["output"] = "-"
    write("t.jsonl", data)
    given = spec(train={"file": "t.jsonl", "drop_labels": ["-"]})
    train = load_train("mine", given, SUMMARY, 3, Places())
    assert [e.doc_id for e in train.examples] == [0, 2, 3]
    assert train.notes == ("1 row with label '-' left out",)
    everything = load_train("mine", given, SUMMARY, None, Places())
    assert [e.doc_id for e in everything.examples] == [0, 2, 3, 5]
    assert everything.notes == ("2 rows with label '-' left out",)


def test_nothing_left_is_an_error() -> None:
    write("t.jsonl", rows(2, output="-"))
    given = spec(train={"file": "t.jsonl", "drop_labels": ["-"]})
    assert (
        one_line(load_train, "mine", given, SUMMARY, None, Places())
        == "t.jsonl: no rows are left: 2 rows with label '-' left out"
    )


def test_own_file_that_is_missing_is_an_error_even_where_other_sources_remain() -> None:
    write("u.jsonl", rows(2))
    given = spec(train=["t.jsonl", "u.jsonl"])
    with pytest.raises(DataError) as caught:
        load_train("mine", given, SUMMARY, None, Places())
    assert not isinstance(caught.value, SourceUnavailable)
    assert str(caught.value) == "t.jsonl: no such file (did you mean 'u.jsonl'?)"


def test_a_part_that_is_not_given() -> None:
    with pytest.raises(ExperimentError, match=r"^datasets\.mine\.train: data set 'mine' has no training rows"):
        load_train("mine", spec(), SUMMARY, None, Places())


# --- several sources ---


def test_a_list_of_sources_is_a_union_and_rows_keep_their_numbers() -> None:
    write("a.jsonl", rows(3))
    write("b.jsonl", rows(2, output="second"))
    test = load_test("mine", spec(test=["a.jsonl", "b.jsonl"]), SUMMARY, Places())
    assert [(e.doc_id, e.target) for e in test.examples] == [
        *((i, f"sum {i}") for i in range(3)),
        (3, "second"),
        (4, "second"),
    ]
    assert test.source == "a.jsonl + b.jsonl"
    (note,) = test.notes
    assert "0 to 2 those of a.jsonl" in note and "3 to 4 those of b.jsonl" in note
    # A file that is added at the end changes no number, and rows that are left out leave a gap.
    write("c.jsonl", rows(1))
    first = {"file": "a.jsonl", "drop_labels": ["sum 1"]}
    more = load_test("mine", spec(test=[first, "b.jsonl", "c.jsonl"]), SUMMARY, Places())
    assert [e.doc_id for e in more.examples] == [0, 2, 3, 4, 5]
    assert "a.jsonl: 1 row with label 'sum 1' left out" in more.notes
    assert [
        e.doc_id for e in load_untouched("mine", "test", spec(test=["a.jsonl", "b.jsonl"]), SUMMARY, None, Places())
    ] == [*range(5)]


def test_a_size_takes_the_first_rows_of_a_union_and_says_what_it_does_not_reach() -> None:
    write("a.jsonl", rows(3))
    write("b.jsonl", rows(2))
    write("c.jsonl", rows(2))
    given = spec(train=["a.jsonl", "b.jsonl", "c.jsonl"])
    train = load_train("mine", given, SUMMARY, 4, Places())
    assert [e.doc_id for e in train.examples] == [0, 1, 2, 3]
    assert len(train.lacking) == 1 and "no row of c.jsonl is among the 4" in train.lacking[0]
    assert len(load_untouched("mine", "train", given, SUMMARY, 4, Places())) == 4
    everything = load_train("mine", given, SUMMARY, None, Places())
    assert everything.lacking == () and everything.examples[:4] == train.examples and len(everything.examples) == 7


def test_a_union_without_one_of_its_sources_is_not_read() -> None:
    write("a.jsonl", rows(3))
    with pytest.raises(SourceUnavailable, match=r"datasets\.x\.test.*--data-dir"):
        load_test("x", spec(test=["a.jsonl", {"release": "s/x.json"}]), SUMMARY, Places())
    test = load_test("x", spec(test=["a.jsonl", {"first_of": [{"release": "s/x.json"}, "a.jsonl"]}]), SUMMARY, Places())
    assert len(test.examples) == 6 and test.source == "a.jsonl + a.jsonl"
    assert test.lacking[0].startswith("not from release:s/x.json")


def test_files_of_different_columns_are_read_each_by_its_own_shape_and_it_is_said() -> None:
    write("a.jsonl", [{"instruction": "Add", "input": "2+2", "output": "4"}])
    write("b.jsonl", [{"messages": [{"role": "user", "content": "3+3"}, {"role": "assistant", "content": "6"}]}])
    given = spec(train=["a.jsonl", "b.jsonl"])
    task = dataset_task("mine", given, {"mine": given}, Places())
    assert set(task.prompts) == {"p1", "chat"}
    train = load_train("mine", given, task, None, Places())
    assert [(e.fields["prompt"], e.target) for e in train.examples] == [("Add\n\n2+2", "4"), ("3+3", "6")]
    assert any("alpaca" in note and "messages" in note for note in train.notes)


@pytest.mark.parametrize("part", ["train", "test"])
def test_files_that_join_prompt_and_answer_in_different_ways_need_a_word(part: str) -> None:
    # Prompt and completion are joined as they are, a question and its answer by a space.
    write("a.jsonl", [{"prompt": "2+2=", "completion": "4"}])
    write("b.jsonl", [{"instruction": "Add 3 and 3", "output": "6"}])
    both = {"train": ["a.jsonl", "b.jsonl"]} if part == "train" else {"train": "a.jsonl", "test": "b.jsonl"}
    line = one_line(dataset_task, "mine", spec(**both), {"mine": spec(**both)}, Places())
    assert line.startswith("b.jsonl:1: ") and "a.jsonl:1" in line and "datasets.mine.answer_delimiter" in line
    told = spec(**both, answer_delimiter=" ")
    assert dataset_task("mine", told, {"mine": told}, Places()).prompts["p1"].answer_delimiter == " "


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"first_of": ["a.jsonl", "b.jsonl"], "target": "x"}, "'target' is no key of 'first_of'"),
        ({"file": "a.jsonl", "sizes": [3]}, "'sizes' is no key of 'file'"),
        ({"file": "a.jsonl", "revision": "main"}, "'revision' is no key of 'file'"),
        ({"release": "a.json", "split": "train"}, "'split' is no key of 'release'"),
        ({"file": "a.jsonl", "hub": "b"}, "exactly one of"),
        ({"file": "a.jsonl", "answer_after": "#", "loss": "all"}, "exclude each other"),
        ({"file": "a.jsonl", "loss": "all", "fields": {"prompt": "x"}}, "without fields"),
    ],
)
def test_keys_that_would_be_passed_over_are_refused(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        spec(train=source)


# --- the release ---


@pytest.mark.parametrize(("size", "n", "file"), [(2, 2, 4), (4, 4, 4), (5, 5, 8), (8, 7, 8), (None, 7, 8)])
def test_the_smallest_release_file_that_suffices(size: int | None, n: int, file: int) -> None:
    write("paper/s/x_4.json", rows(4))
    write("paper/s/x_8.json", rows(7))
    train = load_train("x", spec(train=RELEASE), SUMMARY, size, PLACES)
    assert (len(train.examples), train.source) == (n, f"release:s/x_{file}.json")


def test_a_missing_size_is_not_cut_from_a_smaller_one() -> None:
    write("paper/s/x_4.json", rows(4))
    assert one_line(load_train, "x", spec(train=RELEASE), SUMMARY, 6, PLACES) == (
        "datasets.x.train: no source is available: release:s/x_{size}.json: no file paper/s/x_8.json"
        " (--data-dir is the study's release folder)"
    )
    assert "holds at most 8 rows, 9 were asked for" in one_line(
        load_train, "x", spec(train=RELEASE), SUMMARY, 9, PLACES
    )
    assert len(load_train("x", spec(train=RELEASE), SUMMARY, None, PLACES).examples) == 4
    write("u.jsonl", rows(9))
    train = load_train("x", spec(train={"first_of": [RELEASE, "u.jsonl"]}), SUMMARY, 6, PLACES)
    assert train.source == "u.jsonl"
    assert train.lacking == (
        "not from release:s/x_{size}.json: no file paper/s/x_8.json (--data-dir is the study's release folder)",
    )


def test_no_data_dir() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        load_test("x", spec(test={"release": "s/x.json"}), SUMMARY, Places())
    assert str(caught.value) == (
        "datasets.x.test: no source is available: release:s/x.json: the study's release is not here (give --data-dir)"
    )


def test_demonstrations_of_its_own() -> None:
    write("paper/s/x.json", rows(3))
    write("paper/s/few.json", rows(2))
    given = {"test": {"release": "s/x.json"}}
    test = load_test("x", spec(**given, demos={"release": "s/few.json"}), SUMMARY, PLACES)
    assert [e.target for e in test.demos] == ["sum 0", "sum 1"] and test.notes == test.lacking == ()
    test = load_test("x", spec(**given, demos={"release": "s/none.json"}), SUMMARY, PLACES)
    assert test.demos == ()
    assert test.lacking[0].startswith("no list of demonstrations of its own: no source is available")


# --- tasks ---


def test_own_task_is_read_from_the_first_row() -> None:
    write("t.jsonl", [{"prompt": "q", "completion": "a"}])
    given = spec(train="t.jsonl", labels=["a", "b"])
    task = dataset_task("mine", given, {"mine": given}, Places())
    assert (task.name, task.fields, task.labels) == ("mine", ("prompt",), ("a", "b"))
    write("t.jsonl", [{"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "c"}])
    assert (
        one_line(load_train, "mine", given, task, None, Places())
        == "t.jsonl:2: label 'c' is not one of the task's (allowed: a, b)"
    )


def test_a_test_set_takes_the_task_of_its_training_set() -> None:
    write("t.jsonl", [{"ticket": "x", "label": "a"}])
    write("u.csv.jsonl", [{"ticket": "y", "label": "b"}])
    specs = {
        "mine": spec(train="t.jsonl", template="{ticket} ->", labels=["a", "b"]),
        "new": spec(test="u.csv.jsonl", out_of_domain="mine", max_new_tokens=3),
    }
    mine, new = (dataset_task(name, specs[name], specs, Places()) for name in specs)
    assert new.name == "mine" and new.prompts == mine.prompts and new.labels == mine.labels
    assert (mine.max_new_tokens, new.max_new_tokens) == (60, 3)
    assert load_test("new", specs["new"], new, Places()).examples[0].target == "b"


def test_a_named_task_needs_no_file() -> None:
    given = spec(train="nowhere.jsonl", task="inference")
    assert dataset_task("x", given, {}, Places()) == FIVE["inference"]


def test_a_builtin_set_needs_its_task_named() -> None:
    with pytest.raises(DataError, match=r"^builtin:reviews, row 0: .*input, output.*template.*task"):
        dataset_task("x", spec(train={"builtin": "reviews"}), {}, Places())


def test_a_builtin_set_is_read_as_other_sources_are() -> None:
    row = {"builtin": "reviews", "target_map": {"positive": "good", "negative": "bad"}}
    given = spec(train=row, template="{input} It is", labels=["good", "bad"])
    task = dataset_task("x", given, {}, Places())
    assert (task.name, task.fields, task.labels) == ("x", ("input",), ("good", "bad"))
    named = load_train("x", spec(train={"builtin": "reviews"}), FIVE["sentiment"], 6, Places()).examples
    words = {"positive": "good", "negative": "bad"}
    found = load_train("x", given, task, 6, Places()).examples
    assert [(e.fields, e.target) for e in found] == [(e.fields, words[e.target]) for e in named]


# --- the hub, without one ---


def snli(**given: Any) -> dict[str, Any]:
    return {"hub": "some/set", "split": "test", "revision": "main", **given}


def test_a_hub_out_of_reach_is_a_quick_line_and_quicker_after(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub

    asked = []

    def no_network(self: Any, repo: str, **given: Any) -> None:
        asked.append((repo, given["timeout"]))
        raise OSError("[Errno -2] Name or service not known\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", no_network)
    line = (
        "datasets.x.test: no source is available: hub:some/set@main:"
        " the hub is out of reach: [Errno -2] Name or service not known"
    )
    assert one_line(load_test, "x", spec(test=snli()), SUMMARY, Places()) == line
    assert one_line(load_test, "x", spec(test=snli()), SUMMARY, Places()) == line
    assert asked == [("some/set", 5.0)]  # once, and the second time nobody
    assert capfd.readouterr() == ("", "")
    write("t.jsonl", rows(2))
    test = load_test("x", spec(test={"first_of": [snli(), "t.jsonl"]}), SUMMARY, Places())
    assert test.source == "t.jsonl"
    assert test.lacking == (
        "not from hub:some/set@main: the hub is out of reach: [Errno -2] Name or service not known",
    )


def test_offline_by_wish_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(SourceUnavailable, match=r"^hub:some/set@main: HF_DATASETS_OFFLINE is set$"):
        hub.read_hub(Source(hub="some/set"))


class FakeHub:
    """A hub with one data set; a script where `script` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, data: list[dict[str, Any]], script: bool = False) -> None:
        import datasets
        import huggingface_hub

        self.data, self.script, self.loads = data, script, 0
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", self.info)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def info(self, repo: str, revision: str | None, timeout: float) -> Any:
        return type("Info", (), {"sha": f"sha-of-{revision}"})()

    def load(self, repo: str, config: str | None, *, split: str, revision: str | None) -> Any:
        import datasets

        self.loads += 1
        if self.script and revision != f"sha-of-{hub.CONVERTED}":
            raise RuntimeError("Dataset scripts are no longer supported, but found set.py")
        return datasets.Dataset.from_list(self.data)


def test_hub_rows_come_in_one_seeded_order_that_nests(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sorted by label, as many sets on the hub are: the first rows alone would be of one kind.
    data = [{"text": f"t{i}", "stars": i // 20} for i in range(100)]
    fake = FakeHub(monkeypatch, data)
    given = spec(
        task="sentiment",
        train=snli(
            fields={"input": "text"},
            target="stars",
            target_above={"above": 1.5, "then": "positive", "otherwise": "negative"},
        ),
    )
    small, large = (load_train("x", given, FIVE["sentiment"], size, Places()) for size in (10, 30))
    assert small.examples == large.examples[:10] and fake.loads == 1
    assert {e.target for e in small.examples} == {"positive", "negative"}
    assert all(e.fields["input"] == f"t{e.doc_id}" for e in large.examples)
    assert small.source == "hub:some/set@main, split test, commit sha-of-main"


def test_a_script_is_read_from_the_converted_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub(monkeypatch, rows(3), script=True)
    test = load_test("x", spec(test=snli()), SUMMARY, Places())
    assert len(test.examples) == 3 and test.source.endswith(f"commit sha-of-{hub.CONVERTED}")


def test_what_the_hub_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    FakeHub(monkeypatch, [])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: (_ for _ in ()).throw(ValueError("bad split\nmore")))
    with pytest.raises(SourceUnavailable, match=r"^hub:some/set@main: bad split$"):
        hub.read_hub(Source(hub="some/set"))


# --- builtin ---


def test_a_builtin_set_is_generated() -> None:
    given = spec(
        task="sentiment", train={"builtin": "reviews"}, test={"builtin": "reviews"}, demos={"builtin": "reviews"}
    )
    train = load_train("reviews", given, FIVE["sentiment"], 5, Places())
    test = load_test("reviews", given, FIVE["sentiment"], Places())
    assert len(train.examples) == 5 and train.source == "builtin:reviews" and test.examples and test.demos


def test_reading_needs_neither_torch_nor_datasets_nor_pyarrow() -> None:
    heavy = "{'torch', 'datasets', 'pyarrow', 'huggingface_hub', 'pandas', 'numpy'}"
    code = f"import sys, spillover.data.load; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
