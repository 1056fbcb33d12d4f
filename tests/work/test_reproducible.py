"""The same seed on the same machine: the same predictions, byte for byte, over two fresh runs with their trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tinyruns import write_experiment

import spillover

pytestmark = pytest.mark.slow

PACKAGE = Path(spillover.__file__).resolve().parent


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two output folders of one experiment, each of a process of its own that orders its sets and dicts otherwise."""
    place = tmp_path_factory.mktemp("twice")
    write_experiment(place)
    for name in ("first", "second"):
        command = [sys.executable, "-m", "spillover", "run", "twice.yaml", "-o", name]
        environment = {**os.environ, "PYTHONHASHSEED": str(len(name)), "PYTHONPATH": str(PACKAGE.parent)}
        ran = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    return [place / "first", place / "second"]


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in folder.glob(pattern)}


def test_predictions_are_the_same_byte_for_byte(runs: list[Path]) -> None:
    first, second = (contents(folder, "cells/*/predictions.jsonl") for folder in runs)
    assert len(first) == (1 + 3 * 2) * 2 * 2  # variants x test sets x shots
    assert len(set(first.values())) == len(first), "and every cell has its own"
    assert first == second


def test_trained_weights_are_the_same_and_follow_the_seed(runs: list[Path]) -> None:
    first, second = (contents(folder, "variants/*/*.safetensors") for folder in runs)
    assert first == second
    assert len(set(first.values())) == 3 * 2  # a strategy with another seed has other weights


def test_the_table_is_the_same(runs: list[Path]) -> None:
    first, second = ((folder / "results.csv").read_bytes() for folder in runs)
    assert first == second
