"""The command `gate`: what it prints in each format, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import fakestore
import pytest
from commandline import Cli
from fakes import Executed
from plans import experiment
from prose import tells

import spillover as so
from spillover.experiment import dialect
from spillover.report.gate import exit_code
from spillover.store.store import Store

GATE = {"keep": 0.9, "supporting": ["scenes"], "advisory": ["quiz"]}


@pytest.fixture(scope="module")
def ran(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that has run: all its answers to `reviews` and `scenes` are right."""
    path = tmp_path_factory.mktemp("gate") / "experiment.yaml"
    path.write_text(dialect.write(experiment(test__shots=[0], test__limit=40, gate=GATE)))
    folder = so.run(path, output_path=path.with_name("out"), backend=Executed().backend()).folder
    store = Store(folder)
    for cell in store.grid().cells:
        fakestore.change_rows(folder, cell.key, _right)
    return path


def _right(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["response"] = row["target"]


def _wrong(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["response"] = "none"


def _all_but_one(rows: list[dict[str, Any]]) -> None:
    _right(rows)
    rows[0]["response"] = "none"


@pytest.fixture
def gate(ran: Path, call: Cli) -> Callable[..., tuple[int, str, str]]:
    """The gate, after the variant `reviews-ft` answered a test set otherwise."""

    def run(*options: str, **answers: Callable[[list[dict[str, Any]]], None]) -> tuple[int, str, str]:
        store = Store(ran.with_name("out"))
        grid = store.grid()
        names = {variant.key: variant.name for variant in grid.variants}
        for cell in grid.cells:
            if names[cell.variant] == "reviews-ft":
                fakestore.change_rows(store.folder, cell.key, answers.get(cell.test, _right))
        return call("gate", str(ran), "-o", str(store.folder), *options)

    return run


def test_what_keeps_everything_holds(gate: Any) -> None:
    code, said, _ = gate()
    assert code == 0 and said.count("HELD") == 2


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"reviews": _wrong}, 10),
        ({"scenes": _wrong}, 10),
        ({"quiz": _wrong}, 0),
        ({"reviews": _all_but_one}, 11),
        ({"scenes": _all_but_one}, 0),
    ],
)
def test_the_tier_of_a_loss_decides_how_it_ends(gate: Any, answers: dict[str, Any], expected: int) -> None:
    code, said, _ = gate("--format", "json", **answers)
    found = {one["variant"]: one for one in json.loads(said)}
    assert code == found["reviews-ft"]["exit_code"] == expected
    assert found["reviews-fticl2"]["exit_code"] == 0


def test_a_variant_is_judged_alone_and_the_share_can_be_given(gate: Any) -> None:
    assert gate("--variant", "reviews-fticl2", reviews=_wrong)[0] == 0
    assert gate("--keep", "0.99", "--variant", "reviews-fticl2")[0] == 11  # 40 rows do not show that


def test_a_pull_request_reads_why(gate: Any) -> None:
    _, said, progress = gate("--format", "md", reviews=_wrong)
    assert said.startswith("### spillover gate: broken\n")
    assert tells(said.splitlines()[2], "reviews-ft", "reviews", "0 shots", "90 %", "0.0 % [0.0")
    assert "| reviews | 0 | p1 | critical | 40 | 100.0 |" in said
    assert "variants x" in progress and "variants x" not in said


def test_junit_fails_what_fails_the_gate(gate: Any) -> None:
    _, said, _ = gate("--format", "junit", reviews=_wrong, scenes=_all_but_one, quiz=_wrong)
    suites = {suite.get("name"): suite for suite in ElementTree.fromstring(said)}
    ours = suites["reviews-ft"]
    assert (ours.get("tests"), ours.get("failures"), ours.get("skipped")) == ("3", "1", "2")
    (failed,) = ours.findall("testcase/failure/..")
    assert failed.get("name", "").startswith("reviews, 0 shots")
    assert suites["reviews-fticl2"].get("failures") == "0"


def test_insufficient_evidence_says_how_many_rows_would_decide(gate: Any) -> None:
    _, said, _ = gate("--format", "json", reviews=_all_but_one)
    (ours,) = (one for one in json.loads(said) if one["variant"] == "reviews-ft")
    (question,) = (one for one in ours["questions"] if one["test_dataset"] == "reviews")
    assert question["n"] == 40 and question["more_rows"] > 0
    wanted = round(question["more_rows"], 2 - len(str(question["more_rows"])))
    assert f"about {wanted:,} more rows" in ours["sentence"]


@pytest.mark.parametrize(
    "options",
    [
        ("--set", "gate.critical=[revews]"),
        ("--keep", "1.5"),
        ("--variant", "revews-ft"),
        ("--set", "gate.advisory=[reviews, scenes, quiz]", "--set", "gate.supporting=[]"),
    ],
)
def test_a_wrong_gate_is_refused_before_anything_runs(ran: Path, tmp_path: Path, call: Cli, options: Any) -> None:
    code, said, error = call("gate", str(ran), "-o", str(tmp_path / "new"), *options)
    assert code == 2 and error.count("\n") == 1 and not said
    assert not (tmp_path / "new").exists()


def test_what_failed_is_not_taken_for_held() -> None:
    assert [exit_code(one, failed=True) for one in ("held", "insufficient evidence", "broken")] == [1, 1, 10]
