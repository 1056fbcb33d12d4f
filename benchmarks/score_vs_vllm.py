"""Scoring labels: spillover's shared engine against its engine on vLLM, in one precision on one device.

The study's 11 classification tests at all their shot counts. vLLM has its prefix cache; it is started and warmed up
outside the time, as our engine is. vLLM must be installed and have a device: `pip install 'spillover[vllm]'`.
"""

from __future__ import annotations

import argparse
from typing import Any

import common
import measure
from meter import Meter


def shared(args: argparse.Namespace) -> dict[str, Any]:
    units = common.make_units(args)
    return _scored(common.load_engine(args, units), units)


def vllm(args: argparse.Namespace) -> dict[str, Any]:
    from spillover.engine.vllm import serve, share_of_memory
    from spillover.models import refuse_without_vllm

    refuse_without_vllm()
    units = common.make_units(args)
    longest = max(request.reach for unit in units for request in unit.requests()) + 1
    share = share_of_memory(weights=0.0, spare=0.0)
    engine = serve(common.folder(args), frozenset(), common.precision(args), longest, share)
    list(engine.run(units[0].requests()[:2], lambda ids: True))
    return _scored(engine, units)


def _scored(engine: Any, units: list[common.Unit]) -> dict[str, Any]:
    before = dict(vars(engine.work))
    with Meter() as meter:
        scores = common.score(engine, units)
    tokens = {name: value - before[name] for name, value in vars(engine.work).items() if name != "seconds"}
    return {**meter.result(), "answers": scores, **tokens}


def main() -> None:
    args = common.parser(__doc__, prompts=("p1",)).parse_args()
    measure.need(args, "vllm")
    mine, other = measure.two_sides(args, {"shared": shared, "vllm": vllm})
    parity = measure.compare_scores(mine["answers"], other["answers"])
    detail = f"{mine['tokens']} tokens computed, vLLM {other['tokens']}"
    measure.speedup(args, mine, other, 1.0, parity, detail)


if __name__ == "__main__":
    main()
