"""The benchmark of the protocol's switches: its arithmetic by hand, and all of it once on a model without knowledge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinymodels
from benchscripts import load
from smalltokenizers import byte_level, write

from spillover.analysis.metrics import METRICS
from spillover.analysis.rows import RowStatistics
from spillover.experiment.protocol import Protocol

RIGHT = METRICS["accuracy"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load("protocol_switches", monkeypatch)


def rows(right: dict[int, int]) -> RowStatistics:
    """Documents that are right (1) or wrong (0)."""
    return RowStatistics(np.array(list(right)), np.array([[one, 1.0] for one in right.values()]))


def test_a_change_is_paired_by_document(script: Any) -> None:
    """Of 40 documents one is now right: in a draw it occurs k times, so the change is k of 40."""
    theirs = rows({i: int(i < 20) for i in range(40)})
    ours = rows({i: int(i < 21) for i in range(40)})
    value, low, high = script.change(RIGHT, ours, theirs)
    assert value == pytest.approx(1 / 40)
    assert (low, high) == (0.0, pytest.approx(3 / 40))  # P(k = 0) is 0.36, P(k > 3) 0.018
    assert script.entry(RIGHT, ours, theirs) == "+2.5 [+0.0, +7.5]"


def test_documents_that_only_one_side_scores_count_there(script: Any) -> None:
    """A row that nobody can answer makes 3 of 4 into 3 of 5."""
    theirs = rows({0: 1, 1: 1, 2: 1, 3: 0})
    ours = rows({0: 1, 1: 1, 2: 1, 3: 0, 7: 0})
    value, low, high = script.change(RIGHT, ours, theirs)
    assert value == pytest.approx(3 / 5 - 3 / 4)
    assert low < value < high <= 0
    assert script.entry(RIGHT, ours, theirs).endswith(", n 5")
    assert script.entry(RIGHT, theirs, theirs) == "="


def test_every_switch_is_measured_alone(script: Any) -> None:
    first, *switches, last = script.protocols()
    assert (first, last) == ("sound", "paper")
    assert [name.split(" + ")[1].partition("=")[0] for name in switches] == list(Protocol.model_fields)
    assert all(len(Protocol.named(name).model_dump(exclude_defaults=True)) == 1 for name in switches)


def test_the_middle_shots_of_a_task(script: Any) -> None:
    assert [script.middle_shots(test) for test in ("socialqa", "sst2", "rte")] == [2, 4, 5]


def release(place: Path) -> Path:
    """A release of the study in its shape, with words that the small tokenizer knows."""
    words = ["fish", "film", "two", "fine", "one", "café"]
    sets = {
        "sentiment/{}sst2": [
            {"input": f"the {w} film", "output": ("positive", "negative")[i % 2]} for i, w in enumerate(words)
        ],
        "question/{}socialqa": [{"input": f"one {w}", "answer": w, "output": f"two {w}"} for w in words],
    }
    for name, made in sets.items():
        for kind, ending, part in (("", "_test_500", made), ("few_shot/", "_few_shot", made[:5])):
            path = place / (name.format(kind) + ending + ".json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(part))
    return place


@pytest.mark.slow
def test_all_of_it_on_a_tiny_model(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tinymodels.save(tinymodels.build(vocab_size=600, max_position_embeddings=2048), tmp_path / "model")
    config = (model / "config.json").read_text()
    write(model, byte_level())
    (model / "config.json").write_text(config)
    asked = [
        "sound",
        "sound + label_scoring=first_token",
        "sound + demos_in_test=scored",
        "sound + bars=best_shots",
        "paper",
    ]
    monkeypatch.setattr(script, "protocols", lambda: asked)
    data, out = release(tmp_path / "data"), tmp_path / "x.json"
    options = ["--model", model, "--data-dir", data, "--tests", "sst2", "socialqa", "--prompts", "p1", "--rows", 6]
    monkeypatch.setattr(sys, "argv", ["x", *map(str, options), "--threads", "1", "--json", str(out)])
    script.main()
    head, _, sound, *rest = capsys.readouterr().out.strip().splitlines()
    assert head == "| protocol | sst2 (accuracy, n 1) | socialqa (ROUGE-L, n 1) |"
    assert [line.split(" | ")[0] for line in rest] == [
        "| label_scoring=first_token",
        "| demos_in_test=scored",
        "| bars=best_shots",
        "| paper",
    ]
    assert sound.startswith("| sound | ")
    assert rest[2] == "| bars=best_shots | = | = |"
    assert all(entry.endswith(", n 6") for entry in rest[1].strip(" |").split(" | ")[1:])
    assert set(json.loads(out.read_text())["change"]) == set(asked[1:])
