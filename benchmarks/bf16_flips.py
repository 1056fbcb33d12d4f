"""How many answers bfloat16 changes: the same requests through the shared engine in float32 and in bfloat16.

Two classification tests at 0 and at the least shots, first prompt format, 64 rows. In bfloat16 the model's
layers run in bfloat16 and the head in float32, as `precision: auto` does on hardware that is faster at it. A row
flips where the best label changes; beside it stands how close its two best labels were in float32, since only
near-ties may flip. Not a race: where the hardware has no bfloat16, PyTorch imitates it at a fraction of the speed.
"""

from __future__ import annotations

import argparse
from typing import Any

import common
import measure


def scores(precision: str) -> measure.Side:
    def work(args: argparse.Namespace) -> dict[str, Any]:
        args.dtype = precision
        units = common.make_units(args)
        engine = common.load_engine(args, units)
        return {"answers": common.score(engine, units), "peak_bytes": 0, "seconds": 0.0}

    return work


def main() -> None:
    args = common.parser(__doc__, tests=["sst2", "qqp"], prompts=["p1"]).parse_args()
    exact, rounded = measure.two_sides(args, {"float32": scores("float32"), "bfloat16": scores("bfloat16")})
    pairs = list(zip(exact["answers"], rounded["answers"], strict=True))
    worst, flips = measure.differences(exact["answers"], rounded["answers"])
    flipped = [one for one, other in pairs if measure.answer(one) != measure.answer(other)]
    margins = sorted(best - second for best, second, *_ in (sorted(row, reverse=True) for row in flipped))
    rate = f"{flips} of {len(pairs)} answers flip ({flips / len(pairs):.1%})"
    close = f", where the two best labels were {margins[0]:.3f} to {margins[-1]:.3f} nats apart" if margins else ""
    print(
        f"bf16_flips: {rate}{close}; a label's log-probability moves by at most {worst:.3f} nats | {exact['machine']}"
    )
    measure.write_json(args.json, {"flips": flips, "rows": len(pairs), "worst": worst, "margins": margins})


if __name__ == "__main__":
    main()
