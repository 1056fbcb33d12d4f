"""The same seed on the same machine: the same predictions, byte for byte, over two fresh runs with their trainings."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import tinymodels

import spillover
from spillover.engine import attention

PACKAGE = Path(spillover.__file__).resolve().parent
WORDS = ["One", "two", "three", "six", "seven", "eight", "nine", "ten"]
EXPERIMENT = """
model: ./tiny
datasets:
  parity: {train: train.jsonl, test: test.jsonl, labels: [" four", " five"]}
  echo: {test: echo.jsonl, max_new_tokens: 6}
train:
  {datasets: [parity], strategies: [ft, {fticl: {shots: [2]}}, lora], seeds: [0, 1], learning_rate: 1e-2, batch_size: 4}
test: {shots: [0, 2], prompts: [p1], limit: 12}
"""


def write_rows(path: Path, count: int, seed: int) -> None:
    """Sentences of numbers, and whether their length is even."""
    rng = random.Random(seed)
    sentences = [rng.choices(WORDS, k=rng.randint(3, 12)) for _ in range(count)]
    rows = [{"prompt": " ".join(said), "completion": " five" if len(said) % 2 else " four"} for said in sentences]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two output folders of one experiment, each of a process of its own that orders its sets and dicts otherwise."""
    place = tmp_path_factory.mktemp("twice")
    attention.register()
    tinymodels.save(tinymodels.build(gain=4.0), place / "tiny")
    for name, count, seed in (("train", 24, 0), ("test", 40, 1), ("echo", 40, 2)):
        write_rows(place / f"{name}.jsonl", count, seed)
    (place / "twice.yaml").write_text(EXPERIMENT)
    for name in ("first", "second"):
        command = [sys.executable, "-m", "spillover.cli", "run", "twice.yaml", "-o", name]
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
