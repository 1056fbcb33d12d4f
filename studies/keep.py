"""Keep what may be published of a study's output folder: tables, claims, figures, receipts, and scores without texts.

    python studies/keep.py runs/frontier-screen studies/frontier/screen

It holds no row of the data. From `scores.json.xz`, `spillover import` makes a folder that a run goes on from.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path


def spillover(*words: str) -> str:
    """What a command of spillover prints."""
    return subprocess.run(
        [sys.executable, "-m", "spillover", *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def keep(run: Path, place: Path) -> None:
    """Write the files of the study. `run` is an output folder, finished or not."""
    place.mkdir(parents=True, exist_ok=True)
    spillover("report", str(run))
    for table in sorted(run.glob("*.csv")):
        shutil.copy(table, place / table.name)
    (place / "claims.json").write_text(spillover("claims", str(run), "--format", "json"))
    shutil.rmtree(place / "figures", ignore_errors=True)
    (place / "figures").mkdir()
    for figure in sorted((run / "figures").glob("*.svg")):
        shutil.copy(figure, place / "figures" / figure.name)
    receipts = {path.parent.name: json.loads(path.read_text()) for path in sorted(run.glob("variants/*/receipt.json"))}
    (place / "receipts.json").write_text(json.dumps(receipts, indent=1, sort_keys=True) + "\n")
    spillover("export", str(run), "--format", "scores", "--output", str(place / "scores.json.xz"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("place", type=Path)
    keep(**vars(parser.parse_args()))
