"""A mixture of the real model, from the command line: at both ends it answers as the base and as the training."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import Cli

from spillover.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

EXPERIMENT = """
model: {model}
precision: float32
suite: builtin
keep: none
choose: none
train:
  datasets: [reviews]
  sizes: [8]
  strategies: [ft, {{ft + wise: {{alpha: [0, 1]}}}}, lora, {{lora + wise: {{alpha: 1}}}}]
  num_train_epochs: 1
test: {{datasets: [reviews, quiz], shots: [0], prompts: [p1], limit: 4}}
"""


def test_strengths_of_zero_and_one_answer_as_base_and_training(smollm2: Path, tmp_path: Path, call: Cli) -> None:
    (tmp_path / "x.yaml").write_text(EXPERIMENT.format(model=smollm2))
    code, _, err = call("run", str(tmp_path / "x.yaml"), "-o", str(tmp_path / "out"))
    assert code == 0, err
    store = Store(tmp_path / "out")
    grid = store.grid()
    names = {variant.key: variant.name for variant in grid.variants}
    answers: dict[str, dict[str, bytes]] = {}
    for cell in grid.cells:
        content = (store.folder / "cells" / cell.key / "predictions.jsonl").read_bytes()
        answers.setdefault(names[cell.variant], {})[cell.test] = content
    assert answers["reviews-ft+wise-alpha0"] == answers["base"] != answers["reviews-ft"]
    assert answers["reviews-ft+wise-alpha1"] == answers["reviews-ft"]
    assert answers["reviews-lora+wise"] == answers["reviews-lora"] != answers["base"]
    assert not [variant for variant in grid.made_here if store.has_weights(variant.key)]  # keep: none
