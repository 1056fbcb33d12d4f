"""Verdict and matrix on terminals of several widths."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from spillover.analysis import numbers, summaries
from spillover.analysis.results import Results
from spillover.analysis.retention import kept
from spillover.analysis.verdict import verdicts
from spillover.report import matrix, terminal


def printed(results: Results, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    terminal.show(results, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_fits_and_says_everything(results: Results, width: int) -> None:
    text = printed(results, width)
    commands = {f"  {step.code}" for one in verdicts(results) for step in one.steps}  # stay in one line
    assert max(len(line) for line in text.splitlines() if line not in commands) <= width
    for word in (
        "Trained on news",
        "Trained on shop",
        "base",
        "shop-fticl",
        "in-domain",
        "cross-task",
        "ROUGE-L, n 24",
    ):
        assert word in text
    compared = [entry for entry in summaries.matrix(results).values() if entry.delta is not None]
    clear = [entry.delta for entry in compared if entry.is_clear]
    assert min(clear) < 0 < max(clear)
    assert all(f"{'▲' if delta > 0 else '▼'} {numbers.signed(delta)}" in text for delta in clear)  # without colour
    assert all(numbers.signed_interval(entry.delta_interval) in text for entry in compared)  # whole, not cut
    assert "…" not in text
    assert "missing" not in text


def test_the_verdict_comes_first_and_is_the_pages(results: Results) -> None:
    text = " ".join(printed(results, 200).split())
    for one in verdicts(results):
        assert f"{one.title}: {one.first} {one.why}" in text
        assert all(f"{step.says} {step.code}" in text for step in one.steps)
        for line in one.lines:
            assert f"{line.name} {line.sentence}" in text
    assert text.index(verdicts(results)[-1].advice) < text.index("ROUGE-L, n 24")


def test_a_command_stands_in_one_line_on_a_narrow_terminal(results: Results) -> None:
    (step,) = [step for one in verdicts(results) for step in one.steps]
    assert f"  {step.code}" in printed(results, 40).splitlines()


def test_a_partial_run_says_so(partial: Results) -> None:
    text = printed(partial, 120)
    assert "missing" in text and "20 of 140 cells are missing" in text


def test_the_base_alone(base_only: Results) -> None:
    text = printed(base_only, 80)
    assert "The base model" in text and "accuracy, n 24" in text
    assert "▲" not in text and "change" not in text


def test_names_are_text_not_markup(results: Results) -> None:
    """Rich would read [red] as a colour."""
    variants = tuple(replace(v, name="[red]x") if v.name == "shop-ft" else v for v in results.grid.variants)
    odd = replace(results, grid=replace(results.grid, variants=variants))
    assert "[red]x" in printed(odd, 120)


def test_where_verdict_and_matrix_differ_a_line_says_so(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """They correct over other families, so one of them may name a change that the other does not."""
    alike = {
        (recipe, test): one.effect.is_clear
        for recipe, found in kept(results).items()
        for test, one in found.sets.items()
    }
    entries = summaries.recipe_matrix(results)
    assert alike and any(alike.values())

    def shown(p: float | None) -> str:
        changed = {
            place: replace(entry, change=replace(entry.change, p_adjusted=entry.change.p_adjusted if p is None else p))
            if entry.change and alike.get(place)
            else entry
            for place, entry in entries.items()
        }
        monkeypatch.setattr(matrix, "recipe_matrix", lambda _: changed)
        return " ".join(matrix.notes(results))

    (recipe, test), *_ = [place for place, clear in alike.items() if clear]
    assert f"{entries[recipe, test].variant} on {test}" in shown(1.0) and "no arrow" in shown(1.0)
    same = all(clear == entries[place].is_clear for place, clear in alike.items())
    assert same == ("The verdict corrects" not in shown(None))
