"""A whole experiment in a folder: a random model of a few thousand weights, rows in files, and the YAML.

It needs no download, and a run of it on one core takes some seconds.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import tinymodels

from spillover.engine import attention

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


def write_experiment(place: Path) -> Path:
    """The experiment's file, beside the model and the rows that it names."""
    attention.register()
    tinymodels.save(tinymodels.build(gain=4.0), place / "tiny")
    for name, count, seed in (("train", 24, 0), ("test", 40, 1), ("echo", 40, 2)):
        write_rows(place / f"{name}.jsonl", count, seed)
    (place / "twice.yaml").write_text(EXPERIMENT)
    return place / "twice.yaml"
