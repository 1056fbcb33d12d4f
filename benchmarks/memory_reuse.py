"""Reading prompts with memory as a run takes it, against the C library's and PyTorch's defaults.

Both sides are the shared engine; what differs is `spillover.engine.memory.reuse_memory`. Answers end at their first
token: what remains is the passes over the prompts. A page fault is a page that the system hands out, filled with zeros.
"""

from __future__ import annotations

import argparse
import resource
from typing import Any

import common
import measure
from meter import Meter


def side(reuse: bool) -> measure.Side:
    def work(args: argparse.Namespace) -> dict[str, Any]:
        units = common.make_units(args)
        engine = common.load_engine(args, units, reuse=reuse)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        firsts: list[tuple[int, ...]] = []
        with Meter() as meter:
            for unit in units:
                answers = dict(engine.run(unit.requests(), lambda ids: True))
                firsts += [answers[i].generated for i in range(len(answers))]
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return {**meter.result(), "answers": firsts, "faults": faults, "tokens": engine.work.tokens}

    return work


def main() -> None:
    args = common.parser(__doc__, rows=8, tests=["xsum"], prompts=["p1"]).parse_args()
    mine, other = measure.two_sides(args, {"as a run": side(True), "defaults": side(False)})
    differ = sum(a != b for a, b in zip(mine["answers"], other["answers"], strict=True))
    detail = f"{mine['tokens']} tokens computed, page faults {mine['faults']} against {other['faults']}"
    measure.speedup(args, mine, other, 1, f"{differ} of {len(mine['answers'])} first tokens differ", detail)


if __name__ == "__main__":
    main()
