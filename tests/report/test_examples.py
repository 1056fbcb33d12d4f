"""Answers packed for the page, against the predictions that they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakestore
import pytest

from spillover.analysis import table
from spillover.analysis.results import Results
from spillover.report import examples


@pytest.fixture(scope="module")
def asked(results: Results, folder: Path) -> list[examples.Asked]:
    return _read(results, folder)


def _read(results: Results, folder: Path) -> list[examples.Asked]:
    return [examples.read(results, folder, condition, cells) for condition, cells in examples.conditions(results)]


def predictions(folder: Path, results: Results, variant: str, condition: examples.Condition) -> list[dict[str, object]]:
    test, prompt, shots, draw = condition
    (cell,) = (
        c
        for c in results.grid.cells
        if results.variants[c.variant].name == variant
        and (c.test, c.prompt, c.shots, c.draw) == (test, prompt, shots, draw)
    )
    return [json.loads(line) for line in (folder / "cells" / cell.key / "predictions.jsonl").read_text().splitlines()]


def test_conditions_come_few_shots_and_first_format_first(asked: list[examples.Asked]) -> None:
    assert len(asked) == 7 * 2 * 2
    assert [one.condition[1:3] for one in asked] == sorted(one.condition[1:3] for one in asked)


@pytest.mark.parametrize("test", ["shop", "news"])
def test_a_pack_is_the_predictions(asked: list[examples.Asked], results: Results, folder: Path, test: str) -> None:
    one = next(one for one in asked if one.condition == (test, "p1", 2, 0))
    packed = json.loads(json.dumps(examples.pack(one)))
    rows = predictions(folder, results, "shop-ft", one.condition)
    ours = packed["answers"][str([v.name for v in results.grid.variants].index("shop-ft"))]
    labels = packed["labels"]
    assert packed["ids"] == [row["doc_id"] for row in rows] and packed["targets"] == [row["target"] for row in rows]
    said = [labels[x] if isinstance(x, int) else x for x in ours["said"]]
    assert said == [row["response"] for row in rows]
    assert packed["exact"] and packed["before"].count("a demonstration") == 2
    assert packed["texts"][0].startswith("### Input:\n") and packed["texts"][0].endswith("### Answer: ")
    if labels:
        assert ours["score"] == [100 * (row["response"] == row["target"]) for row in rows]
        assert ours["logprobs"][0] == [round(1000 * rows[0]["logprobs"][label]) for label in labels]  # type: ignore[index]
        assert "first" not in ours  # the same as of the whole label, so not said twice
    else:
        assert ours["ended"] == [row["ended"] for row in rows]


def test_rows_that_one_variant_was_not_asked_are_null(asked: list[examples.Asked]) -> None:
    one = next(one for one in asked if one.condition[0] == "shop")
    fewer = examples.Asked(one.test, one.condition, {**one.answers, 1: one.answers[1][5:]}, one.scores, one.prompts)
    ours = examples.pack(fewer)["answers"][1]
    assert ours["said"][:5] == [None] * 5 and None not in ours["said"][5:]


def test_prompts_that_were_not_kept_are_shown_by_their_fields(asked: list[examples.Asked]) -> None:
    one = asked[0]
    packed = examples.pack(examples.Asked(one.test, one.condition, one.answers, one.scores, None))
    assert not packed["exact"] and packed["texts"][0].startswith("input: ")


def test_all_right_answers_are_packed_the_first_as_the_target(asked: list[examples.Asked]) -> None:
    one = next(one for one in asked if one.test.kind == "generation")
    assert examples.pack(one)["others"] is None
    answers = {
        number: [row | {"references": [row["target"], "b", "c"]} if i == 0 else row for i, row in enumerate(rows)]
        for number, rows in one.answers.items()
    }
    packed = examples.pack(replace(one, answers=answers))
    assert packed["others"][0] == ["b", "c"] and not any(packed["others"][1:])
    assert packed["targets"] == examples.pack(one)["targets"]


def test_counts(asked: list[examples.Asked], results: Results, folder: Path) -> None:
    tallies: dict[tuple[str, str], examples.Tally] = {}
    for one in asked:
        for variant, tally in examples.count(results, one).items():
            tallies.setdefault((variant, one.test.name), examples.Tally()).update(tally)
    rows = [
        row
        for prompt in ("p1", "p2")
        for shots in (0, 2)
        for row in predictions(folder, results, "shop-ft", ("film", prompt, shots, 0))
    ]
    tally = tallies["shop-ft", "film"]
    assert tally.n == len(rows) == 96
    assert tally.said["positive", "negative"] == sum(
        (row["target"], row["response"]) == ("positive", "negative") for row in rows
    )
    rates = results.df[(results.df.variant == "shop-ft") & (results.df.metric == "off_format")]
    for test in ("film", "news"):
        assert tallies["shop-ft", test].rate == pytest.approx(rates[rates.test_dataset == test]["value"].mean())
    said = tallies["shop-ft", "news"]  # trained on labels, it answers free text with one
    assert 0 < said.trained_labels == said.off_format


def test_what_does_not_fit_goes_into_files(
    results: Results, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = examples.write(results, folder, tmp_path / "report.data")
    assert not (tmp_path / "report.data").exists() and len(whole.embedded) == len(whole.index) == 28
    monkeypatch.setattr(examples, "EMBEDDED", 40_000)
    part = examples.write(results, folder, tmp_path / "report.data")
    files = sorted(path.name for path in (tmp_path / "report.data").iterdir())
    assert 0 < len(part.embedded) < 28 and len(files) == 28 - len(part.embedded)
    number = next(i for i, entry in enumerate(part.index) if "file" in entry)
    text = (tmp_path / part.index[number]["file"]).read_text("utf-8")
    script, comment, _ = text.splitlines()
    assert script == f"spillover({whole.embedded[number]})" and comment.startswith("//")
    monkeypatch.setattr(examples, "EMBEDDED", 1_000_000)
    examples.write(results, folder, tmp_path / "report.data")
    assert list((tmp_path / "report.data").iterdir()) == []  # no file stays that the page does not name


def test_a_file_is_made_once_for_the_same_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time no answer is read, and what was counted on the way is known all the same; a changed one is."""
    monkeypatch.setattr(examples, "EMBEDDED", 0)
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,), prompts=("p1",), rows=6)
    results = table.load(fakestore.write_store(tmp_path, grid, spice="\u2028\ud800"))
    first = examples.write(results, tmp_path, tmp_path / "report.data")
    reads: list[examples.Condition] = []
    read = examples.read
    monkeypatch.setattr(examples, "read", lambda *args: reads.append(args[2]) or read(*args))
    assert examples.write(results, tmp_path, tmp_path / "report.data") == first and reads == []
    cell = next(cell for cell in grid.cells if cell.test == "shop")
    fakestore.change_rows(tmp_path, cell.key, lambda rows: [row | {"response": "negative"} for row in rows])
    again = examples.write(table.load(tmp_path), tmp_path, tmp_path / "report.data")
    assert reads == [("shop", "p1", 0, 0)]
    assert again.tallies["base", "shop"] != first.tallies["base", "shop"]
    assert len(list((tmp_path / "report.data").iterdir())) == 7  # that of the answers as they were is gone


def test_a_file_that_is_broken_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page says of all answers is counted on the way and kept in the files: a wrong one is a wrong number."""
    monkeypatch.setattr(examples, "EMBEDDED", 0)
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:2], shots=(0,), prompts=("p1",), rows=6)
    results = table.load(fakestore.write_store(tmp_path, grid))
    first = examples.write(results, tmp_path, tmp_path / "report.data")
    right = {path.name: path.read_bytes() for path in (tmp_path / "report.data").iterdir()}
    cut, changed = (lambda text: text[:-80]), (lambda text: text.replace(", 1]", ", 2]"))
    for damaged in (cut, changed, lambda text: "", lambda text: "\n//"):
        for path in (tmp_path / "report.data").iterdir():
            path.write_text(damaged(path.read_text()))
        assert examples.write(results, tmp_path, tmp_path / "report.data") == first
        assert {path.name: path.read_bytes() for path in (tmp_path / "report.data").iterdir()} == right


def test_scores_follow_the_protocol(tmp_path: Path) -> None:
    """Under `protocol: paper` the likeliest first token decides; the examples say what was scored."""
    grid = fakestore.make_grid(variants=fakestore.VARIANTS[:1], shots=(0,), prompts=("p1",), rows=6)
    fakestore.write_store(tmp_path, grid)

    def other_first(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if "logprobs" in row:
                row["logprobs_first"] = {label: -value for label, value in row["logprobs"].items()}

    for cell in grid.cells:
        fakestore.change_rows(tmp_path, cell.key, other_first)
    sound, paper = (
        next(one for one in _under(tmp_path, protocol) if one.condition[0] == "shop") for protocol in ("sound", "paper")
    )
    pairs = zip(sound.answers[0], paper.answers[0], strict=True)
    assert all(a["response"] != b["response"] for a, b in pairs)


def _under(folder: Path, protocol: str) -> list[examples.Asked]:
    grid = json.loads((folder / "grid.json").read_text())
    fakestore.put(folder, "grid.json", json.dumps({**grid, "protocol": protocol}))
    return _read(table.load(folder), folder)
