"""What recipes keep of the base, as a table of the page and as retention.csv: the numbers of the analysis, named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spillover.analysis import numbers, retention
from spillover.analysis.results import Results
from spillover.report import kept


def test_every_recipe_has_a_row_with_its_shares(results: Results) -> None:
    rows = {row["Variant"]: row for row in kept.rows(results)}
    assert set(rows) == {"news-ft", "news-fticl", "shop-ft", "shop-fticl"}
    found = retention.kept(results)[results.variants["news-ft"].recipe_key]
    outside = found.outside
    assert outside is not None and outside.share is not None
    cell = rows["news-ft"]["All outside"]
    assert cell["text"].startswith(f"{100 * outside.share:.1f} %") and f"n {outside.effect.n}" in cell["note"]
    slope = found.demonstrations
    assert slope is not None and rows["news-ft"][kept.ADDS] == numbers.signed(slope.ours.value)
    assert rows["news-ft"][kept.LESS]["text"].startswith(numbers.signed(slope.effect.value))
    assert rows["news-ft"]["In-domain, other formats"]["text"]


def test_a_recipe_of_which_nothing_is_known_has_no_row(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a base that scores 0 everywhere nothing can be left, and an empty table would only puzzle its readers."""
    nothing: dict[str, Any] = {"roles": {}, "outside": None, "demonstrations": None, "formats": None}
    found = {key: replace(one, **nothing) for key, one in retention.kept(results).items()}
    monkeypatch.setattr(kept, "kept", lambda _: found)
    assert found and not list(kept.rows(results))


def test_the_file_has_a_row_for_each_place(results: Results) -> None:
    df = kept.tidy(results)
    own = df[df["recipe"] == "shop-ft"].set_index("where")
    found = retention.kept(results)[results.variants["shop-ft"].recipe_key]
    assert set(own.index) == {*found.sets, *found.roles, "outside", "other prompt formats"}
    quiz = found.sets["quiz"]
    assert own.loc["quiz", "change"] == pytest.approx(quiz.effect.value)
    assert own.loc["quiz", "share"] == pytest.approx(own.loc["quiz", "value"] / own.loc["quiz", "base"])
    assert own.loc["quiz", "share_low"] <= own.loc["quiz", "share"] <= own.loc["quiz", "share_high"]


def test_the_base_alone_keeps_nothing_of_itself(base_only: Results) -> None:
    assert not list(kept.rows(base_only)) and not len(kept.tidy(base_only))
