"""A run that is killed at any moment, and started again by the same command, comes to the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tinyruns import write_experiment

import spillover

pytestmark = pytest.mark.slow

PACKAGE = Path(spillover.__file__).resolve().parent
KILLS = 20
LONGEST_S = 3.0  # from the first sign of work to the kill
SIGNS = ("variants/*.making/checkpoints/*", "partial/*.jsonl", "cells/*", "inside/*.json", "variants/*/receipt.json")


def start(place: Path, out: str) -> subprocess.Popen[bytes]:
    """The run, with a checkpoint after every step of its trainings."""
    environment = {**os.environ, "SPILLOVER_CHECKPOINT_S": "0", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    command = [sys.executable, "-m", "spillover", "run", "twice.yaml", "-o", out]
    with (place / f"{out}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)


def signs(folder: Path) -> set[tuple[str, int]]:
    """What a run leaves while it works."""
    found = set()
    for path in (path for pattern in SIGNS for path in folder.glob(pattern)):
        try:
            found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Everything that must not depend on when a run was killed."""
    patterns = ("cells/*/predictions.jsonl", "variants/*/*.safetensors", "results.csv", "effects.csv", "grid.json")
    return {str(path.relative_to(folder)): path.read_bytes() for one in patterns for path in folder.glob(one)}


def test_killed_twenty_times_it_comes_to_the_same_bytes(tmp_path: Path) -> None:
    rng = random.Random(20)
    write_experiment(tmp_path)
    assert start(tmp_path, "whole").wait(600) == 0, (tmp_path / "whole.log").read_text()
    at_work = 0
    for _ in range(KILLS):
        before, process = signs(tmp_path / "cut"), start(tmp_path, "cut")
        while process.poll() is None and signs(tmp_path / "cut") <= before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, LONGEST_S))
        at_work += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(tmp_path, "cut").wait(600) == 0, (tmp_path / "cut.log").read_text()
    assert "Traceback" not in (tmp_path / "cut.log").read_text()
    assert at_work >= 5, "most kills came after the end of the work"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert not list((tmp_path / "cut").rglob("*.making")) and not list((tmp_path / "cut" / "partial").iterdir())
