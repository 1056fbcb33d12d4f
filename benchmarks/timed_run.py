"""`spillover run` of an experiment for a limited time; then its scores are written, from which another run goes on.

    python benchmarks/timed_run.py --study FILE --seconds 200 --keep DIR

What is finished in `--work` is not done again. When the time is over the run is stopped as by Ctrl-C. `--keep` gets
what `spillover export --format scores` writes: no texts and no weights.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

import common  # noqa: F401  (it makes the package importable)
import measure
from scripts import in_time

ROOT = Path(__file__).resolve().parents[1]
GRACE = 20.0  # seconds to stop in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="the experiment's YAML")
    parser.add_argument("--work", type=Path, help="the folder of the run; default: runs/<FILE's name>")
    parser.add_argument("--seconds", type=float, required=True, help="of the run")
    parser.add_argument("--keep", type=Path, required=True, help="where its scores go")
    parser.add_argument("--data-dir", type=Path, help="the study's release folder")
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args()
    work = args.work or Path("runs", args.study.stem)
    began = time.monotonic()
    data = ["--data-dir", str(args.data_dir)] if args.data_dir else []
    code, printed, errors = spillover("run", str(args.study), "-o", str(work), *data, seconds=args.seconds)
    if code not in (0, None):
        sys.exit(errors.strip() or printed.strip() or f"exit code {code}")
    ended = "it is whole" if code == 0 else "stopped when the time was over"
    _, status, _ = spillover("status", str(work))
    exported, _, why_not = spillover("export", str(work), "--format", "scores", "-o", str(args.keep))
    print(status + (why_not if exported else ""))
    counts = re.findall(r"^\S+ +(\d+) of (\d+)", status, re.MULTILINE)
    cells = " of ".join(str(sum(map(int, column))) for column in zip(*counts, strict=True))
    found = {"time": f"{time.monotonic() - began:.0f} s, {ended}", "cells": cells}
    measure.write_json(args.json, {"facts": found, "whole": code == 0})


def spillover(*words: str, seconds: float | None = None) -> tuple[int | None, str, str]:
    """(exit code, stdout, stderr) of a command of the package; the code is None if it was stopped after `seconds`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return in_time([sys.executable, "-m", "spillover", *words], seconds, environment, GRACE)


if __name__ == "__main__":
    main()
