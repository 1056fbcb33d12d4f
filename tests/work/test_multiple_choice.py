"""Multiple choice from the command line on a tiny model: every score is the one that lm-evaluation-harness computes."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest
import tinyruns
from commandline import Cli
from prose import read_aloud

from spillover.analysis.metrics import likeliest, rescored
from spillover.plan.questions import FREE_TOKENS_OF_OPTIONS, Question, Sheet, requests_for
from spillover.store.store import Store
from spillover.text.encode import Encoder
from spillover.text.task import FIVE, Example, PromptFormat, Task

EXPERIMENT = """
model: ./tiny
precision: float32
datasets:
  pick:
    train: {file: train.jsonl, options: choices, target: answer}
    test: {file: test.jsonl, options: choices, target: answer}
    template: "{question}"
train: {strategies: [{fticl: {shots: [2]}}], learning_rate: 1e-2, batch_size: 4}
test: {shots: [0, 2], limit: 24}
"""


def write_rows(path: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with two to five options of one to four words."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        firsts = rng.sample(tinyruns.WORDS, rng.randint(2, 5))
        options = [" ".join([first, *rng.choices(tinyruns.WORDS, k=rng.randint(0, 3))]) for first in firsts]
        question = " ".join(rng.choices(tinyruns.WORDS, k=8)) + f" {n}"
        rows.append({"question": question, "choices": options, "answer": rng.randrange(len(options))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pick")
    tinyruns.write_experiment(place)
    (place / "pick.yaml").write_text(EXPERIMENT)
    write_rows(place / "train.jsonl", 12, 0)
    write_rows(place / "test.jsonl", 48, 1)
    return place


def by_lm_eval(place: Path, rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """What lm-evaluation-harness makes of our log-probabilities, row by row."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.task import ConfigurableTask

    metrics = ("acc", "acc_norm", "acc_bytes")
    task = ConfigurableTask(
        config={
            "task": "pick",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(place / "test.jsonl")}, "cache_dir": str(place / "cache")},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "question",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in metrics],
        }
    )
    found: dict[str, list[float]] = {name: [] for name in metrics}
    for row in rows:
        answers = [(logprob, False) for logprob in row["logprobs"].values()]
        scored = task.process_results(task.dataset["test"][row["doc_id"]], answers)
        for name in metrics:
            found[name].append(float(scored[name]))
    return found


@pytest.mark.lm_eval
def test_scores_are_those_of_lm_eval_and_chance_stands_beside_them(place: Path, call: Cli) -> None:
    code, said, err = call("run", str(place / "pick.yaml"), "-o", str(place / "out"))
    assert code == 0, err
    with (place / "out" / "results.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["rows"] == "all"]
    scores = {(row["variant"], row["shots"], row["metric"]): float(row["value"]) for row in table}
    assert {row["metric"] for row in table} == {"accuracy", "accuracy_norm", "off_format"}
    store = Store(place / "out")
    grid = store.grid()
    names = {variant.key: variant.name for variant in grid.variants}
    differ = 0
    for cell in grid.cells:
        rows = list(store.predictions(cell.key))
        assert len(rows) == 24
        theirs = by_lm_eval(place, rows)
        of_cell = names.get(cell.variant, cell.variant), str(cell.shots)
        assert scores[(*of_cell, "accuracy")] == pytest.approx(sum(theirs["acc"]) / 24)
        assert scores[(*of_cell, "accuracy_norm")] == pytest.approx(sum(theirs["acc_norm"]) / 24)
        per_byte = [row["response"] == row["target"] for row in rescored(rows, "per_byte")]
        assert per_byte == [bool(right) for right in theirs["acc_bytes"]]
        differ += theirs["acc"] != theirs["acc_norm"]
    assert differ, "the rules choose other options somewhere"
    (test,) = grid.tests
    first = [json.loads(line) for line in (place / "test.jsonl").read_text().splitlines()][:24]
    assert test.kind == "multiple_choice" and test.labels is None
    assert test.chance == pytest.approx(sum(1 / len(row["choices"]) for row in first) / 24)
    assert f"chance {100 * test.chance:.1f}" in said
    page = read_aloud((place / "out" / "report.html").read_text())
    assert f"chance {100 * test.chance:.1f}" in page
    assert '"options":[["' in page, "the examples show the options of each row"


def test_of_equal_scores_the_first_option_counts() -> None:
    row = {"logprobs": {"ab": -2.0, "cd": -2.0, "e": -1.5}, "logprobs_norm": {"ab": -1.0, "cd": -1.0, "e": -1.5}}
    assert likeliest(row, "whole") == "e"
    assert likeliest(row, "per_character") == likeliest(row, "per_token") == "ab"
    assert likeliest({"logprobs": {"éé": -3.0, "no": -2.0}}, "per_character") == "no"
    assert likeliest({"logprobs": {"éé": -3.0, "no": -2.0}}, "per_byte") == "éé"


def test_each_row_asks_for_its_own_options_and_they_are_part_of_its_key(place: Path) -> None:
    encoder = Encoder.load(place / "tiny")
    task = Task("pick", ("prompt",), None, {}, (), (0,), (2,), own_options=True)
    fmt = PromptFormat("p1", "{prompt}")
    rows = [Example(0, {}, "six", options=("six", "One two")), Example(1, {}, "two", options=("two", "three", "ten"))]
    asked = tuple(Question(row, "Say one of these: ", str(row.doc_id)) for row in rows)
    sheet = Sheet("t", task, fmt, 0, 0, asked, (), FREE_TOKENS_OF_OPTIONS)
    requests = requests_for(sheet, sheet.questions, encoder)
    assert [len(request.options) for request in requests] == [2, 3]
    assert requests[0].lengths == ((3, 7), (3, 7))
    assert requests[0].beginnings != requests[1].beginnings
    assert task.chance(rows) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert FIVE["sentiment"].chance(rows) == 0.5 and FIVE["summarisation"].chance(rows) is None


def test_other_options_are_another_question(place: Path, call: Cli) -> None:
    """A stored answer to the same text with other options is not taken for this one."""
    keys = []
    for name, options in (("one", ["six", "ten"]), ("two", ["six", "nine"])):
        (place / f"{name}.jsonl").write_text(json.dumps({"question": "Q", "choices": options, "answer": 0}) + "\n")
        text = f"model: ./tiny\ndatasets:\n  pick: {{test: {name}.jsonl, shots: [0]}}\ntest: {{prompts: [p1]}}\n"
        (place / f"{name}.yaml").write_text(text)
        assert call("plan", str(place / f"{name}.yaml"), "--write", str(place / name))[0] == 0
        (cell,) = Store(place / name).grid().cells
        keys.append(cell.key)
    assert keys[0] != keys[1]
