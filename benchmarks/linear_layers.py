"""Float32 products of the model's own matrices: oneDNN's against PyTorch's choice, forward and backward.

Each of the model's linear layers is applied to `--tokens` tokens, by `spillover.engine.kernels` and by
`torch.nn.functional.linear`, in turn, in one process; the median times of layers of one shape are multiplied by their
number and added up. The ratio is that of forward and backward passes through all of them; beside it are the forward
pass alone, at that many tokens and at 16, as in decoding. Where the package leaves products to PyTorch
(`kernels.is_faster`), both sides are the same: 1x.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import common
import measure
from meter import Meter

FEW = 16  # rows of a decoding step
REPEATS = 15
Product = Callable[[Any, Any], Any]


def work(args: argparse.Namespace) -> dict[str, Any]:
    import torch

    from spillover.engine.hf import load_model
    from spillover.engine.kernels import is_faster, linear

    modules = load_model(common.folder(args), "float32").modules()
    shapes = Counter(module.weight.shape for module in modules if type(module) is torch.nn.Linear)
    cases = {"both": (args.tokens, True), "forward": (args.tokens, False), "few": (FEW, False)}
    seconds = {case: [0.0, 0.0] for case in cases}
    worst = 0.0
    with Meter() as meter:
        for shape, count in shapes.items():
            for case, (tokens, backward) in cases.items():
                x, weight = torch.randn(tokens, shape[1]), torch.randn(shape) / 50
                took, outs = _race((linear, torch.nn.functional.linear), x, weight, backward)
                seconds[case] = [total + count * one for total, one in zip(seconds[case], took, strict=True)]
                worst = max(worst, float((outs[0] - outs[1]).norm() / outs[1].norm()))
    return {**meter.result(), "by": seconds, "worst": worst, "faster": is_faster()}


def _race(sides: tuple[Product, Product], x: Any, weight: Any, backward: bool) -> tuple[list[float], list[Any]]:
    """Median seconds and output of each side."""
    taken: list[list[float]] = [[] for _ in sides]
    outs: list[Any] = [None for _ in sides]
    for _ in range(REPEATS):
        for number, product in enumerate(sides):
            leaves = [value.detach().requires_grad_(backward) for value in (x, weight)]
            began = time.perf_counter()
            out = product(*leaves)
            if backward:
                out.backward(out.detach())
            taken[number].append(time.perf_counter() - began)
            outs[number] = out.detach()
    return [statistics.median(times) for times in taken], outs


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--tokens", type=int, default=1024)
    args = options.parse_args()
    args.dtype = "float32"
    done = measure.run_here(args, work)
    ratio = {case: theirs / ours for case, (ours, theirs) in done["by"].items()}
    ours, theirs = done["by"]["both"]
    times = f"oneDNN {ours * 1e3:.4g} ms, PyTorch {theirs * 1e3:.4g} ms" if done["faster"] else "left to PyTorch here"
    parity = f"outputs within {done['worst']:.1e} relative"
    memory = f"{done['peak_bytes'] / 1e9:.2f} GB (both in one process)"
    detail = f"{args.tokens} tokens; forward alone {ratio['forward']:.3g}x, at {FEW} tokens {ratio['few']:.3g}x"
    measure.report(args, ratio["both"], "1x or more", times, parity, memory, detail, done["machine"])


if __name__ == "__main__":
    main()
