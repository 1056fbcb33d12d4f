"""Results in the schema of Every Eval Ever: its own validator accepts them, and the numbers are the report's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commandline import Cli

from spillover.analysis import table
from spillover.analysis.harness import metric_of
from spillover.interop import every_eval_ever
from spillover.interop.scored import Scored

WHEEL = "every-eval-ever==0.3.0"  # it asks for Python 3.12 and other libraries; its validator alone needs neither


@pytest.fixture
def written(folder: Path, tmp_path: Path, call: Cli) -> Path:
    words = ("--test", "shop", "--test", "news", "--output", str(tmp_path / "out"))
    code, said, _ = call("export", str(folder), "--format", "every-eval-ever", *words)
    assert code == 0 and "validate" in said.splitlines()[-1]
    return tmp_path / "out"


def logs(written: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(written.glob("data/*/*/*/*.json"))]


def test_every_score_and_interval_is_that_of_the_table(folder: Path, written: Path) -> None:
    df = table.load(folder).df
    df = df[(df["rows"] == "all") & df["test_dataset"].isin(["shop", "news"])]
    wanted = {
        (r["variant"], r["test_dataset"], f"{r['metric']}/{r['shots']}-shot/{r['prompt']}/draw-{r['draw']}"): r
        for r in df.to_dict("records")
    }
    for log in logs(written):
        variant = log["model_info"]["name"] if log["model_info"]["id"].startswith("local/") else "base"
        for result in log["evaluation_results"]:
            row = wanted.pop((variant, result["evaluation_name"], result["evaluation_result_id"]))
            interval = result["score_details"]["uncertainty"]["confidence_interval"]
            assert result["score_details"]["score"] == pytest.approx(row["value"], abs=1e-12)
            assert (interval["lower"], interval["upper"]) == (row["ci_low"], row["ci_high"])
    assert not wanted


def test_the_rows_of_a_result_give_its_score(written: Path) -> None:
    (log,) = (
        one for one in logs(written) if one["model_info"]["name"] == "shop-ft" and "shop/" in one["evaluation_id"]
    )
    lines = (written / log["detailed_evaluation_results"]["file_path"]).read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == log["detailed_evaluation_results"]["total_rows"]
    for result in log["evaluation_results"]:
        own = [r["evaluation"]["score"] for r in rows if r["evaluation_result_id"] == result["evaluation_result_id"]]
        if result["metric_config"]["metric_id"] == "accuracy":
            assert sum(own) / len(own) == pytest.approx(result["score_details"]["score"])


def test_a_row_is_correct_if_its_score_says_so(written: Path) -> None:
    (log,) = (
        one for one in logs(written) if one["model_info"]["name"] == "shop-ft" and "shop/" in one["evaluation_id"]
    )
    lines = (written / log["detailed_evaluation_results"]["file_path"]).read_text("utf-8").splitlines()
    first = json.loads(lines[0])
    said = {"doc": {"text": "1 + 1"}, "doc_id": 0, "prompt_hash": "", "target": "2", "response": "So it is 2."}
    rows_of = [{**said, "doc_id": number} for number in range(3)]  # the last has no score
    cell: Any = SimpleNamespace(rows=rows_of, prompts={}, row_scores=lambda metric: {0: 1.0, 1: 0.0})
    cell.cell, cell.test = SimpleNamespace(condition=("sums", "p1", 0, 0)), SimpleNamespace(name="sums")
    rows = list(every_eval_ever._rows(cell, metric_of("exact_match,flexible-extract|share"), log))
    assert [row["evaluation"] for row in rows] == [
        {"score": 1.0, "is_correct": True},
        {"score": 0.0, "is_correct": False},
    ]
    assert first.keys() == rows[0].keys()


def test_a_score_that_is_no_finite_number_is_left_out_with_a_line(
    folder: Path, tmp_path: Path, call: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scored, "score", lambda self, metric: inf if metric.name == "bleu" else 0.5)
    words = ("--test", "news", "--output", str(tmp_path / "out"))
    code, said, _ = call("export", str(folder), "--format", "every-eval-ever", *words)
    lines = [line for line in said.splitlines() if "bleu/" in line]
    found = {one["metric_config"]["metric_id"] for log in logs(tmp_path / "out") for one in log["evaluation_results"]}
    assert code == 0 and lines and "bleu" not in found and "rougeL" in found


@pytest.mark.slow
def test_its_own_validator_has_no_error_and_no_warning(written: Path, tmp_path: Path) -> None:
    for_it = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--dest", str(tmp_path / "wheel")]
    got = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", *for_it, WHEEL], capture_output=True, text=True
    )
    if got.returncode:
        pytest.skip(f"the validator cannot be fetched here: {got.stderr[-200:]}")
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "package")
    files = [str(path.relative_to(written)) for path in sorted(written.rglob("*.json*"))]
    command = [sys.executable, "-m", "every_eval_ever.validator.cli", "--format", "json", *files]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "package")}
    done = subprocess.run(command, cwd=written, env=env, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert [one["errors"] + one["warnings"] for one in found] == [[]] * len(files)
    assert done.returncode == 0 and len(files) >= 20 and all(one["valid"] for one in found)
