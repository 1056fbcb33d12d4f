"""Protocols: what each switch between `sound` and `paper` moves, alone, on the base model. A Markdown table.

The experiment runs under `sound`, then with one switch set otherwise, for every switch, and last under `paper`: each
time a `spillover run` with another `--set protocol=`, all into one folder, so that what a switch leaves alone is not
computed again. An entry is the change of a test set's first metric over all its shot counts and prompt formats, in
points, with the 95 % bootstrap interval over documents. Documents are paired; one that only one side scores counts on
that side alone. `=`: not one score of a row has changed. Nothing is trained, so switches of training move nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np

TESTS = ["rte", "sst2", "multinli", "stsb", "socialqa"]
Scores = dict[str, Any]  # test set -> RowStatistics of its first metric, pooled


def middle_shots(test: str) -> int:
    """The middle of the shot counts that the study asks of a test set's task, 0 aside."""
    from spillover.experiment.suite import load_suite
    from spillover.text.task import FIVE

    shots = [k for k in FIVE[load_suite("paper").datasets[test].task or ""].shots if k]
    return shots[len(shots) // 2]


def groups(args: argparse.Namespace) -> list[tuple[list[int], list[str]]]:
    """Test sets by the shot counts that they are asked at: those given, or 0 and the middle ones of their task."""
    found: dict[tuple[int, ...], list[str]] = {}
    for test in args.tests:
        found.setdefault(tuple(args.shots or (0, middle_shots(test))), []).append(test)
    return [(list(shots), tests) for shots, tests in found.items()]


def protocols() -> list[str]:
    """`sound`, every switch alone, `paper`; as the command line takes them."""
    from spillover.experiment.protocol import PAPER, SOUND, Protocol

    values = {name: getattr(PAPER, name) for name in Protocol.model_fields} | {"demo_joint": "apart"}
    return [SOUND.name, *(Protocol(**{name: value}).name for name, value in values.items()), PAPER.name]


def scores(args: argparse.Namespace, protocol: str, folder: Path) -> tuple[Scores, dict[str, Any]]:
    """The rows of every test set under a protocol, and their metrics."""
    import spillover as so
    from spillover.analysis.metrics import METRICS
    from spillover.analysis.rows import pool

    found: Scores = {}
    metrics = {}
    for shots, tests in groups(args):
        test = {"datasets": tests, "shots": shots, "prompts": args.prompts, "limit": args.rows}
        file = folder / "experiment.yaml"
        file.write_text(json.dumps({"model": args.model, "suite": "paper", "precision": args.dtype, "test": test}))
        overrides = [f"protocol={protocol}"]
        result = so.run(file, overrides, data_dir=args.data_dir, output_path=folder / "out")
        table = result.table
        if result.failures or table.missing or len(table.grid.tests) < len(tests):
            sys.exit("; ".join([*result.failures, *map(str, table.grid.warnings)]) or "cells are missing")
        for info in table.grid.tests:
            cells = [cell.key for cell in table.grid.cells if cell.test == info.name]
            found[info.name] = pool([table.first_metric[key] for key in cells])
            metrics[info.name] = METRICS[info.metrics[0]]
    return found, metrics


def change(metric: Any, ours: Any, theirs: Any) -> tuple[float, float, float] | None:
    """Ours less theirs with its interval, over the documents of either; None where every row is the same."""
    from spillover.stats.intervals import replicates

    docs = np.union1d(ours.doc_ids, theirs.doc_ids)
    both = np.zeros((len(docs), 2, ours.statistics.shape[1]))
    for side, rows in enumerate((ours, theirs)):
        both[np.searchsorted(docs, rows.doc_ids), side] = rows.statistics
    if np.array_equal(both[:, 0], both[:, 1]):
        return None
    ours_now, theirs_now = metric.score(both.sum(axis=0))
    draws = replicates(both, metric.score)
    low, high = np.nanquantile(draws[:, 0] - draws[:, 1], [0.025, 0.975])
    return float(ours_now - theirs_now), float(low), float(high)


def entry(metric: Any, ours: Any, theirs: Any) -> str:
    moved = change(metric, ours, theirs)
    if moved is None:
        return "="
    value, low, high = (f"{100 * one:+.1f}".replace("-", "−") for one in moved)
    n = "" if len(ours.doc_ids) == len(theirs.doc_ids) else f", n {len(ours.doc_ids)}"
    return f"{value} [{low}, {high}]{n}"


def table(metrics: dict[str, Any], sound: Scores, others: dict[str, Scores]) -> str:
    heads = [f"{test} ({metrics[test].title}, n {len(rows.doc_ids)})" for test, rows in sound.items()]
    lines = ["| protocol | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    was = [f"{100 * float(metrics[test].score(rows.statistics.sum(axis=0))):.1f}" for test, rows in sound.items()]
    lines.append("| sound | " + " | ".join(was) + " |")
    for name, found in others.items():
        cells = [entry(metrics[test], found[test], rows) for test, rows in sound.items()]
        lines.append(f"| {name.removeprefix('sound + ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    options = common.parser(__doc__, tests=TESTS)
    options.add_argument("--output", type=Path, help="keep the cells in this folder; given again, they are found")
    args = options.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as place:
        folder = args.output or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        names = protocols()
        sound, metrics = scores(args, names[0], folder)
        others = {}
        for name in names[1:]:
            others[name] = scores(args, name, folder)[0]
            print(f"{name}: done", file=sys.stderr, flush=True)
    text = table(metrics, sound, others)
    print(text)
    if args.json:
        moved = {
            name: {test: change(metrics[test], found[test], rows) for test, rows in sound.items()}
            for name, found in others.items()
        }
        args.json.write_text(json.dumps({"table": text, "change": moved}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
