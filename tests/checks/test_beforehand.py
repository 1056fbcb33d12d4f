"""What `plan` and `run` warn of before anything is computed, as `check` does: empty answers and long samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tinyruns
from prose import tells

LENGTH = 30  # tokens of a sample: two demonstrations do not fit beside every row


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations, of which the row 3 ends in nothing said, and the row 5 is long."""
    place = tmp_path_factory.mktemp("beforehand")
    tinyruns.write_experiment(place)
    for name, count in (("train", 24), ("test", 8)):
        rows = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()][:count]
        rows[5]["prompt"] = "seven " * 20
        said = [
            [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": "" if number == 3 else row["completion"]},
            ]
            for number, row in enumerate(rows)
        ]
        lines = [json.dumps({"messages": messages}) + "\n" for messages in said]
        (place / f"{name}.jsonl").write_text("".join(lines))
    (place / "x.yaml").write_text(f"""
model: ./tiny
datasets:
  talk: {{train: train.jsonl, test: test.jsonl, max_new_tokens: 4, shots: [0]}}
train:
  {{strategies: [{{fticl: {{shots: 2}}}}], max_length: {LENGTH}, batch_size: 4, num_train_epochs: 1}}
test: {{prompts: [p1]}}
""")
    return place


@pytest.mark.parametrize("command", ["check", "plan", pytest.param("run", marks=pytest.mark.slow)])
def test_empty_answers_and_long_samples_are_warnings(place: Path, command: str, call: Any) -> None:
    code, out, err = call(command, str(place / "x.yaml"), "-o", str(place / command))
    assert code == 0, err
    said = " ".join(out.split())
    assert said.count("empty answer (row 3)") == 2, "of the test and of the training rows"
    assert tells(said, "warning", "of 21 samples", "train.max_length", str(LENGTH), "lose demonstrations")


def test_a_training_that_cannot_be_is_a_warning_of_the_plan(place: Path, call: Any) -> None:
    code, out, _ = call("plan", str(place / "x.yaml"), "--set", "train.max_length=10", "-o", str(place / "short"))
    assert code == 0
    assert tells(" ".join(out.split()), "warning", "talk, training", "does not fit", "max_length=10")
