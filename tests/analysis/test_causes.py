"""Why a score fell: each kind of answer by itself, and each cause on small stores with answers that are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakestore
import pytest

from spillover.analysis import table
from spillover.analysis.causes import Cause, Kind, Sorter, cause

SORTER = Sorter(True, trained=("positive", "negative"), others=("entailment",))
GOLD = "how long did the river council meet"

KINDS: list[tuple[str, str, Kind]] = [  # an answer, how it ended, what it is
    ("negative", "end", "training labels"),
    (" Negative.", "end", "training labels"),
    ("negatively charged particles move on then", "end", "worse"),
    ("entailment", "end", "other labels"),
    ("  ", "end", "empty"),
    ("how long did the river council meet in the spring of that year", "end", "long"),
    ("the river the river the river", "limit", "long"),
    ("how long did", "end", "short"),
    ("the river", "stop", "short"),
    ("where was the harbour council meeting", "end", "worse"),
    (GOLD, "end", "worse"),
]


@pytest.mark.parametrize(("text", "ended", "kind"), KINDS)
def test_an_answer_has_one_kind(text: str, ended: str, kind: Kind) -> None:
    base = {"response": GOLD, "target": GOLD, "ended": "end"}
    assert SORTER.kind_of({**base, "response": text, "ended": ended}, base) == kind


def test_what_is_right_is_no_label_of_another_task() -> None:
    """`negative` may be the right answer to this row, and the base may run to the limit as well."""
    row = {"response": "negative", "target": "negative", "ended": "end"}
    assert SORTER.kind_of(row, row) == "worse"
    cut = {"response": "a b c d", "target": GOLD, "ended": "limit"}
    assert SORTER.kind_of(cut, cut) == "worse"
    assert Sorter(False).kind_of({"response": "yes", "target": "no"}, row) == "worse"


Rows = list[dict[str, Any]]


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., Cause]:
    """The cause that is found on `papers` for the variant trained on `shop`, whose answers are changed by shots."""

    def of(change: Callable[[Rows, int], Any], test: str = "papers", shots: Sequence[int] = (0, 2)) -> Cause:
        base, *_, shop, _ = fakestore.VARIANTS
        grid = fakestore.make_grid(variants=(base, shop), prompts=("p1",), shots=tuple(shots))
        fakestore.write_store(tmp_path, grid)
        for cell in grid.cells:
            if cell.test == test:
                right = cell.variant == base.key

                def said(rows: Rows, k: int = cell.shots, right: bool = right) -> None:
                    for row in rows:
                        row["response"], row["ended"] = row["target"], "end"
                    if not right:
                        change(rows, k)

                fakestore.change_rows(tmp_path, cell.key, said)
        return cause(table.load(tmp_path), (shop,), test)

    return of


def say(text: str, every: int = 1, from_shots: int = 0) -> Callable[[Rows, int], None]:
    """Every so many rows are answered by the same text."""

    def change(rows: Rows, shots: int) -> None:
        for row in rows[::every] if shots >= from_shots else ():
            row["response"] = text

    return change


def test_labels_of_the_training_task_are_counted(found: Callable[..., Cause]) -> None:
    why = found(say("negative"))
    assert (why.kind, why.count, why.of, why.of_base) == ("training labels", 48, 48, 0)
    assert "all 48" in why.sentence and "training task" in why.sentence and "negative" in why.sentence


def test_a_part_of_the_answers_is_a_cause_too(found: Callable[..., Cause]) -> None:
    why = found(say("negative", every=2))
    assert (why.kind, why.count, why.of) == ("training labels", 24, 48)
    assert "24 of its 48" in why.sentence


def test_one_answer_to_all_rows(found: Callable[..., Cause]) -> None:
    why = found(say("whatever the river does it goes on and on so"))
    assert why.kind == "one answer" and why.count == 48 and "goes on" in why.sentence


def test_one_label_to_all_rows(found: Callable[..., Cause]) -> None:
    why = found(say("yes"), test="pairs")
    assert why.kind == "one answer" and why.example == "yes" and 0 < why.of_base < 48


def test_answers_that_end_elsewhere(found: Callable[..., Cause]) -> None:
    def run_on(rows: Rows, shots: int) -> None:
        for row in rows:
            row["response"] += " and so it was said by many people who were there on that day"

    def stop(rows: Rows, shots: int) -> None:
        for row in rows:
            row["response"] = " ".join(row["target"].split()[:3])

    assert found(run_on).kind == "long"
    assert found(stop).kind == "short"


def test_what_demonstrations_gave_is_lost(found: Callable[..., Cause]) -> None:
    def wrong(rows: Rows, shots: int) -> None:
        for n, row in enumerate(rows if shots else ()):
            row["response"] = " ".join(f"w{n}{i}" for i, _ in enumerate(row["target"].split()))

    why = found(wrong)
    assert why.kind == "demonstrations"
    assert [shots for shots, _ in why.by_shots] == [0, 2] and why.by_shots[1][1] == pytest.approx(-1.0)
    assert "0 shots" in why.sentence and "2 shots" in why.sentence


def test_answers_in_the_format_that_are_worse_everywhere(found: Callable[..., Cause]) -> None:
    def wrong(rows: Rows, shots: int) -> None:
        for n, row in enumerate(rows):
            row["response"] = " ".join(f"w{n}{i}" for i, _ in enumerate(row["target"].split()))

    assert found(wrong).kind == "worse"


def test_without_texts_there_is_no_cause(found: Callable[..., Cause], tmp_path: Path) -> None:
    found(say("negative"))
    results = table.load(tmp_path)
    bare = replace(results, answers=lambda key: ())
    assert cause(bare, (fakestore.VARIANTS[3],), "papers").kind == "unknown"
    assert Cause("unknown").sentence == ""
