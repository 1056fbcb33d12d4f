"""The study's suite: roles as in its Table 1, and its release read with the counts that the audit found."""

from __future__ import annotations

from itertools import pairwise

import pytest
from paths import PAPER_DATA

from spillover.data.load import load_test, load_train
from spillover.data.sources import Places
from spillover.data.tasks import dataset_task
from spillover.errors import SourceUnavailable
from spillover.experiment.suite import DatasetSpec, load_suite, role_of
from spillover.text.task import FIVE, Task

PAPER = PAPER_DATA
PLACES = Places(data_dir=PAPER)
SUITE = load_suite("paper").datasets

TEST_ROWS = {
    **dict.fromkeys(("xsum", "xlsum", "pdfs", "socialqa", "tweetqa", "sciqa"), 500),
    **dict.fromkeys(("amazon", "amazonfood", "sst2", "yelp", "paws", "qqp", "stsb", "rte", "gptnli"), 500),
    "cnn": 382,  # as released
    "multinli": 492,  # without the label "-"
    "multinli2": 484,
}
TRAINING = ("xsum", "socialqa", "amazon", "paws", "multinli")

needs_release = pytest.mark.skipif(not PAPER.is_dir(), reason="the study's release is not here")


def read(name: str) -> tuple[DatasetSpec, Task]:
    return SUITE[name], dataset_task(name, SUITE[name], SUITE, Places())


def test_the_sets_of_table_1_and_snli() -> None:
    assert set(SUITE) == {*TEST_ROWS, "snli"}
    assert tuple(name for name, spec in SUITE.items() if spec.train) == TRAINING
    assert {spec.task for spec in SUITE.values()} == set(FIVE)
    assert SUITE["snli"].shots == (0,)


def test_roles_are_those_of_table_1() -> None:
    in_domain = {
        (train, test)
        for train in TRAINING
        for test in TEST_ROWS
        if role_of(test, SUITE[test], SUITE[test].task or "", train, SUITE[train].task or "") == "in_domain"
    }
    assert in_domain == {(name, name) for name in TRAINING} | {
        ("xsum", "xlsum"),
        ("amazon", "amazonfood"),
        ("multinli", "multinli2"),
    }
    assert role_of("snli", SUITE["snli"], "inference", "multinli", "inference") == "out_of_domain"
    assert role_of("rte", SUITE["rte"], "inference", "paws", "paraphrase") == "cross_task"


def test_every_hub_source_says_where_and_under_which_licence() -> None:
    sources = [s for spec in SUITE.values() for source in (*spec.train, *spec.test) for s in source.leaves() if s.hub]
    assert len(sources) == 25
    for source in sources:
        assert source.revision in ("main", "refs/convert/parquet") and source.license and source.split
        assert source.fields and source.target
    assert not [
        name
        for name, spec in SUITE.items()
        if name != "pdfs" and not any(s.hub for source in spec.test for s in source.leaves())
    ]


@needs_release
@pytest.mark.parametrize("name", TEST_ROWS)
def test_rows_of_the_release(name: str) -> None:
    spec, task = read(name)
    test = load_test(name, spec, task, PLACES)
    assert len(test.examples) == TEST_ROWS[name]
    assert len(test.demos) == (4 if task.name == "summarisation" or name == "tweetqa" else 8)
    assert test.title == spec.title and test.source.startswith("release:")
    if task.labels:
        assert {example.target for example in test.examples} <= set(task.labels)


@needs_release
@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("multinli", ("8 rows with label '-' left out",)),
        ("multinli2", ("16 rows with label '-' left out",)),
        (
            "yelp",
            (
                r"242 rows with a literal \n: made a line break",
                r"demonstrations: 3 rows with a literal \n: made a line break",
            ),
        ),
        ("rte", ()),
    ],
)
def test_what_is_changed_is_said(name: str, notes: tuple[str, ...]) -> None:
    spec, task = read(name)
    assert load_test(name, spec, task, PLACES).notes == notes


@needs_release
def test_a_row_keeps_its_number_when_others_are_left_out() -> None:
    spec, task = read("multinli")
    numbers = [example.doc_id for example in load_test("multinli", spec, task, PLACES).examples]
    assert numbers == sorted(numbers) and numbers[-1] == 499


@needs_release
@pytest.mark.parametrize("name", TRAINING)
def test_training_sizes_nest(name: str) -> None:
    spec, task = read(name)
    sizes = (16, 2000) if name == "xsum" else (16, 2000, 4000, 6000)
    sets = [load_train(name, spec, task, size, PLACES) for size in sizes]
    for smaller, larger in pairwise(sets):
        if (name, smaller.size) == ("paws", 2000):  # the same rows as the next size's first 2,000, in another order
            head = larger.examples[:2000]
            assert {e.content for e in smaller.examples} == {e.content for e in head}
        else:
            assert smaller.examples == larger.examples[: len(smaller.examples)]
    short = {"paws": 5986, "amazon": 5999}
    assert len(sets[-1].examples) == short.get(name, sizes[-1])
    assert sets[-1].lacking == ((f"{short[name]} rows, 6000 were asked for",) if name in short else ())


@needs_release
def test_xsum_beyond_2000_is_not_in_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    spec, task = read("xsum")
    with pytest.raises(SourceUnavailable) as caught:
        load_train("xsum", spec, task, 4000, PLACES)
    line = str(caught.value)
    assert "\n" not in line and "xsum_train_4000.json" in line
    assert line.endswith("hub:EdinburghNLP/xsum@refs/convert/parquet: HF_DATASETS_OFFLINE is set")


def test_snli_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    spec, task = read("snli")
    with pytest.raises(SourceUnavailable) as caught:
        load_test("snli", spec, task, PLACES)
    assert str(caught.value) == (
        "datasets.snli.test: no source is available: hub:stanfordnlp/snli@main: HF_DATASETS_OFFLINE is set"
    )
