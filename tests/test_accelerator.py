"""The script for an accelerator does its steps in order and in time, and what it needs can be carried in parts."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from benchscripts import BENCHMARKS, load, tiny_study

MEASURED = {"ratio": 2.0, "aim": "", "times": "1 s, 2 s", "memory": "", "parity": ""}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load("accelerator", monkeypatch)


def arguments(out: Path, **changes: Any) -> Namespace:
    values = {"out": out, "minutes": 10.0, "size": "full", "only": None, "place": None}
    values |= dict.fromkeys(("model", "data_dir", "study", "threads"))
    return Namespace(**{**values, **changes})


def test_each_step_leaves_a_line_and_is_not_done_again(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A step that failed is done again; what it found then counts."""
    asked, results = [], {"score_vs_plain.py": {"failed": "x"}, "environment.py": {"facts": {"cores": "2"}}}

    def run(command: str, options: list[str], limit: float, also: Any) -> dict[str, Any]:
        asked.append((command.split()[0], limit))
        return results.get(command.split()[0], MEASURED)

    monkeypatch.setattr(script.scripts, "run", run)
    script.run(arguments(tmp_path))
    assert len(asked) == len(script.STEPS) - 1  # no study was given
    lines = [json.loads(line) for line in (tmp_path / script.LINES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [step.name for step in script.STEPS]
    assert [line["step"] for line in lines if "skipped" in line] == ["study"]

    asked.clear()
    results.clear()
    script.run(arguments(tmp_path, study=Path("finalists.yaml")))
    assert [name for name, _ in asked] == ["score_vs_plain.py", "score_vs_plain.py", "timed_run.py"]
    told = script.table(script.read(tmp_path / script.LINES))
    assert "- the machine: cores 2" in told
    assert "failed" not in told
    assert "--study finalists.yaml" in told


def test_the_minutes_bound_all_steps_together(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, limits = [0.0], []

    def run(command: str, options: list[str], limit: float, also: Any) -> dict[str, Any]:
        limits.append(limit)
        clock[0] += min(limit, 50.0)
        return MEASURED

    monkeypatch.setattr(script.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(script.scripts, "run", run)
    script.run(arguments(tmp_path, minutes=2))
    assert limits == [60.0, 70.0, 20.0]
    skipped = [line["step"] for line in script.read(tmp_path / script.LINES) if "skipped" in line]
    assert skipped == [step.name for step in script.STEPS[3:]]


def test_a_script_and_its_children_end_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripts = load("scripts", monkeypatch)
    parent = f"echo began; (sleep 1; touch {tmp_path / 'late'}) & wait"
    began = time.monotonic()
    assert scripts.in_time(["sh", "-c", parent], 0.3, os.environ) == (None, "began\n", "")
    time.sleep(max(0.0, began + 1.3 - time.monotonic()))
    assert not (tmp_path / "late").exists()


def test_what_is_packed_is_unpacked_whole_from_folders_in_any_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    carry = load("carry", monkeypatch)
    (tmp_path / "from" / "wheels").mkdir(parents=True)
    contents = {"wheels/model.whl": bytes(range(256)) * 10, "wheels/a.whl": b"a" * 900, "data.tar.xz": b"d"}
    for name, content in contents.items():
        (tmp_path / "from" / name).write_bytes(content)
    loads = carry.write_loads(tmp_path / "from", tmp_path / "packed", 600, 1000, {"python": "3.12"})
    sizes = [[path.stat().st_size for path in folder.iterdir() if path.name != carry.MANIFEST] for folder in loads]
    assert [sum(parts) for parts in sizes] == [1000, 1000, 1000, 461]  # all of 3,461 bytes, no room left
    assert max(max(parts) for parts in sizes) <= 600
    place = tmp_path / "to"
    for folder in reversed(loads[1:]):
        assert carry.join([folder], place)
    assert carry.join([loads[0]], place) == []
    assert {name: (place / name).read_bytes() for name in contents} == contents
    assert not list((place / "parts").iterdir())


def test_a_part_that_was_changed_on_the_way_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    carry = load("carry", monkeypatch)
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "a.whl").write_bytes(b"a" * 900)
    (first, *_) = carry.write_loads(tmp_path / "from", tmp_path / "packed", 600, 1000, {})
    (first / "000.00").write_bytes(b"b" * 600)
    with pytest.raises(SystemExit, match=r"a\.whl is broken"):
        carry.join([first, *_], tmp_path / "to")


def test_what_the_other_machine_has_and_pytorch_are_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    carry = load("carry", monkeypatch)
    everything, _ = carry.needed(set(), "3.12")
    assert {"transformers", "tokenizers", "pydantic-core"} <= set(everything)  # what packages need, too
    assert not {name for name in everything if name.startswith(("torch", "nvidia", "triton"))}
    fewer, _ = carry.needed({"transformers", "pydantic-core"}, "3.12")
    assert "pydantic" in fewer
    assert not {"transformers", "pydantic-core"} & set(fewer)


@pytest.mark.slow
@pytest.mark.model
def test_every_step_runs_at_a_small_size(script: Any, tmp_path: Path, smollm2: Path) -> None:
    """As a user starts it. Steps whose peer is missing say so."""
    options = ["--size", "small", "--out", str(tmp_path / "out"), *tiny_study(tmp_path, smollm2)]
    study = tmp_path / "study.yaml"
    test = "{datasets: [multinli], limit: 2, shots: [0], prompts: [p1]}"
    study.write_text(f"model: {tmp_path / 'tiny'}\nsuite: paper\ntest: {test}\n")
    command = [sys.executable, str(BENCHMARKS / "accelerator.py"), *options, "--study", str(study)]
    code, _, errors = script.scripts.in_time(command, 500, os.environ)
    assert code == 0, errors
    lines = script.read(tmp_path / "out" / script.LINES)
    assert [line["step"] for line in lines] == [step.name for step in script.STEPS]
    for line in lines:
        assert "ratio" in line or "facts" in line or "is not installed" in line["skipped"], line
