"""Unique tokens a second in scoring, against one dense batch of 8 x 256 tokens of the same model and precision.

The dense forward has no padding, no cache and no head: the most that the model can do here. Both in one process,
alternating A B A B; scoring is the engine alone, from ids (the study's 11 classification tests, all shots, both
prompts). Beside the ratio: that the engine computed its trees' tokens and nothing else, and how many more than distinct
prefixes those are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import pairwise
from typing import Any

import common
import measure
from meter import Meter


def work(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    units = common.make_units(args)
    asked = [unit.requests() for unit in units]
    engine = common.load_engine(args, units)
    ids = torch.tensor([token for one in asked[0] for token in one.prompt])
    batch = ids.repeat(1 + 8 * 256 // len(ids))[: 8 * 256].view(8, 256).to(engine.model.device)
    scoring, dense = [], []
    _dense(engine.model, batch)
    with Meter() as meter:
        for _ in range(args.repeats):
            before, began = engine.work.tokens, _now()
            for requests in asked:
                list(engine.run(requests, lambda ids: True))
            scoring.append((engine.work.tokens - before) / (_now() - began))
            dense.append(statistics.median(_dense(engine.model, batch) for _ in range(5)))
    return {
        **meter.result(),
        "scoring": statistics.median(scoring),
        "dense": statistics.median(dense),
        "tokens": engine.work.tokens // args.repeats,
        "trees": sum(_tree_tokens(requests) for requests in asked),
        "distinct": sum(_distinct(requests) for requests in asked),
    }


def _now() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _dense(model: Any, batch: Any) -> float:
    """Tokens a second of one dense forward, with PyTorch's own attention."""
    import torch

    ours = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    with torch.inference_mode():
        began = _now()
        model.get_decoder()(input_ids=batch, use_cache=False)
        seconds = _now() - began
    model.set_attn_implementation(ours)
    return batch.numel() / seconds


def _sequences(requests: list[Any]) -> list[tuple[int, ...]]:
    return [request.prompt + option[:-1] for request in requests for option in request.options]


def _tree_tokens(requests: list[Any]) -> int:
    from spillover.engine.tree import Tree

    return len(Tree.of(_sequences(requests)))


def _distinct(requests: list[Any]) -> int:
    """Distinct prefixes: sorted neighbours share the most."""
    ordered = sorted(set(_sequences(requests)))
    shared = 0
    for one, following in pairwise(ordered):
        same = (i for i, (a, b) in enumerate(zip(one, following, strict=False)) if a != b)
        shared += next(same, min(len(one), len(following)))
    return sum(map(len, ordered)) - shared


def main() -> None:
    options = common.parser(__doc__)
    options.set_defaults(repeats=2)
    args = options.parse_args()
    done = measure.run_here(args, work)
    rates = f"scoring {done['scoring']:.0f} tokens/s, dense {done['dense']:.0f} tokens/s"
    times = f"{rates} ({'A B ' * args.repeats}in one process, medians)"
    parity = f"{done['tokens']} tokens computed, {done['trees']} in the trees"
    detail = f"{done['tokens'] / done['distinct'] - 1:.2%} more than distinct prefixes"
    memory = f"{done['peak_bytes'] / 1e9:.2f} GB (both in one process)"
    ratio = done["scoring"] / done["dense"]
    measure.report(args, ratio, "0.7x or more", times, parity, memory, detail, done["machine"])


if __name__ == "__main__":
    main()
