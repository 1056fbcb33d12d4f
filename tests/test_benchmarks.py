"""The benchmark scripts start, say what they compare, and end well where a peer is missing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchscripts import BENCHMARKS, load, tiny_study

SHARED = ("common", "measure", "meter", "scripts", "simulated", "carry")
SCRIPTS = sorted(path.name for path in BENCHMARKS.glob("*.py") if path.stem not in SHARED)


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_says_what_it_compares(script: str) -> None:
    ran = run(script, "--help")
    assert ran.returncode == 0, ran.stderr
    assert "usage:" in ran.stdout


@pytest.mark.parametrize(
    ("script", "peer"),
    [
        ("score_vs_lm_eval.py", "lm_eval"),
        ("parity_lm_eval.py", "lm_eval"),
        ("lm_eval_command.py", "lm_eval"),
        ("train_vs_trl.py", "trl"),
    ],
)
def test_a_missing_peer_is_said_and_is_no_failure(script: str, peer: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(peer):
        pytest.skip(f"{peer} is installed")
    ran = run(script, "--json", str(tmp_path / "out.json"))
    assert (ran.returncode, ran.stdout) == (0, f"skipped: {peer} is not installed\n")
    assert json.loads((tmp_path / "out.json").read_text()) == {"skipped": f"{peer} is not installed"}


def test_the_default_test_sets_are_the_studys(monkeypatch: pytest.MonkeyPatch) -> None:
    from spillover.experiment.suite import load_suite

    common = load("common", monkeypatch)
    tested = {name for name, spec in load_suite("paper").datasets.items() if spec.test and spec.demos}
    assert {*common.CLASSIFICATION, *common.GENERATION} == tested
    assert len(common.CLASSIFICATION) == 11


def test_scores_are_compared_by_value_and_by_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = load("measure", monkeypatch).compare_scores
    told = compare([[-1.0, -2.0], [-3.0, -2.5]], [[-1.0, -2.0], [-3.0, -3.5]])
    assert told == "max |dlogprob| 1.0e+00, 1 of 2 answers differ"


def test_parity_is_counted_cell_by_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cells of one unit, in the order of its work: the second answers a row otherwise, and rightly."""
    parity = load("parity_lm_eval", monkeypatch)
    sheets = [SimpleNamespace(shots=shots, task=SimpleNamespace(labels=("no", "yes"))) for shots in (0, 4)]
    rows = [SimpleNamespace(example=SimpleNamespace(target=target)) for target in ("yes", "no")]
    unit = SimpleNamespace(name="t/p1", work=[(sheet, row) for sheet in sheets for row in rows])
    mine = [[-1.0, -0.5], [-0.5, -1.0], [-1.0, -0.5], [-0.5, -1.0]]
    other = [[-1.0, -0.5], [-0.5, -1.0], [-1.0, -1.5], [-0.5, -1.25]]
    cells = list(parity.by_cell([unit], mine, other))
    assert cells == [("t/p1, 0 shots", 2, 1.0, 1.0, 0.0, 0), ("t/p1, 4 shots", 2, 0.5, 1.0, 1.0, 1)]
    assert parity.table(cells).splitlines()[2:] == [
        "| t/p1, 0 shots | 2 | 1.0000 | 1.0000 | 0.0e+00 | 0 |",
        "| t/p1, 4 shots | 2 | 0.5000 | 1.0000 | 1.0e+00 | 1 |",
    ]


@pytest.mark.lm_eval
@pytest.mark.skipif(not importlib.util.find_spec("lm_eval"), reason="lm_eval is not installed")
def test_a_tiny_model_says_the_same_to_both(tmp_path: Path, smollm2: Path) -> None:
    options = [*tiny_study(tmp_path, smollm2), "--json", str(tmp_path / "out.json")]
    ran = run("parity_lm_eval.py", *options, "--tests", "multinli", "--rows", "3", "--dtype", "float32")
    assert ran.returncode == 0, ran.stderr
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["tokenised"] == "ids differ in 0 and cuts in 0 of 18 texts"
    for cell in told["cells"]:
        assert (cell["n"], cell["theirs"], cell["flips"]) == (3, cell["ours"], 0)
        assert cell["difference"] < 1e-4


@pytest.mark.slow
def test_a_grid_is_measured_from_its_plan_to_its_report(smollm2: Path) -> None:
    """Every step of a small one works, and the cells that are written count."""
    ran = run("grid_size.py", "10x1", "--rows", "4")
    assert ran.returncode == 0, ran.stderr
    assert "100 cells written" in ran.stderr
    steps = [line.split(" | ")[1] for line in ran.stdout.splitlines() if line.startswith("| 110 ")]
    assert steps == ["plan", "plan --write", "status", "work --next, until it computes", "report"]


def test_the_table_holds_ratios_skips_failures_and_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"aim": "4x or more", "times": "1 s, 4 s", "memory": "1 GB", "parity": "max |d| 0"}
    text = load("scripts", monkeypatch).table(
        [
            ("a", "python a.py", {**words, "ratio": 4.321, "detail": "d", "machine": "M"}),
            ("b", "python b.py", {"skipped": "no peer"}),
            ("c", "python c.py", {"failed": "x | y"}),
        ]
    )
    assert "| a | 4.32x | 4x or more | 1 s, 4 s | 1 GB | max \\|d\\| 0 |" in text
    assert "| b | skipped: no peer |" in text
    assert "| c | failed: x / y |" in text
    assert "Machine: M." in text
    assert "    python c.py" in text
