"""Scoring labels with freed memory kept in the process, against giving it back to the system after each layer.

Both sides are the shared engine; what differs is `spillover.engine.memory.keep_freed_memory`. The page faults say where
the time goes: each is a page that the system hands out again, filled with zeros.
"""

from __future__ import annotations

import argparse
import resource
from typing import Any

import common
import measure
from meter import Meter


def side(kept: bool) -> measure.Side:
    def work(args: argparse.Namespace) -> dict[str, Any]:
        from spillover.engine import hf

        if not kept:
            hf.keep_freed_memory = lambda: False
        units = common.make_units(args)
        engine = common.load_engine(args, units)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with Meter() as meter:
            scores = common.score(engine, units)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        return {**meter.result(), "answers": scores, "faults": faults, "tokens": engine.work.tokens}

    return work


def main() -> None:
    args = common.parser(__doc__).parse_args()
    mine, other = measure.two_sides(args, {"kept": side(True), "given back": side(False)})
    detail = f"{mine['tokens']} tokens computed, page faults {mine['faults']} against {other['faults']}"
    measure.speedup(args, mine, other, 1, measure.compare_scores(mine["answers"], other["answers"]), detail)


if __name__ == "__main__":
    main()
