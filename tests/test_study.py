"""The page on the study: its tables and sentences are those of what the study has kept."""

from __future__ import annotations

import docscripts
import pytest

parts = docscripts.load("study_parts")


@pytest.mark.parametrize("script", ["study_parts", "reproduction_parts"])
def test_the_pages_hold_what_the_studies_have_kept(script: str) -> None:
    """Also the README, with its main sentence."""
    loaded = docscripts.load(script)
    for page, of_page in loaded.PAGES.items():
        text = page.read_text("utf-8")
        assert loaded.filled(text, of_page) == text, f"{page.name}: run `python docs/{script}.py` and commit it"


def test_a_page_without_a_part_is_refused() -> None:
    with pytest.raises(ValueError, match="progress"):
        parts.filled("# A page\n", parts.PARTS)


@pytest.mark.parametrize("train", ["hotels", "qasc"])
def test_the_largest_advantage_comes_first_and_every_recipe_has_a_strategy(train: str) -> None:
    rows = parts.beside(parts.SCREEN, train)
    assert len(rows) > 5 and rows["advantage"].is_monotonic_decreasing
    assert {"cfs", "fticl"} <= set(rows["strategy"]) and rows["strength"].str.contains("e-|alpha").all()
