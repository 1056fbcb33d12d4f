"""A source that is shared out into training, validation, demonstration and test rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from spillover.data.shares import order_of, part_of
from spillover.data.sources import Places, read_source
from spillover.errors import DataError
from spillover.experiment.suite import SHARES, Share, ShareName, Source, load_suite

ROWS = [{"page": f"page {n % 200}", "claim": f"claim {n}", "label": "ab"[n % 3 == 0]} for n in range(2000)]


def pages(part: ShareName, seed: int = 0) -> set[str]:
    order = order_of(ROWS, Share(part=(part,), by="page", seed=seed), None, "here")
    return {ROWS[number]["page"] for number in order}


def test_parts_are_disjoint_by_group_and_hold_everything() -> None:
    found = [pages(part) for part in ("train", "test", "validation", "demos")]
    assert sum(map(len, found)) == len(set.union(*found)) == 200


def test_each_part_has_its_share_of_the_groups() -> None:
    counts = Counter(part_of(f"group {n}", seed=0) for n in range(20_000))
    for part, share in SHARES.items():
        assert counts[part] / 20_000 == pytest.approx(share, abs=0.01)
    assert sum(SHARES.values()) == pytest.approx(1)


def test_a_row_stays_in_its_part_whatever_stands_beside_it() -> None:
    """A source that grows moves no row from the training part to the test part."""
    some = order_of(ROWS[:500], Share(part=("test",), by="page"), None, "here")
    every = order_of(ROWS, Share(part=("test",), by="page"), None, "here")
    assert set(some) == {number for number in every if number < 500}


def test_another_seed_gives_another_share() -> None:
    assert pages("test", seed=0) != pages("test", seed=1)


def test_balanced_takes_answers_in_turn() -> None:
    order = order_of(ROWS, Share(part=("train",), by="page", balanced=True), "label", "here")
    assert [ROWS[number]["label"] for number in order[:6]] == ["a", "b"] * 3
    assert Counter(ROWS[number]["label"] for number in order)["a"] == len(order) // 2


def test_equal_rows_stay_together_where_no_column_is_named() -> None:
    twice = [*ROWS[:300], *ROWS[:300]]
    order = order_of(twice, Share(part=("test",)), None, "here")
    assert {number % 300 for number in order} == {number for number in order if number < 300}


def test_case_and_white_space_make_no_other_group() -> None:
    spellings = [{"page": page} for n in range(60) for page in (f"Page  {n}", f"page {n}", f"PAGE {n} ")]
    order = order_of(spellings, Share(part=("test",), by="page"), None, "here")
    assert len(order) == 3 * len({number // 3 for number in order})


def test_a_part_without_rows_is_an_error() -> None:
    with pytest.raises(DataError, match="validation"):
        order_of([{"page": "only"}], Share(part=("validation",), by="page"), None, "here")


def test_balance_needs_to_know_the_answers() -> None:
    with pytest.raises(ValidationError, match="target"):
        Source.model_validate({"file": "x.jsonl", "share": {"part": "train", "balanced": True}})


def test_a_file_is_shared_out_too(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("question,answer\n" + "".join(f"q{n},a{n}\n" for n in range(100)))
    seen: list[str] = []
    for part in ("train", "test", "validation", "demos"):
        source = Source.model_validate({"file": "all.csv", "share": {"part": part, "by": "question"}})
        seen += [str(row["question"]) for _, row in read_source(source, "train", None, Places(tmp_path)).raw]
    assert sorted(seen) == sorted(f"q{n}" for n in range(100))


@pytest.mark.parametrize("suite", ["bigbench", "abilities"])
def test_no_part_of_the_suite_reaches_into_another(suite: str) -> None:
    """Within a data set of the suite, no two parts share a group: they name the same column, and other parts."""
    for name, spec in load_suite(suite).datasets.items():
        shares = [source.share for part in (spec.train, spec.test, spec.demos) for source in part]
        assert all(shares), name
        assert len({share.by for share in shares if share}) == len({share.seed for share in shares if share}) == 1, name
        parts = [part for share in shares if share for part in share.part]
        assert len(parts) == len(set(parts)), name
