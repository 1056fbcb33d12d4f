"""Decisions that bfloat16 makes otherwise than float32, with and without answering close rows again, and the time.

The study's 11 classification tests at 0 and 2 shots in both prompt formats. Three sides answer the same rows: float32,
bfloat16 alone, and bfloat16 as `spillover run` takes it, with rows that rounding could have decided answered again in
float32. A decision is the best label by its whole score, by its first token and per token, and whether the model's own
text left the format. Seconds are wall time; those of the processor count all threads and depend less on other work.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from typing import Any

import common
import measure
from meter import Meter

SIDES = {"float32": ("float32", False), "bfloat16 alone": ("bfloat16", False), "bfloat16": ("bfloat16", True)}


def side(name: str) -> measure.Side:
    precision, again = SIDES[name]

    def work(args: argparse.Namespace) -> dict[str, Any]:
        from spillover.work.predict import predict
        from spillover.work.rounding import Rounding

        args.dtype = precision
        units = common.make_units(args)
        engine = common.load_engine(args, units)
        exact = common.load_engine(argparse.Namespace(**{**vars(args), "dtype": "float32"}), units) if again else None
        rounding = Rounding(lambda: exact) if again else None
        decided, rescored, moved = [], 0, Counter[str]()
        began = time.process_time()
        with Meter() as meter:
            for unit in units:
                rows, _ = predict(engine, unit.encoder, unit.work, rounding)
                if rounding:
                    rounding.learn(rows)
                rescored += sum("moved" in row for row in rows)
                decided += [decisions(row, sheet.task.labels) for row, (sheet, _) in zip(rows, unit.work, strict=True)]
        used = time.process_time() - began
        tokens = engine.work.tokens + (exact.work.tokens if exact else 0)
        counts = {"cpu": used, "tokens": tokens, "rescored": rescored}
        if rounding:
            for kind in {kind for row in rounding.earlier.values() for kind in row}:
                squares = [row[kind] ** 2 for row in rounding.earlier.values() if kind in row]
                moved[kind] = (sum(squares) / len(squares)) ** 0.5
        return {**meter.result(), **counts, "noise": moved, "answers": decided}

    return work


def decisions(row: dict[str, Any], labels: tuple[str, ...]) -> list[Any]:
    from spillover.analysis.metrics import METRICS

    best = [max(scores, key=scores.__getitem__) for scores in (row["logprobs"], row["logprobs_first"])]
    per_token = row["logprobs_norm"]
    return [*best, max(per_token, key=per_token.__getitem__), METRICS["off_format"]([row], labels)]


def main() -> None:
    args = common.parser(__doc__, rows=100).parse_args()
    args.shots = args.shots or [0, 2]
    exact, alone, again = measure.two_sides(args, {name: side(name) for name in SIDES})
    lines = []
    for one in (alone, again):
        pairs = list(zip(one["answers"], exact["answers"], strict=True))
        other = sum(ours != theirs for ours, theirs in pairs)
        kinds = [sum(ours[kind] != theirs[kind] for ours, theirs in pairs) for kind in range(4)]
        lines.append(
            f"{one['side']}: {other} of {len(pairs)} rows decided otherwise than in float32 (whole, "
            f"first token, per token, off format: {kinds}), {one['seconds']:.1f} s, {one['cpu']:.1f} s of the "
            f"processor, {one['tokens']} tokens"
        )
    lines.append(f"float32: {exact['seconds']:.1f} s, {exact['cpu']:.1f} s of the processor, {exact['tokens']} tokens")
    noise = ", ".join(f"{kind} {value:.3f}" for kind, value in sorted(again["noise"].items()))
    lines.append(
        f"answered again: {again['rescored']} of {len(again['answers'])} rows; noise in nats: {noise}; "
        f"{again['seconds'] / alone['seconds']:.2f}x the time of bfloat16 alone, {again['cpu'] / alone['cpu']:.2f}x of "
        f"the processor | {again['machine']}"
    )
    print("\n".join(lines))
    sides = {
        one["side"]: {k: v for k, v in one.items() if k not in ("answers", "side")} for one in (exact, alone, again)
    }
    measure.write_json(args.json, {"lines": lines, "sides": sides})


if __name__ == "__main__":
    main()
