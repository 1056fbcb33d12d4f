"""Tasks of lm-evaluation-harness as test sets, in every format of `export`: the numbers are those of the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinyruns
import usertasks
from commandline import Cli
from huggingface_hub import ModelCard

import spillover as so
from spillover.analysis import table
from spillover.analysis.results import Results
from spillover.analysis.summaries import matrix

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.lm_eval

ASKED = ["choice", "writing", "own_scores", "bleu"]  # own_scores gives some documents no score for their words
TUNED = "parity-ft"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base and a training, on four tasks and a test set of our own."""
    place = tmp_path_factory.mktemp("exported")
    path = tinyruns.write_experiment(place)
    tasks = [str(file) for file in usertasks.write_tasks(place / "tasks", ASKED)]
    path.write_text(
        "model: ./tiny\nprecision: float32\ndatasets:\n"
        "  parity: {train: train.jsonl, test: test.jsonl, labels: [' four', ' five']}\n"
        "train: {strategies: ft, learning_rate: 1e-2, batch_size: 12}\n"
        f"test: {{lm_eval: {json.dumps(tasks)}, shots: [1], limit: 9}}\n"
    )
    return so.run(path, output_path=place / "out").folder


@pytest.fixture(scope="module")
def results(ran: Path) -> Results:
    return table.load(ran)


def rows_of(results: Results) -> Iterator[dict[str, Any]]:
    """The rows of the table that are of these tasks and have an interval."""
    df = results.df
    yield from df[df["test_dataset"].isin(ASKED) & df["ci_low"].notna()].to_dict("records")


def export(call: Cli, ran: Path, form: str, place: Path) -> str:
    code, said, error = call("export", str(ran), "--format", form, "--output", str(place))
    assert code == 0, error
    return said


def test_tasks_leave_them_out_with_a_line(ran: Path, tmp_path: Path, call: Cli) -> None:
    said = export(call, ran, "lm-eval-tasks", tmp_path)
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {"parity_p1"}
    [line] = [line for line in said.splitlines() if line.startswith("Left out")]
    assert all(name in line for name in ASKED)
    only = call("export", str(ran), "--format", "lm-eval-tasks", "--test", "choice")
    assert only[0] == 2 and only[2].count("\n") == 1


def test_results_of_lm_eval_have_each_score(ran: Path, results: Results, tmp_path: Path, call: Cli) -> None:
    export(call, ran, "lm-eval-results", tmp_path)
    compared = 0
    for row in rows_of(results):
        [file] = tmp_path.glob(f"{row['shots']}-shot/{row['variant']}/results_*.json")
        own = json.loads(file.read_text("utf-8"))["results"][f"{row['test_dataset']}_lm_eval"]
        assert own[row["metric"]] == pytest.approx(row["value"], abs=1e-12)
        compared += 1
    assert compared >= 2 * 8
    [file] = tmp_path.glob(f"1-shot/{TUNED}/samples_own_scores_lm_eval_*.jsonl")
    samples = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    [words] = [r for r in rows_of(results) if (r["variant"], r["metric"]) == (TUNED, "has_word,none")]
    assert 0 < words["n"] == sum(sample["has_word"] is not None for sample in samples) < len(samples) == 9


def test_every_eval_ever_has_each_score_and_its_n(ran: Path, results: Results, tmp_path: Path, call: Cli) -> None:
    export(call, ran, "every-eval-ever", tmp_path)
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for path in tmp_path.glob("data/*/*/*/*.json"):
        log = json.loads(path.read_text("utf-8"))
        variant = TUNED if log["model_info"]["name"] == TUNED else "base"
        for one in log["evaluation_results"]:
            details = one["score_details"]
            key = variant, one["evaluation_name"], one["metric_config"]["metric_id"]
            found.setdefault(key, []).append((details["score"], details["uncertainty"]["num_samples"]))
    for row in rows_of(results):
        [(score, n)] = found[row["variant"], row["test_dataset"], row["metric"]]
        assert (score, n) == (pytest.approx(row["value"], abs=1e-12), row["n"])


def test_a_card_has_the_first_score_of_each(ran: Path, results: Results, tmp_path: Path, call: Cli) -> None:
    export(call, ran, "card", tmp_path)
    data = ModelCard((tmp_path / TUNED / "README.md").read_text("utf-8")).data
    found = {one.dataset_name: one.metric_value for one in data.eval_results or ()}
    for name in ASKED:
        assert found[name] == pytest.approx(matrix(results)[TUNED, name].score, abs=1e-6)


def test_scores_without_texts_give_the_same_table(ran: Path, results: Results, tmp_path: Path, call: Cli) -> None:
    export(call, ran, "scores", tmp_path / "scores.json")
    assert call("import", str(tmp_path / "scores.json"), str(tmp_path / "again"))[0] == 0
    assert table.as_csv(table.load(tmp_path / "again").df) == table.as_csv(results.df)
    texts = [row["said"] for row in usertasks.rows(20, 1)]
    content = (tmp_path / "scores.json").read_text("utf-8")
    assert not [text for text in texts if text in content]
