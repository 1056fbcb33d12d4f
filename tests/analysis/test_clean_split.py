"""What the audit of a run means for its scores, and how it is said that a clean score cannot be had."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import fakestore
import pytest
from prose import read_aloud
from rich.console import Console

from spillover.analysis import clean_split as leaks
from spillover.analysis import table
from spillover.report import page, terminal
from spillover.report.examples import Written

BASE, NEWS, _, SHOP, _ = fakestore.VARIANTS
MINE = replace(NEWS, key="mine", name="mine", kind="existing", factors={}, recipe_key="mine")
LEAKED = {"shop": {"film": list(range(24)), "pairs": [3]}, "news": {}}


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of `film` leaks from what `shop-ft` was trained on, and nobody knows where `mine` comes from."""
    grid = fakestore.make_grid(variants=(BASE, NEWS, SHOP, MINE), shots=(0,), prompts=("p1",))
    folder = fakestore.write_store(tmp_path_factory.mktemp("audited"), grid)
    fakestore.put(folder, "audit.json", json.dumps({"leaked": LEAKED, "clusters": {}, "lists": []}))
    return folder


SAID = (
    "No clean scores on film after training on shop: every row leaks.",
    "No clean scores of mine: the training rows are not known, so neither are the rows that leak.",
)


def test_what_leaks_from_a_training_set() -> None:
    audit = leaks.CleanSplit(leaked=LEAKED)
    found = audit.leaking("shop", "pairs")
    assert found is not None and found.tolist() == [3]
    nothing = audit.leaking("news", "pairs")
    assert nothing is not None and nothing.tolist() == []  # looked for, and none found
    assert audit.leaking("elsewhere", "pairs") is None and audit.leaking(None, "pairs") is None
    assert leaks.CleanSplit().leaking("shop", "pairs") is None


def test_a_clean_score_that_cannot_be_had_is_an_empty_row(audited: Path) -> None:
    """n is 0 where no row is left, and empty where it is not known how many are clean."""
    df = table.load(audited).df
    clean = df[(df["rows"] == "clean") & (df["metric"] == df.groupby("test_dataset")["metric"].transform("first"))]
    found = {(row.variant, row.test_dataset): row for row in clean.itertuples()}
    assert set(found) == {("shop-ft", "film"), ("shop-ft", "pairs"), *(("mine", test) for test in fakestore.TESTS)}
    assert found["shop-ft", "film"].n == 0 and found["shop-ft", "pairs"].n == 23
    assert clean.loc[clean["variant"] == "mine", ["n", "value", "delta"]].isna().all().all()
    assert clean["value"].notna().sum() == 1


def test_it_is_said_on_the_page_and_on_the_terminal(audited: Path, tmp_path: Path) -> None:
    results = table.load(audited)
    assert tuple(leaks.unscored(results.df)) == SAID
    page.write(results, audited, tmp_path / "report.html")
    console = Console(width=200, file=io.StringIO(), color_system=None)
    terminal.show(results, console)
    assert isinstance(console.file, io.StringIO)
    for text in (read_aloud((tmp_path / "report.html").read_text("utf-8")), console.file.getvalue()):
        assert all(line in text for line in SAID)


def test_the_page_lists_no_empty_rows(audited: Path) -> None:
    results = table.load(audited)
    data = page.payload(results, Written([], {}, {}, {}, []))
    assert len(data["rows"]) == results.df["value"].notna().sum() < len(results.df)


def test_without_an_audit_nothing_is_said(results: table.Results) -> None:
    assert list(leaks.unscored(results.df)) == []
