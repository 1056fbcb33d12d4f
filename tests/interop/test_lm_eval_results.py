"""A run's answers in the layout of lm-evaluation-harness: read again, they give the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commandline import Cli

from spillover.analysis import table
from spillover.analysis.harness import metric_of
from spillover.interop import lm_eval_results
from spillover.interop.compare import compare

BASE, OTHER = "base", "shop-ft"


@pytest.fixture
def written(folder: Path, tmp_path: Path, call: Cli) -> Path:
    code, said, _ = call("export", str(folder), "--format", "lm-eval-results", "--output", str(tmp_path / "out"))
    assert code == 0 and said.splitlines()[-1].startswith("Next: spillover compare ")
    return tmp_path / "out"


def sample_file(written: Path, variant: str, task: str) -> str:
    (path,) = written.glob(f"2-shot/{variant}/samples_{task}_*.jsonl")
    return str(path)


@pytest.mark.parametrize(("test", "metric", "there"), [("shop", "accuracy", "acc"), ("news", "rougeL", "rougeL")])
def test_compare_reads_the_numbers_back(folder: Path, written: Path, test: str, metric: str, there: str) -> None:
    ours = compare(f"{folder}:{BASE}", f"{folder}:{OTHER}", metric)
    (own,) = (r for r in ours.rows if dict(r.setting) == {"test_dataset": test, "shots": 2, "prompt": "p1", "draw": 0})
    files = (sample_file(written, variant, f"{test}_p1") for variant in (BASE, OTHER))
    (again,) = compare(*files, there).rows
    assert (again.n, again.value_a, again.value_b, again.delta) == (own.n, own.value_a, own.value_b, own.delta)
    assert (again.gained, again.lost, again.interval) == (own.gained, own.lost, own.interval)
    assert again.other_prompts == 0 and own.delta != 0


def test_the_results_file_has_every_score_of_the_table(folder: Path, written: Path) -> None:
    df = table.load(folder).df
    for row in df[(df["shots"] == 2) & (df["rows"] == "all")].to_dict("records"):
        (path,) = written.glob(f"2-shot/{row['variant']}/results_*.json")
        scores = json.loads(path.read_text("utf-8"))["results"][f"{row['test_dataset']}_{row['prompt']}"]
        name = {"accuracy": "acc"}.get(row["metric"], row["metric"])
        assert scores[f"{name},none"] == pytest.approx(row["value"], abs=1e-12)


def test_one_variant_and_one_test_set(folder: Path, tmp_path: Path, call: Cli) -> None:
    words = ("--variant", BASE, "--test", "quiz", "--output", str(tmp_path / "one"))
    assert call("export", str(folder), "--format", "lm-eval-results", *words)[0] == 0
    names = {path.name.split("_20")[0] for path in (tmp_path / "one").rglob("*.jsonl")}
    assert names == {"samples_quiz_p1", "samples_quiz_p2"}
    assert {path.name for path in (tmp_path / "one" / "0-shot").iterdir()} == {BASE}


def test_nothing_but_the_output_changes(folder: Path, tmp_path: Path, call: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.name.startswith("rows-")}
    call("export", str(folder), "--format", "lm-eval-results", "--output", str(tmp_path / "out"))
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.name.startswith("rows-")}
    assert {p: t for p, t in after.items() if p.is_file()} == {p: t for p, t in before.items() if p.is_file()}


def test_an_unknown_variant_is_one_line(folder: Path, call: Cli) -> None:
    code, _, error = call("export", str(folder), "--format", "lm-eval-results", "--variant", "shop")
    assert code == 2 and "no variant 'shop'" in error and error.count("\n") == 1


def test_each_filter_of_a_task_has_its_own_rows(tmp_path: Path) -> None:
    metrics = [metric_of(f"exact_match,{name}|share") for name in ("strict-match", "flexible-extract")]
    values = [{0: 0.0, 1: 1.0, 2: 0.0}, {0: 1.0, 1: 1.0, 2: 0.0}]
    scores = dict(zip([metric.name for metric in metrics], values, strict=True))
    rows = [
        {"doc_id": i, "doc": {"q": f"{i} + 1"}, "target": f"{i + 1}", "prompt_hash": "", "responses": ["1"]}
        for i in range(3)
    ]
    cell: Any = SimpleNamespace(metrics=metrics, rows=rows, prompts={}, row_scores=lambda metric: scores[metric.name])
    samples = list(lm_eval_results._samples(cell))
    path = tmp_path / "samples_gsm8k.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    found = {dict(row.setting)["filter"]: row.value_a for row in compare(str(path), str(path), "exact_match").rows}
    assert found == pytest.approx({"strict-match": 1 / 3, "flexible-extract": 2 / 3})


def test_type_and_direction_are_those_of_the_task() -> None:
    responses = {
        "generate_until": [" 4"],
        "loglikelihood_rolling": [-3.5],
        "loglikelihood": [[-3.5, True]],
        "multiple_choice": [[-3.5, True], [-2.5, False]],
    }
    assert all(lm_eval_results._output_type({"responses": given}) == name for name, given in responses.items())
    higher = {"word_perplexity,none|weighted_perplexity|lower": False, "acc,none|share": True, "off_format": False}
    assert {name: metric_of(name).higher_is_better for name in higher} == higher
