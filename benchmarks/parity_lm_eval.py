"""Parity with lm-evaluation-harness: accuracy and log-probabilities, cell by cell.

Three of the study's tests at 0 and at 4 shots, in float32. spillover's shared engine and lm-eval's Hugging Face backend
get the very same texts, as in score_vs_lm_eval.py; the time is not looked at. Prints a Markdown table: the accuracy of
both, the largest difference of a label's log-probability, and how many rows are answered otherwise.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import common
import measure
from score_vs_lm_eval import ours, theirs, tokenised

HEAD = ("cell", "n", "accuracy: lm-eval", "spillover", "largest log-probability difference", "answers that differ")


class Parity(NamedTuple):
    """What both sides say of one cell; the names of its fields are in HEAD."""

    cell: str
    n: int
    theirs: float
    ours: float
    difference: float
    flips: int

    def written(self) -> list[str]:
        scores = [f"{self.theirs:.4f}", f"{self.ours:.4f}"]
        return [self.cell, str(self.n), *scores, f"{self.difference:.1e}", str(self.flips)]


def by_cell(units: Sequence[common.Unit], mine: measure.Scores, other: measure.Scores) -> Iterator[Parity]:
    """Scores stand in the order of the units' work, cell after cell."""
    work = [(f"{unit.name}, {sheet.shots} shots", sheet, row) for unit in units for sheet, row in unit.work]
    for name, cell in groupby(zip(work, mine, other, strict=True), key=lambda asked: asked[0][0]):
        asked, here, there = zip(*cell, strict=True)
        targets = [sheet.task.labels.index(row.example.target) for _, sheet, row in asked]
        both = accuracy(there, targets), accuracy(here, targets)
        yield Parity(name, len(targets), *both, *measure.differences(here, there))


def accuracy(scores: measure.Scores, targets: Sequence[int]) -> float:
    return sum(measure.answer(row) == target for row, target in zip(scores, targets, strict=True)) / len(targets)


def table(cells: Sequence[Parity]) -> str:
    """Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *(cell.written() for cell in cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = common.parser(__doc__, rows=32, tests=["sst2", "rte", "multinli"], prompts=["p1"])
    parser.set_defaults(shots=[0, 4], dtype="float32")
    args = parser.parse_args()
    measure.need(args, "lm_eval")
    mine, other = measure.two_sides(args, {"spillover": ours, "lm-eval": theirs})
    cells = list(by_cell(common.make_units(args), mine["answers"], other["answers"]))
    told = {"tokenised": tokenised(mine, other), "machine": mine["machine"], "command": shlex.join(sys.argv)}
    print(table(cells), "", *(f"{what}: {how}" for what, how in told.items()), sep="\n")
    measure.write_json(args.json, {"cells": [cell._asdict() for cell in cells], **told})


if __name__ == "__main__":
    main()
