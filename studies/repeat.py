"""Repeat the first cells of a study's base model in float32, and compare them with what is kept of them here.

    python studies/repeat.py studies/frontier/screen.yaml
    python studies/repeat.py studies/paper/experiment.yaml --data-dir PATH/TO/RELEASE

Each answer has to be the same, and each log-probability of a label within 1e-4. What is kept beside the experiment file
(`NAME.base.json`) holds no text: answers are kept as hashes. `--write` makes that file anew. Exit code 1: it differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import spillover
from spillover.store.store import Store

ROWS = 8  # of each test set
NEAR = 1e-4  # nats
ONLY_BASE = ("train.strategies=[]", "train.datasets=[]", "precision=float32", f"test.limit={ROWS}", "test.shots=[0]")

Cells = dict[str, dict[str, Any]]


def first_cells(path: Path, data_dir: Path | None) -> Cells:
    """The base's answers and log-probabilities, by condition and document."""
    with tempfile.TemporaryDirectory() as folder:
        spillover.run(path, ONLY_BASE, data_dir, folder)
        store, found = Store(Path(folder)), {}
        for cell in store.grid().cells:
            name = f"{cell.test}, {cell.prompt}, {cell.shots} shots"
            found[name] = {str(row["doc_id"]): _kept(row) for row in store.predictions(cell.key)}
    return found


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    answer = sha256(row["response"].encode()).hexdigest()[:16]
    return {"answer": answer, "logprobs": [round(x, 6) for x in (row.get("logprobs") or {}).values()]}


def differences(ours: Cells, kept: Cells) -> list[str]:
    """A line for each cell or row that is not the same."""
    lines = [f"{name}: only on one side" for name in ours.keys() ^ kept.keys()]
    for name in ours.keys() & kept.keys():
        lines += [f"{name}: other rows"] if ours[name].keys() != kept[name].keys() else []
        for row in ours[name].keys() & kept[name].keys():
            a, b = ours[name][row], kept[name][row]
            gap = max((abs(x - y) for x, y in zip(a["logprobs"], b["logprobs"], strict=True)), default=0.0)
            if a["answer"] != b["answer"] or gap > NEAR:
                lines.append(
                    f"{name}, row {row}: answer {'as kept' if a['answer'] == b['answer'] else 'differs'}, {gap:.1g}"
                )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    path = asked.experiment.with_suffix(".base.json")
    if not asked.write and not path.is_file():
        parser.error(f"nothing is kept of {asked.experiment}: {path} is missing; --write makes it")
    ours = first_cells(asked.experiment, asked.data_dir)
    if asked.write:
        path.write_text(json.dumps(ours, sort_keys=True) + "\n")
        print(f"Wrote {path}")
        return 0
    lines = differences(ours, json.loads(path.read_text()))
    rows = sum(map(len, ours.values()))
    largest = "the same answers, log-probabilities within 1e-4" if not lines else f"{len(lines)} differ"
    print("\n".join([*lines, f"{len(ours)} cells of the base, {rows} rows: {largest}"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
